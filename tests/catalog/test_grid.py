"""`/`: the catalogue as visitors leaf through it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog import browsing
from catalog.models import Product

Add = Callable[..., Product]


def shown(client: Client, address: str = "/") -> list[str]:
    """Ids of the cards, in order."""
    return re.findall(r'class="card" href="/products/([^"]+)/"', client.get(address).content.decode())


@pytest.fixture
def wardrobe(add: Add) -> None:
    add("1", title="Navy linen shirt", product_type="Shirts", colour="Navy Blue", gender="Men")
    add("2", title="White linen shirt", product_type="Shirts", colour="White", gender="Women")
    add("3", title="Navy heels", product_type="Heels", colour="Navy Blue", gender="Women")
    add("4", title="A hidden thing", product_type="Shirts", hidden=True)
    add("5", title="Gone from the file", product_type="Shirts", missing_since=timezone.now())


def test_it_shows_visible_products_in_the_catalogues_order(client: Client, wardrobe: None) -> None:
    assert shown(client) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("gender=Women", ["2", "3"]),
        ("gender=Women&product_type=Shirts", ["2"]),
        ("colour=White&colour=Navy+Blue", ["1", "2", "3"]),
        ("q=linen+NAVY", ["1"]),
        ("q=navy&gender=Women", ["3"]),
        ("q=nothing", []),
        ("colour=Mauve", []),
        ("sort=title", ["3", "1", "2"]),
        ("sort=newest", ["3", "2", "1"]),
    ],
)
def test_search_facets_and_order_narrow_and_sort_together(
    client: Client, wardrobe: None, query: str, ids: list[str]
) -> None:
    assert shown(client, f"/?{query}") == ids


def test_pages_of_24_keep_the_filters(client: Client, add: Add) -> None:
    for number in range(30):
        add(f"{number:02}", colour="Red")
    assert len(shown(client, "/?colour=Red")) == 24
    assert 'href="?colour=Red&amp;page=2"' in client.get("/?colour=Red").content.decode()
    assert shown(client, "/?colour=Red&page=2") == ["24", "25", "26", "27", "28", "29"]


@pytest.mark.parametrize(
    "query",
    ["page=9999", "page=-1", "page=x", "page=", "sort=nonsense", "colour=", "q=" + "x" * 5000, "q=%00", "colour=%00"],
)
def test_nonsense_is_no_error(client: Client, wardrobe: None, query: str) -> None:
    assert client.get(f"/?{query}").status_code == 200


def test_an_empty_catalogue_says_how_to_fill_it(client: Client, db: None) -> None:
    assert "manage.py import_fashion" in client.get("/").content.decode()


def test_no_result_offers_to_start_again(client: Client, wardrobe: None) -> None:
    page = client.get("/?q=nothing").content.decode()
    assert "Clear all filters" in page
    assert "import_fashion" not in page


def test_what_a_title_holds_is_text(client: Client, add: Add) -> None:
    add("1", title="<script>alert(1)</script>", colour="<b>", product_type='"onmouseover="x')
    page = client.get("/?q=<script>").content.decode()
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert 'onmouseover="x' not in page


def test_the_page_costs_few_queries(client: Client, wardrobe: None, django_assert_max_num_queries: Any) -> None:
    client.get("/")  # a process reads the catalogue's columns once
    with django_assert_max_num_queries(3):  # what is new, the words, the page's products
        client.get("/?gender=Women&q=navy")
    with django_assert_max_num_queries(2):
        client.get("/?gender=Women&q=navy&page=2")


def test_nothing_inline_and_a_policy_that_forbids_it(client: Client, wardrobe: None) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    page = answer.content.decode()
    assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=", page)


def test_orders_by_title_are_the_same_whichever_way_they_are_made(
    client: Client, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        add(f"p{number}", title=f"{'aAbB'[number % 4]} piece {number % 7}", gender=("Men", "Women")[number % 2])

    def shown(query: str) -> list[str]:
        return [card.pk for page in (1, 2, 3) for card in client.get(f"/?{query}&page={page}").context["page"]]

    queries = ("sort=title", "sort=title&gender=Men", "sort=title&q=piece+3")
    alone = [shown(query) for query in queries]
    monkeypatch.setattr(browsing, "SORTED_ALONE", 3)
    walked = [shown(query) for query in queries]
    monkeypatch.setattr(browsing, "WALKED", 3)
    assert [shown(query) for query in queries] == walked == alone
    Product.objects.filter(product_id="p59").update(title="0 first of all")
    assert client.get("/?sort=title").context["page"][0].product_id == "p59"
