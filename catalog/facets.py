"""Facets: an attribute's values among the products found, how many have each, the link that chooses it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from catalog.browsing import Browsing
from catalog.filters import FACET_FIELDS
from catalog.models import Product

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


def counted_facets(found: Browsing) -> list[CountedFacet]:
    """Every facet with something to choose, counted over what the search and all other facets leave."""
    facets = [CountedFacet(name, label_of(name), _values(name, found)) for name in FACET_FIELDS]
    return [facet for facet in facets if facet.values]


def label_of(name: str) -> str:
    """What people call an attribute."""
    return str(Product._meta.get_field(name).verbose_name)  # type: ignore[union-attr]


def _values(name: str, found: Browsing) -> list[FacetValue]:
    """Commonest first. A value that was chosen stays although no product is left that has it."""
    selection = found.selection
    chosen = selection.values.get(name, ())
    counts = {**dict.fromkeys(chosen, 0), **found.counts(name)}
    return [
        FacetValue(name, value, count, value in chosen, selection.toggled(name, value).query())
        for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0].casefold()))
    ]
