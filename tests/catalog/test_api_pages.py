"""Walking the products by cursor, and facets over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from catalog.models import Product
from tests.catalog.test_grid import shown
from tests.problems import errors_of

Add = Callable[..., Product]
LIST = "/api/v1/products/"


@pytest.fixture
def ten(add: Add) -> None:
    """Titles come in threes that are the same, some in other letters, so that ties have to be broken."""
    for number in range(10):
        add(str(number), title=["blue shirt", "Shirt", "écharpe", "Blue Shirt"][number // 3])


def page(client: Client, address: str) -> dict[str, Any]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = answer.json()
    return body


def ids(body: dict[str, Any]) -> list[str]:
    return [product["product_id"] for product in body["results"]]


@pytest.mark.parametrize("size", [1, 3, 4, 10, 11])
@pytest.mark.parametrize("query", ["", "sort=title", "sort=newest", "q=shirt&sort=title"])
def test_walking_on_and_back_meets_every_product_once_in_the_sites_order(
    client: Client, ten: None, query: str, size: int
) -> None:
    wanted = shown(client, f"/?{query}")
    body = page(client, f"{LIST}?{query}&page_size={size}")
    assert (body["count"], body["previous"]) == (len(wanted), None)
    pages = [ids(body)]
    while body["next"]:
        body = page(client, body["next"])
        assert body["count"] is None  # counted once, on the first page
        pages.append(ids(body))
    assert [each for some in pages for each in some] == wanted
    back = [ids(body)]
    while body["previous"]:
        body = page(client, body["previous"])
        back.append(ids(body))
    assert back[::-1] == pages


@pytest.mark.parametrize("query", ["", "sort=title", "sort=newest"])
def test_what_comes_and_goes_meanwhile_shifts_nothing(client: Client, ten: None, add: Add, query: str) -> None:
    wanted = shown(client, f"/?{query}")
    first = page(client, f"{LIST}?{query}&page_size=4")
    add("before", title="aa")
    Product.objects.filter(product_id=wanted[3]).delete()  # the very product beside which the next page begins
    Product.objects.filter(product_id=wanted[0]).delete()
    second = page(client, first["next"])
    assert ids(second) == wanted[4:8]


def test_the_way_back_from_an_emptied_end_is_kept(client: Client, ten: None) -> None:
    first = page(client, f"{LIST}?page_size=9")
    Product.objects.filter(product_id="9").delete()
    end = page(client, first["next"])
    assert (ids(end), end["next"]) == ([], None)
    last = page(client, end["previous"])
    assert (ids(last), last["next"]) == ([str(number) for number in range(9)], None)


def test_the_way_on_from_an_emptied_beginning_is_kept(client: Client, ten: None) -> None:
    second = page(client, page(client, f"{LIST}?page_size=2")["next"])
    Product.objects.filter(product_id__in=["0", "1"]).delete()
    beginning = page(client, second["previous"])
    assert (ids(beginning), beginning["previous"]) == ([], None)
    assert ids(page(client, beginning["next"])) == ["2", "3"]


@pytest.mark.parametrize("sort", ["", "newest", "title"])
def test_a_page_costs_two_queries(
    client: Client, ten: None, django_assert_num_queries: DjangoAssertNumQueries, sort: str
) -> None:
    page(client, LIST)  # a process reads the catalogue's columns once
    with django_assert_num_queries(2):  # what is new, and the page's products
        body = page(client, f"{LIST}?page_size=2&sort={sort}")
    with django_assert_num_queries(2):
        page(client, body["next"])


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "a" * 3000,
        encoded([]),
        encoded([""]),
        encoded({}),
        encoded("text"),
        encoded(["", 1, "1"]),
        encoded(["", 1, 1.5]),
        encoded(["", 1, True]),
        encoded(["", 1, 10**30]),
        encoded([[], 1, 1]),
        encoded(["nonsense", 1, 1]),
        encoded(["", 7, 1]),
        encoded(["title", 1, "\0", 1]),
        encoded(["title", 1, "\ud800", 1]),
        "W" * 1999,
    ],
)
def test_a_cursor_that_is_none_of_ours_is_refused(client: Client, ten: None, cursor: str) -> None:
    assert list(errors_of(client.get(LIST, {"cursor": cursor}))) == ["cursor"]


def test_a_cursor_goes_with_its_order(client: Client, ten: None) -> None:
    cursor = encoded(["", 1, 1])
    assert client.get(LIST, {"cursor": cursor}).status_code == 200
    assert list(errors_of(client.get(LIST, {"cursor": cursor, "sort": "title"}))) == ["cursor"]


# --- facets ------------------------------------------------------------------------------------


@pytest.fixture
def wardrobe(add: Add) -> None:
    add("1", title="Navy shirt", colour="Navy Blue", gender="Men")
    add("2", title="White shirt", colour="White", gender="Women")
    add("3", title="Navy heels", colour="Navy Blue", gender="Women")
    add("4", title="Hidden", colour="White", hidden=True)


def facets(client: Client, query: str) -> dict[str, dict[str, int]]:
    body = page(client, f"/api/v1/facets/?{query}")
    return {facet["name"]: {each["value"]: each["count"] for each in facet["values"]} for facet in body["facets"]}


def test_facets_count_what_every_other_wish_leaves(client: Client, wardrobe: None) -> None:
    assert facets(client, "") == {"gender": {"Women": 2, "Men": 1}, "colour": {"Navy Blue": 2, "White": 1}}
    assert facets(client, "gender=Women") == {
        "gender": {"Women": 2, "Men": 1},
        "colour": {"Navy Blue": 1, "White": 1},
    }
    assert facets(client, "q=navy")["gender"] == {"Men": 1, "Women": 1}


def test_facets_tell_how_many_are_found_and_what_was_chosen(client: Client, wardrobe: None) -> None:
    body = page(client, "/api/v1/facets/?colour=White&colour=Green")
    assert body["count"] == 1
    colours = next(facet for facet in body["facets"] if facet["name"] == "colour")
    assert {each["value"]: each["chosen"] for each in colours["values"]} == {
        "Navy Blue": False,
        "White": True,
        "Green": True,
    }


def test_facets_are_named_in_the_language_asked_for(client: Client, wardrobe: None) -> None:
    answer = client.get("/api/v1/facets/", headers={"accept-language": "pt-BR"})
    assert [facet["label"] for facet in answer.json()["facets"]] == ["gênero", "cor"]
    assert {"Accept-Language", "Cookie"} <= {each.strip() for each in answer.headers["Vary"].split(",")}


def test_facets_refuse_what_the_list_refuses(client: Client, wardrobe: None) -> None:
    assert list(errors_of(client.get("/api/v1/facets/", {"colour": "x" * 101}))) == ["colour"]
