"""Labels in doubt, among colours whose neighbours can be told on paper."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.doubts import label_doubts
from tests.similarity.conftest import AddProduct


@pytest.fixture
def shop(add_product: AddProduct) -> None:
    """Eight red shirts, of which one is called a shoe and one nothing, and eight blue shoes."""
    for at in range(8):
        add_product(f"red{at}", (200, 5 * at, 0))
        add_product(f"blue{at}", (0, 5 * at, 200))
    Product.objects.filter(product_id__startswith="red").update(product_type="Shirts")
    Product.objects.filter(product_id__startswith="blue").update(product_type="Shoes")
    Product.objects.filter(product_id="red3").update(product_type="Shoes")
    Product.objects.filter(product_id="red4").update(product_type="")
    build_index()


def test_a_label_that_the_neighbours_contradict_is_in_doubt(shop: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("similarity.doubts.NEIGHBOURS", 5)
    (doubt,) = label_doubts()
    assert (doubt.product_id, doubt.label, doubt.value, doubt.suggestion) == ("red3", "product_type", "Shoes", "Shirts")
    assert (doubt.own, doubt.other) == (0, 1)  # red4 says nothing and is not counted
    assert set(doubt.neighbours) <= {"red0", "red1", "red2", "red5", "red6", "red7"}


def test_the_command_prints_the_worst_first(
    shop: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("similarity.doubts.NEIGHBOURS", 5)
    call_command("label_doubts", "--label", "gender", "--json")
    assert json.loads(capsys.readouterr().out) == {"count": 0, "doubts": []}
    call_command("label_doubts", "--limit", "1")
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("red3 ")
    assert "product_type is Shoes; 100% of what looks like it is Shirts, 0% Shoes" in first
    assert last == "Labels in doubt: 1."


@pytest.mark.django_db
def test_without_an_index_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="build_index"):
        call_command("label_doubts")
