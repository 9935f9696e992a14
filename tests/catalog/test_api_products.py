"""`/api/v1/products/`: the catalogue for other people's front ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from catalog.models import Product
from tests.catalog.test_grid import shown
from tests.problems import errors_of, problem_of

Add = Callable[..., Product]


@pytest.fixture
def wardrobe(add: Add) -> None:
    add("1", shown=True, title="Navy shirt", colour="Navy Blue", gender="Men", extra={"Price": "5"})
    add("2", title="White shirt", colour="White", gender="Women")
    add("3", title="Navy heels", colour="Navy Blue", gender="Women")
    add("4", title="Hidden", hidden=True)


def ids(client: Client, query: str = "") -> list[str]:
    return [product["product_id"] for product in client.get(f"/api/v1/products/?{query}").json()["results"]]


def test_a_product_has_what_a_front_end_needs(client: Client, wardrobe: None) -> None:
    product = client.get("/api/v1/products/1/").json()
    assert product["product_id"] == "1"
    assert product["extra"] == {"Price": "5"}
    assert product["url"] == "http://testserver/products/1/"
    assert product["image"].startswith("http://testserver/media/images/")
    assert product["thumbnail"].endswith(".webp")
    assert (product["image_width"], product["image_height"]) == (60, 80)
    assert client.get("/api/v1/products/2/").json()["image"] is None


@pytest.mark.parametrize("query", ["", "gender=Women", "colour=White&colour=Navy+Blue", "q=navy&sort=title", "q=x"])
def test_it_answers_as_the_site_does(client: Client, wardrobe: None, query: str) -> None:
    assert ids(client, query) == shown(client, f"/?{query}")


def test_unknown_and_hidden_products_are_404(client: Client, wardrobe: None) -> None:
    for path in ("nobody/", "4/"):
        problem_of(client.get(f"/api/v1/products/{path}"), 404)


@pytest.mark.parametrize(
    "query",
    ["sort=nonsense", "q=" + "x" * 500, "colour=%00", "page_size=0", "page_size=101", "page_size=x", "page=2"],
)
def test_nonsense_is_400_with_the_parameters_name(client: Client, wardrobe: None, query: str) -> None:
    answer = client.get(f"/api/v1/products/?{query}")
    assert list(errors_of(answer)) == [query.split("=")[0]]


def test_the_document_of_the_api_is_whole_and_its_page_needs_no_other_site(client: Client, db: None) -> None:
    document = client.get("/api/schema/?format=json").json()
    assert set(document["paths"]) >= {
        "/api/v1/products/",
        "/api/v1/products/{product_id}/",
        "/api/v1/products/{product_id}/explain/{other_id}/",
        "/api/v1/products/{product_id}/similar/",
        "/api/v1/search/image/",
        "/api/v1/index/",
        "/get_similar",
    }
    page = client.get("/api/docs/").content.decode()
    assert "//" not in page.replace("http://testserver", "").replace("<!DOCTYPE", "")
