"""`/sitemap.xml` and `/robots.txt`: what search engines are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from catalog.models import Product
from catalog.sitemaps import ProductSitemap

Add = Callable[..., Product]


def places(client: Client, address: str) -> list[str]:
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/xml"
    return re.findall(r"<loc>([^<]+)</loc>", answer.content.decode())


def test_every_visible_product_is_there_with_its_date(client: Client, add: Add) -> None:
    add("1")
    add("a b/é&")
    add("3", hidden=True)
    assert places(client, "/sitemap.xml") == ["http://testserver/sitemap-products.xml"]
    listed = places(client, "/sitemap-products.xml")
    assert listed == ["http://testserver/products/1/", "http://testserver/products/a%20b/%C3%A9&amp;/"]
    assert client.get("/sitemap-products.xml").content.count(b"<lastmod>") == 2


def test_many_products_make_several_files(client: Client, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProductSitemap, "limit", 2)
    for number in range(3):
        add(str(number))
    files = places(client, "/sitemap.xml")
    assert files == ["http://testserver/sitemap-products.xml", "http://testserver/sitemap-products.xml?p=2"]
    assert [len(places(client, file)) for file in files] == [2, 1]


@pytest.mark.parametrize("address", ["/sitemap-nonsense.xml", "/sitemap-products.xml?p=9", "/sitemap-products.xml?p=x"])
def test_unknown_files_are_404(client: Client, db: None, address: str) -> None:
    assert client.get(address).status_code == 404


def test_an_empty_catalogue_has_an_empty_sitemap(client: Client, db: None) -> None:
    assert places(client, "/sitemap-products.xml") == []


def test_robots_find_the_sitemap_and_leave_admin_and_api_alone(client: Client) -> None:
    answer = client.get("/robots.txt")
    assert answer.headers["Content-Type"].startswith("text/plain")
    lines = answer.content.decode().splitlines()
    assert "Sitemap: http://testserver/sitemap.xml" in lines
    assert {"Disallow: /admin/", "Disallow: /api/"} <= set(lines)


def test_a_file_costs_few_queries(client: Client, add: Add, django_assert_max_num_queries: Any) -> None:
    for number in range(5):
        add(str(number))
    with django_assert_max_num_queries(3):
        client.get("/sitemap-products.xml")
