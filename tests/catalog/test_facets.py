"""Facets, on products that can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.http import QueryDict

from catalog.browsing import Browsing
from catalog.facets import CountedFacet, counted_facets
from catalog.filters import ProductFilter
from catalog.models import Product

Add = Callable[..., Product]


@pytest.fixture(autouse=True)
def wardrobe(add: Add) -> None:
    add("1", colour="Red", gender="Men", product_type="Shirts")
    add("2", colour="Red", gender="Women", product_type="Shirts")
    add("3", colour="Blue", gender="Women", product_type="Heels")
    add("4", colour="", gender="Women", product_type="Heels")
    add("5", colour="Blue", gender="Women", hidden=True)


def counts(query: str = "") -> dict[str, dict[str, int]]:
    return {facet.name: {value.value: value.count for value in facet.values} for facet in facets(query)}


def facets(query: str) -> list[CountedFacet]:
    products = Product.objects.visible()
    return counted_facets(Browsing(ProductFilter(QueryDict(query), products).selection, products))


def test_values_are_counted_over_visible_products_commonest_first() -> None:
    assert counts()["colour"] == {"Red": 2, "Blue": 1}
    assert list(counts()["gender"]) == ["Women", "Men"]


def test_a_facet_is_counted_over_what_the_others_leave() -> None:
    narrowed = counts("gender=Women")
    assert narrowed["colour"] == {"Red": 1, "Blue": 1}
    assert narrowed["gender"] == {"Women": 3, "Men": 1}


def test_values_without_products_go_except_those_chosen() -> None:
    narrowed = counts("gender=Men&product_type=Heels")
    assert narrowed["gender"] == {"Women": 2, "Men": 0}
    assert narrowed["product_type"] == {"Shirts": 1, "Heels": 0}
    assert "colour" not in narrowed


def test_each_value_carries_the_address_that_toggles_it() -> None:
    values = {value.value: value for facet in facets("gender=Women&q=product") for value in facet.values}
    assert values["Red"].query == "?q=product&gender=Women&colour=Red"
    assert values["Women"].query == "?q=product"
    assert values["Women"].chosen


def test_long_facets_fold_the_rest_away_but_never_what_was_chosen(add: Add) -> None:
    for number in range(20):
        add(f"u{number}", usage=f"Usage {number:02}")
    facet = next(facet for facet in facets("usage=Usage+19") if facet.name == "usage")
    assert len(facet.shown) == 13
    assert "Usage 19" in [value.value for value in facet.shown]
    assert len(facet.shown) + len(facet.folded) == 20
