"""`/api/v1/suggest/`: completion of what is being typed, and "did you mean"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from catalog.models import Product
from tests.problems import errors_of

Add = Callable[..., Product]


@pytest.fixture(autouse=True)
def wardrobe(add: Add) -> None:
    add("1", title="Fabindia navy shirt", product_type="Shirts", colour="Navy Blue", gender="Men")
    add("2", title="Crème tee", product_type="Tshirts", colour="Off White", gender="Women")
    add("3", title="Navy heels", product_type="Heels", colour="Navy Blue", gender="Women")
    add("4", title="Nautilus ring", colour="Nacre", hidden=True)


def suggested(client: Client, text: str) -> list[tuple[str, str]]:
    answer = client.get("/api/v1/suggest/", {"q": text}).json()
    return [(each["kind"], each["text"]) for each in answer["suggestions"]]


def test_values_searches_and_products_complete_the_beginning(client: Client) -> None:
    assert suggested(client, "nav") == [
        ("value", "Navy Blue"),
        ("words", "navy"),
        ("product", "Navy heels"),
        ("product", "Fabindia navy shirt"),
    ]


def test_a_value_says_of_which_attribute_and_leads_to_its_products(client: Client) -> None:
    value = client.get("/api/v1/suggest/?q=nav").json()["suggestions"][0]
    assert (value["attribute"], value["note"]) == ("colour", "colour")
    assert value["url"] == "http://testserver/?colour=Navy+Blue"
    assert client.get(value["url"]).status_code == 200


@pytest.mark.parametrize(
    ("text", "kind", "completed"),
    [
        ("navy sh", "words", "navy shirt"),
        ("t-sh", "value", "Tshirts"),
        ("CREME", "product", "Crème tee"),
        ("whi off", "value", "Off White"),
    ],
)
def test_each_word_is_a_beginning_in_any_order_and_case(client: Client, text: str, kind: str, completed: str) -> None:
    assert (kind, completed) in suggested(client, text)


@pytest.mark.parametrize("text", ["naut", "nacre", "nautils"])
def test_hidden_products_are_not_given_away(client: Client, text: str) -> None:
    answer = client.get("/api/v1/suggest/", {"q": text}).json()
    assert answer == {"suggestions": [], "did_you_mean": None}


@pytest.mark.parametrize("text", ["", " ", "!", '"', "👗", "a" * 200, "NOT (", "*"])
def test_hostile_beginnings_are_data(client: Client, text: str) -> None:
    assert client.get("/api/v1/suggest/", {"q": text}).status_code == 200


@pytest.mark.parametrize("text", ["a" * 201, "\0"])
def test_nonsense_is_400_with_the_parameters_name(client: Client, text: str) -> None:
    answer = client.get("/api/v1/suggest/", {"q": text})
    assert list(errors_of(answer)) == ["q"]


def test_it_asks_the_database_once(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        client.get("/api/v1/suggest/?q=nav")


def test_a_misspelt_search_is_answered_with_the_nearest_words(client: Client) -> None:
    assert client.get("/api/v1/suggest/?q=nvay+hels").json()["did_you_mean"] == "navy heels"
    page = client.get("/?q=nvay&gender=Women").content.decode()
    assert '<a href="?q=navy&amp;gender=Women">navy</a>' in page


def test_only_what_finds_something_is_offered(client: Client) -> None:
    assert "Did you mean" not in client.get("/?q=nvay&gender=Boys").content.decode()
    assert "Did you mean" not in client.get("/?q=nvay&product_type=Tshirts").content.decode()
    assert "Did you mean" not in client.get("/?q=xyzzy").content.decode()
