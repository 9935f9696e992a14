"""The panel as it is steered by the address, and the page of pieces to be like or unlike."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from catalog.models import Product
from similarity.building import build_index
from tests.similarity.conftest import AddProduct


def shown(page: str) -> list[str]:
    """The product ids in the panel, in order."""
    return re.findall(r'<a class="card" href="/products/([^/]+)/">', page.split('class="similar"')[-1])


@pytest.fixture
def reds(add_product: AddProduct) -> Product:
    asked = add_product("asked", (200, 0, 0), colour="Red", product_type="Shirts")
    add_product("red", (195, 20, 20), colour="Red", product_type="Shirts")
    add_product("pink", (210, 90, 90), colour="Pink", product_type="Shirts")
    add_product("scarf", (196, 2, 2), colour="Red", product_type="Scarves")
    build_index()
    return asked


def get(client: Client, product: Product, query: str = "") -> str:
    answer = client.get(product.get_absolute_url() + query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_modes_ask_for_other_colours_or_the_same(client: Client, reds: Product) -> None:
    assert shown(get(client, reds))[:2] == ["scarf", "red"]
    assert shown(get(client, reds, "?mode=recoloured"))[0] == "pink"
    assert set(shown(get(client, reds, "?mode=same-colour"))[:2]) == {"red", "scarf"}


def test_the_panel_shows_how_it_is_steered(client: Client, reds: Product) -> None:
    page = get(client, reds, "?mode=similar&balance=1&same=product_type")
    assert re.search(r'value="similar" checked', page)
    assert re.search(r'type="range"[^>]* value="1"', page)
    assert re.search(r'name="same" value="product_type" checked', page)
    assert shown(page)[:2] == ["red", "pink"]
    assert 'type="range"' not in get(client, reds, "?mode=recoloured")


def test_wishes_that_give_in_are_told(client: Client, reds: Product) -> None:
    assert "Not enough in Shirts: others follow." in get(client, reds, "?same=product_type")


@pytest.mark.parametrize("query", ["?mode=backwards", "?balance=9", "?balance=x", "?same=size", "?same=", "?mode="])
def test_what_makes_no_sense_is_as_if_it_were_not_there(client: Client, reds: Product, query: str) -> None:
    assert shown(get(client, reds, query)) == shown(get(client, reds))


def test_without_labels_there_is_nothing_to_wish_for(client: Client, add_product: AddProduct) -> None:
    asked = add_product("asked", (200, 0, 0))
    add_product("other", (190, 0, 0))
    build_index()
    assert 'name="same"' not in get(client, asked)


def test_pieces_are_asked_with_by_the_address(client: Client, reds: Product) -> None:
    page = client.get("/like/?like=asked&unlike=scarf").content.decode()
    assert "asked" not in shown(page)
    assert "scarf" not in shown(page)
    assert 'href="?like=asked&amp;like=scarf"' in page  # rather like it
    assert 'href="?unlike=scarf"' in page  # remove what was liked
    assert 'href="?like=asked&amp;like=pink&amp;unlike=scarf"' in page  # more like this
    assert '<meta name="robots" content="noindex">' in page


def test_pieces_that_are_gone_are_left_out(client: Client, reds: Product) -> None:
    Product.objects.filter(product_id="scarf").update(hidden=True)
    page = client.get("/like/?like=asked&like=nowhere&unlike=scarf").content.decode()
    assert 'href="/products/scarf/"' not in page
    assert "unlike=scarf" not in page
    assert set(shown(page)) == {"red", "pink"}


@pytest.mark.parametrize("query", ["", "?unlike=asked", "?like=", "?like=nowhere"])
def test_without_anything_liked_the_page_says_how_to_begin(client: Client, reds: Product, query: str) -> None:
    page = client.get("/like/" + query).content.decode()
    assert "Choose at least one piece that you like" in page
    assert "What we found" not in page


def test_without_an_index_the_page_stays_whole(client: Client, add_product: AddProduct) -> None:
    add_product("asked", (200, 0, 0))
    answer = client.get("/like/?like=asked")
    assert answer.status_code == 200
    assert "are being prepared" in answer.content.decode()
