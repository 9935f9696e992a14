"""Facets: an attribute's values among the products found, how many have each, the link that chooses it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import CharField, Count, F, QuerySet, Value

from catalog.filters import FACET_FIELDS, ProductFilter, Selection
from catalog.models import Product, ProductQuerySet

SHOWN_VALUES = 12
"""How many values a facet shows before the rest is folded away."""


@dataclass(frozen=True)
class FacetValue:
    name: str
    value: str
    count: int
    chosen: bool
    query: str
    """The address that chooses the value, or no longer does."""


class Facet:
    """One attribute that the catalogue can be narrowed by."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def label(self) -> str:
        return str(Product._meta.get_field(self.name).verbose_name)  # type: ignore[union-attr]

    def counts(self, products: ProductQuerySet) -> QuerySet[Product, Any]:
        """Rows of `facet`, `value` and `count`; facets of one page are joined into one query."""
        return (
            products.exclude(**{self.name: ""})
            .order_by()
            .values(facet=Value(self.name, output_field=CharField()), value=F(self.name))
            .annotate(count=Count("pk"))
        )

    def values(self, counts: Mapping[str, int], selection: Selection) -> list[FacetValue]:
        """Commonest first. A value that was chosen stays although no product is left that has it."""
        chosen = selection.values.get(self.name, ())
        counts = {**dict.fromkeys(chosen, 0), **counts}
        return [
            FacetValue(self.name, value, count, value in chosen, selection.toggled(self.name, value).query())
            for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0].casefold()))
        ]


@dataclass(frozen=True)
class CountedFacet:
    """A facet of one page."""

    name: str
    label: str
    values: list[FacetValue]

    @cached_property
    def shown(self) -> list[FacetValue]:
        """The commonest and whatever was chosen; a single value left over is not worth folding away."""
        limit = SHOWN_VALUES if len(self.values) > SHOWN_VALUES + 1 else len(self.values)
        return [value for place, value in enumerate(self.values) if place < limit or value.chosen]

    @cached_property
    def folded(self) -> list[FacetValue]:
        return [value for value in self.values if value not in self.shown]

    @property
    def chosen(self) -> list[FacetValue]:
        return [value for value in self.values if value.chosen]


def value_counts(found: Mapping[str, ProductQuerySet]) -> dict[str, dict[str, int]]:
    """Attribute → value → how many of the products given for that attribute have it. One query."""
    first, *others = [Facet(name).counts(products) for name, products in found.items()]
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in first.union(*others, all=True):
        counts[row["facet"]][row["value"]] = row["count"]
    return counts


def counted_facets(asked: ProductFilter) -> list[CountedFacet]:
    """Every facet with something to choose, counted over what the search and all other facets leave."""
    counts = value_counts({name: asked.narrowed_without(name) for name in FACET_FIELDS})
    selection = asked.selection
    facets = [
        CountedFacet(name, facet.label, facet.values(counts.get(name, {}), selection))
        for name, facet in ((name, Facet(name)) for name in FACET_FIELDS)
    ]
    return [facet for facet in facets if facet.values]
