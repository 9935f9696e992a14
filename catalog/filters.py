"""The questions that may be asked of the catalogue: one filter set for the site and for the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import django_filters
from django import forms
from django.core.validators import ProhibitNullCharactersValidator
from django.db.models import Expression, QuerySet
from django.db.models.functions import Lower
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from catalog.areas import AREA_MAX_LENGTH, Area, UnknownArea, find_area
from catalog.columns import ATTRIBUTES
from catalog.models import Product, ProductQuerySet

FACET_FIELDS = ATTRIBUTES
"""The attributes that the catalogue can be narrowed by, in the order of the page."""

SEARCH_MAX_LENGTH = 200
VALUE_MAX_LENGTH = 100
SORTS = (("title", _("Title A–Z")), ("newest", _("Newest")))


@dataclass(frozen=True)
class Order:
    """An order that products come in: `by` (what, whether descending), the last of it unique; `types` of its values."""

    by: tuple[tuple[str, bool], ...]
    types: tuple[type, ...]
    made: Mapping[str, Expression] = field(default_factory=dict)
    """What the order goes by that is no field, and how the database makes it: Python may fold letters otherwise."""

    def sorted(self, products: QuerySet[Product], *, backwards: bool = False) -> QuerySet[Product]:
        names = [f"-{name}" if descending != backwards else name for name, descending in self.by]
        return products.annotate(**self.made).order_by(*names)

    def place(self, product: Product) -> tuple[Any, ...]:
        """The values that a product of `sorted` stands by."""
        return tuple(getattr(product, name) for name, _descending in self.by)


# Ids are given in order of arrival, and unlike the date they are unique and indexed.
_ORDERS = {
    "": Order((("id", False),), (int,)),
    "newest": Order((("id", True),), (int,)),
    "title": Order((("sorted_title", False), ("id", False)), (str, int), {"sorted_title": Lower("title")}),
}


def order_of(sort: str) -> Order | None:
    """The order of a value of `sort`; "" is the catalogue's own. None for what is no such value."""
    return _ORDERS.get(sort) if isinstance(sort, str) else None


class ValuesField(forms.MultipleChoiceField):
    """Any number of values; one that no product has is no error, it just finds nothing."""

    def to_python(self, value: Any) -> list[str]:
        return [one for one in dict.fromkeys(super().to_python(value)) if one]

    def validate(self, value: Any) -> None:
        for one in value:
            ProhibitNullCharactersValidator()(one)
            if len(one) > VALUE_MAX_LENGTH:
                raise forms.ValidationError(
                    _("A value has at most %(limit)s characters."), params={"limit": VALUE_MAX_LENGTH}
                )


class ValuesFilter(django_filters.MultipleChoiceFilter):
    """Products whose attribute is one of the values given."""

    field_class = ValuesField

    def filter(self, qs: ProductQuerySet, value: list[str]) -> ProductQuerySet:
        return qs.filter(**{f"{self.field_name}__in": value}) if value else qs


class AreaField(forms.CharField):
    """An area that some app knows; None where none is asked for."""

    def clean(self, value: Any) -> Area | None:
        text = super().clean(value)
        try:
            return find_area(text) if text else None
        except UnknownArea as error:
            raise forms.ValidationError(str(error)) from error


class AreaFilter(django_filters.CharFilter):
    """Products within an area."""

    field_class = AreaField

    def filter(self, qs: ProductQuerySet, value: Area | None) -> ProductQuerySet:
        return qs.with_rows(value.rows) if value else qs


class ProductFilter(django_filters.FilterSet):
    """Search, attributes and order. A value that makes no sense is left out; the API says so instead."""

    q = django_filters.CharFilter(
        method="search",
        label=_("Search"),
        max_length=SEARCH_MAX_LENGTH,
        help_text=_("Beginnings of words in the title or the attributes, in any order."),
    )
    gender = ValuesFilter(help_text=_("May be given several times: any of the values."))
    category = ValuesFilter(help_text=_("May be given several times: any of the values."))
    sub_category = ValuesFilter(help_text=_("May be given several times: any of the values."))
    product_type = ValuesFilter(help_text=_("May be given several times: any of the values."))
    colour = ValuesFilter(help_text=_("May be given several times: any of the values."))
    usage = ValuesFilter(help_text=_("May be given several times: any of the values."))
    area = AreaFilter(
        max_length=AREA_MAX_LENGTH,
        label=_("Area"),
        help_text=_("A region of the map of the catalogue, as the map's page draws it."),
    )
    sort = django_filters.ChoiceFilter(
        method="order",
        label=_("Sort"),
        choices=SORTS,
        help_text=_("The catalogue's own order where it is not given."),
    )

    class Meta:
        model = Product
        fields: list[str] = []

    def search(self, queryset: ProductQuerySet, name: str, value: str) -> ProductQuerySet:
        return queryset.search(value)

    def order(self, queryset: ProductQuerySet, name: str, value: str) -> ProductQuerySet:
        order = order_of(value)
        assert order is not None, "the field knows its choices"
        return cast(ProductQuerySet, order.sorted(queryset))

    @property
    def selection(self) -> Selection:
        """What was asked for, as far as it makes sense."""
        self.form.is_valid()
        asked = self.form.cleaned_data
        return Selection(
            q=asked.get("q") or "",
            sort=asked.get("sort") or "",
            values={name: tuple(asked.get(name) or ()) for name in FACET_FIELDS},
            area=asked.get("area"),
        )


@dataclass(frozen=True)
class Selection:
    """What a visitor has asked for: a value that makes the addresses of the pages around it."""

    values: Mapping[str, tuple[str, ...]]
    q: str = ""
    sort: str = ""
    area: Area | None = None

    def chosen(self) -> list[tuple[str, str]]:
        """(attribute, value) of everything chosen."""
        return [(name, value) for name in FACET_FIELDS for value in self.values.get(name, ())]

    def __str__(self) -> str:
        """In a few words, as a heading: “navy” · Women · Heels."""
        words = [f"“{self.q}”"] if self.q else []
        words += [self.area.label] if self.area else []
        return " · ".join([*words, *(value for _name, value in self.chosen())])

    @property
    def narrows(self) -> bool:
        return bool(self.q or self.area or self.chosen())

    def toggled(self, name: str, value: str) -> Selection:
        """The same with this value chosen, or no longer."""
        before = self.values.get(name, ())
        after = tuple(v for v in before if v != value) if value in before else (*before, value)
        return replace(self, values={**self.values, name: after})

    def searching(self, words: str) -> Selection:
        return replace(self, q=words)

    def without_search(self) -> Selection:
        return self.searching("")

    def without_area(self) -> Selection:
        return replace(self, area=None)

    def sorted_by(self, sort: str) -> Selection:
        return replace(self, sort=sort)

    def query(self, page: int = 1) -> str:
        """The part of the address from the question mark on; "?" alone where nothing is chosen."""
        query = QueryDict(mutable=True)
        if self.q:
            query["q"] = self.q
        for name in FACET_FIELDS:
            query.setlist(name, list(self.values.get(name, ())))
        if self.area:
            query["area"] = self.area.text
        if self.sort:
            query["sort"] = self.sort
        if page > 1:
            query["page"] = str(page)
        return f"?{query.urlencode()}"
