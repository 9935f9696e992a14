"""What a visitor's selection finds: how many products, which of them a page shows, and how many have each value.

Counted and paged by the catalogue's columns, so that the last page costs what the first does and the database is asked
for the products of one page only. Orders that the columns do not know (by title) are the database's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from django.db.models import F, QuerySet
from numpy.typing import NDArray

from catalog import reading
from catalog.columnar import Columns, Found, Places, get_columns
from catalog.filters import FACET_FIELDS, Selection, order_of
from catalog.models import Product, ProductQuerySet

SORTED_ALONE, WALKED = 5_000, 1_000
"""So many products found are sorted by the database, which also goes to so many in the order of an index; for more, or
further on, the order of all is had in memory."""


BY_KEY = ("", "newest")
"""The values of `sort` whose order is that of the primary keys, up or down."""


class Browsing:
    """The products that a selection finds, as a sequence that can be paged (`django.core.paginator`).

    `products` say what is fetched of each, and that visitors may see it.
    """

    def __init__(self, selection: Selection, products: QuerySet[Product], columns: Columns | None = None) -> None:
        self.selection = selection
        self.columns = columns or get_columns()
        self.found = self._found(selection.values)
        self._products = products

    def __len__(self) -> int:
        return self.found.count

    def __getitem__(self, asked: slice) -> list[Product]:
        start, stop, _step = asked.indices(len(self))
        if self.selection.sort not in BY_KEY:
            return self._in_another_order(start, stop)
        places = self.found.places
        if self.selection.sort == "newest":
            some = places[len(places) - stop : len(places) - start][::-1]
        else:
            some = places[start:stop]
        return self.fetched(some)

    def fetched(self, places: NDArray[np.integer[Any]]) -> list[Product]:
        """The products at these places of the columns, in this order; one that has gone meanwhile is left out."""
        keys = self.columns.ids[places].tolist()
        found = cast(ProductQuerySet, self._products).with_keys(keys) if keys else ()
        known = {product.pk: product for product in found}
        return [known[key] for key in keys if key in known]

    def _in_another_order(self, start: int, stop: int) -> list[Product]:
        order = order_of(self.selection.sort)
        assert order is not None, "a selection has no other"
        if stop <= start:
            return []
        early = stop <= WALKED and not self.selection.narrows
        if len(self) <= SORTED_ALONE or early or not can_sort():
            return list(order.sorted(self.sortable())[start:stop])
        return self.fetched(self.found.in_order(self.selection.sort, self._order)[start:stop])

    def _order(self) -> Places:
        """All places in the selection's order: some tenths of a second for a million, once after each change."""
        sort = self.selection.sort
        return cast(Places, self.columns.kept(("order", sort), lambda: sorted_places(self.columns, sort)))

    def beside(self, key: int | None, most: int, *, after: bool) -> list[Product]:
        """The first so many products after the one with that primary key in an order of BY_KEY, or, backwards, before
        it; None: from the beginning, or from the end."""
        upwards = after != (self.selection.sort == "newest")
        places = self.found.places
        if key is None:
            at = 0 if upwards else len(places)
        else:
            line = np.searchsorted(self.columns.ids, key, side="right" if upwards else "left")
            at = int(np.searchsorted(places, line))
        return self.fetched(places[at : at + most] if upwards else places[max(0, at - most) : at][::-1])

    def sortable(self) -> QuerySet[Product]:
        """The products found, for an order of the database's."""
        if len(self) <= SORTED_ALONE:
            return cast(ProductQuerySet, self._products).with_keys(self.columns.ids[self.found.places].tolist())
        found = self._products
        for name, values in self.selection.values.items():
            found = found.filter(**{f"{name}__in": values}) if values else found
        if self.selection.q:
            found = cast(ProductQuerySet, found).search(self.selection.q)
        if self.selection.area:
            found = cast(ProductQuerySet, found).with_rows(self.selection.area.rows)
        return found

    def counts(self, name: str) -> dict[str, int]:
        """Value of a facet → how many products have it, among those that the search and all other facets leave."""
        if not self.selection.values.get(name):
            return self.columns.counts(name, self.found)
        others = {other: values for other, values in self.selection.values.items() if other != name}
        return self.columns.counts(name, self._found(others))

    def _found(self, values: Mapping[str, Sequence[str]]) -> Found:
        area = self.selection.area
        return self.columns.found(values, self.selection.q, area.rows if area else None)


def can_sort() -> bool:
    return reading.connection().vendor in _LISTED


_LISTED = {"sqlite": "group_concat(key)", "postgresql": "string_agg(key::text, ',')"}


def sorted_places(columns: Columns, sort: str) -> Places:
    """All places of the columns in an order of the database's. One query, of one string, as words are found."""
    order = order_of(sort)
    assert order is not None, "a selection has no other"
    keys = order.sorted(Product.objects.annotate(key=F("pk"))).values_list("key")  # type: ignore[misc]
    inner, parameters = keys.query.sql_with_params()
    with reading.connection().cursor() as cursor:
        cursor.execute(f"SELECT {_LISTED[reading.connection().vendor]} FROM ({inner}) AS ordered", parameters)  # noqa: S608
        listed: str | None = cursor.fetchone()[0]
    places = columns.places(np.fromstring(listed, dtype=np.int64, sep=",") if listed else np.empty(0, np.int64))
    return places[places >= 0].astype(np.int32)


def all_counts(names: Sequence[str] = FACET_FIELDS) -> dict[str, dict[str, int]]:
    """Attribute → value → how many visible products have it."""
    columns = get_columns()
    found = columns.found({})
    return {name: columns.counts(name, found) for name in names}
