"""Pages of the API, walked by cursor.

In a file of its own: Django REST framework reads it while its views are still being imported.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Self

from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from catalog.browsing import BY_KEY, Browsing
from catalog.filters import Order, ProductFilter, order_of

PAGE_SIZE = 24
MAX_PAGE_SIZE = 100


@dataclass(frozen=True)
class Cursor:
    """The place beside a product, in an order of the catalogue: `after` it, or before it.

    `place` has the values that the order goes by, and is empty for the catalogue's beginning, or its end. So products
    that come and go elsewhere shift no page, and the last page costs what the first does.
    """

    sort: str
    after: bool
    place: tuple[str | int, ...]

    def __str__(self) -> str:
        text = json.dumps([self.sort, int(self.after), *self.place], ensure_ascii=False, separators=(",", ":"))
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError for whatever we have not written."""
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        sort, after, *place = json.loads(urlsafe_b64decode(padded).decode())
        cursor = cls(sort, bool(after), tuple(place))
        order = order_of(sort)
        if order is None or [type(value) for value in place] not in ([], [*order.types]) or str(cursor) != text:
            raise ValueError("no cursor of ours")
        if any(abs(value) >= 2**63 if isinstance(value, int) else "\0" in value for value in place):
            raise ValueError("no value of a database")
        return cursor


class CursorPages(BasePagination):
    """`next` and `previous` are the addresses of the pages around one; `count` comes with the first."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        if "page" in request.query_params:
            # Whoever counts pages would get the first one for ever.
            raise ValidationError({"page": [_("There are no numbered pages: follow `next`.")]})
        self.request = request
        self.sort = request.query_params.get("sort", "")
        cursor, size = self._cursor(request.query_params.get("cursor")), _size(request.query_params.get("page_size"))
        order = order_of(self.sort)
        assert order is not None, "the filter lets no other through"
        self.order = order
        # The view has held the parameters against the filter; what they find is told by the columns.
        products = view.get_queryset()
        found = Browsing(ProductFilter(request.query_params, products).selection, products)
        self.count = None if cursor else len(found)
        self._take(found, cursor, size)
        return self.page

    def _cursor(self, text: str | None) -> Cursor | None:
        if not text:
            return None
        try:
            cursor = Cursor.read(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValidationError({"cursor": [_("This is no cursor of `next` or `previous`.")]}) from error
        if cursor.sort != self.sort:
            raise ValidationError({"cursor": [_("The cursor is of another order than `sort`.")]})
        return cursor

    def _take(self, found: Browsing, cursor: Cursor | None, size: int) -> None:
        place, forwards = (cursor.place, cursor.after) if cursor else ((), True)
        if self.sort in BY_KEY:
            page = found.beside(int(place[0]) if place else None, size + 1, after=forwards)
        else:
            products = self.order.sorted(found.sortable(), backwards=not forwards)
            page = list((products.filter(_beyond(self.order, cursor)) if cursor and place else products)[: size + 1])
        more = len(page) > size
        self.page = page[:size]
        if not forwards:
            self.page.reverse()
        came_from = bool(place)
        self.has_next, self.has_previous = (more, came_from) if forwards else (came_from, more)

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "count": self.count,
                "next": self._link(after=True) if self.has_next else None,
                "previous": self._link(after=False) if self.has_previous else None,
                "results": data,
            }
        )

    def _link(self, *, after: bool) -> str:
        # A page whose products have all gone has none to stand beside: from it one goes on from the other end.
        place = self.order.place(self.page[-1 if after else 0]) if self.page else ()
        address = remove_query_param(self.request.build_absolute_uri(), "cursor")
        return str(replace_query_param(address, "cursor", str(Cursor(self.sort, after, place))))

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "Where the page begins: as `next` and `previous` have it.",
                "schema": {"type": "string"},
            },
            {
                "name": "page_size",
                "in": "query",
                "required": False,
                "description": "How many products a page has.",
                "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE},
            },
        ]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {
                "count": {
                    "type": "integer",
                    "nullable": True,
                    "description": "How many products there are on all pages; null on those after the first.",
                    "example": 1906,
                },
                "next": {
                    **link,
                    "description": "Address of the page after this one; null on the last.",
                    "example": "https://shop.example/api/v1/products/?cursor=WyIiLDEsMjRd",
                },
                "previous": {
                    **link,
                    "description": "Address of the page before this one; null on the first.",
                    "example": None,
                },
                "results": schema,
            },
        }


def _size(text: str | None) -> int:
    if not text:
        return PAGE_SIZE
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_PAGE_SIZE:
        return int(text)
    said = gettext("A page has 1 to %(most)d products.") % {"most": MAX_PAGE_SIZE}
    raise ValidationError({"page_size": [said]})


def _beyond(order: Order, cursor: Cursor) -> Q:
    """What lies on the cursor's side of its place: a later first value, or the same and a later second one …"""
    beyond, same = Q(), Q()
    for (name, descending), value in zip(order.by, cursor.place, strict=True):
        side = "lt" if descending == cursor.after else "gt"
        beyond |= same & Q(**{f"{name}__{side}": value})
        same &= Q(**{name: value})
    return beyond
