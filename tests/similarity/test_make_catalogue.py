"""Invented products are of one piece with real ones, and can be told from them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from catalog.models import Product
from similarity.building import build_index
from tests.similarity.conftest import AddProduct

REAL, COUNT = 30, 150


@pytest.fixture
def shop(add_product: AddProduct) -> None:
    random = np.random.default_rng(1)
    for number in range(REAL):
        red, green, blue = (int(value) for value in random.integers(0, 255, 3))
        kind = "Reddish" if red > max(green, blue) else "Other"
        add_product(f"p{number}", (red, green, blue), title=f"Product {number}", category=kind)
    build_index()


def make(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    call_command("make_catalogue", str(COUNT), "--json", *arguments)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_they_are_indexed_without_being_embedded_and_have_pages(
    shop: None, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    report = make(capsys=capsys)
    assert (report["count"], report["source"]) == (COUNT, REAL)
    assert Product.objects.count() == REAL + COUNT
    built = build_index()
    assert (built.embedded, built.failed, built.looks) == (0, 0, REAL + COUNT)
    page = client.get("/products/invented-0-7/")
    assert page.status_code == 200
    answer = client.get("/api/v1/products/invented-0-7/similar/").json()
    assert len(answer["matches"]) == 12
    assert client.get("/").status_code == 200
    assert client.get("/?page=7").status_code == 200


def test_the_same_seed_makes_the_same_and_another_one_others(shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    def titles(seed: int) -> list[str]:
        found = Product.objects.filter(product_id__startswith=f"invented-{seed}-").order_by("pk")
        return list(found.values_list("title", flat=True))

    make(capsys=capsys)
    first = titles(0)
    with pytest.raises(CommandError, match="--remove, or another --seed"):
        make(capsys=capsys)
    make("--seed", "1", capsys=capsys)
    assert titles(0) == first != titles(1)
    make("--remove", capsys=capsys)
    assert titles(0) == first
    assert Product.objects.count() == REAL + COUNT


def test_without_a_build_or_with_too_few_products_it_says_what_to_do(
    add_product: AddProduct, capsys: pytest.CaptureFixture[str]
) -> None:
    add_product("one", (200, 0, 0))
    with pytest.raises(CommandError, match="build_index"):
        make(capsys=capsys)
    build_index()
    with pytest.raises(CommandError, match="at least 25"):
        make(capsys=capsys)
