"""Why two products are alike: the API's answer and the page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from PIL import Image

from catalog.models import Product
from similarity.building import build_index
from similarity.explaining import heat_maps_of
from similarity.mix import parse_mix
from similarity.services import NothingToCompare, SimilarityUnavailable, compare, similar_to
from tests.problems import errors_of, problem_of
from tests.similarity.conftest import AddProduct, give_picture, png

WHITE, RED, GREEN, BLUE = (255, 255, 255), (200, 0, 0), (0, 200, 0), (0, 0, 200)


def quarters(*colours: tuple[int, int, int]) -> bytes:
    """A picture of four plain quarters, line by line."""
    image = Image.new("RGB", (64, 64), WHITE)
    for at, colour in enumerate(colours):
        image.paste(colour, (at % 2 * 32, at // 2 * 32, at % 2 * 32 + 32, at // 2 * 32 + 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def shop(add_product: AddProduct) -> dict[str, Product]:
    """Two pictures on white that share a red quarter, at the top left and at the bottom right; and a plain blue."""
    products = {
        "one": add_product("one", product_type="Tops", gender="Girls"),
        "two": add_product("two", product_type="Tops", gender="Boys"),
        "plain": add_product("plain", BLUE),
    }
    give_picture(products["one"], quarters(RED, WHITE, GREEN, WHITE))
    give_picture(products["two"], quarters(WHITE, BLUE, WHITE, RED))
    build_index()
    return products


def explain(client: Client, one: str = "one", other: str = "two", query: str = "", **headers: str) -> Any:
    return client.get(f"/api/v1/products/{one}/explain/{other}/{query}", headers=headers)


# --- what is compared --------------------------------------------------------------------------


@pytest.mark.parametrize("mix", [None, "style:1", "colour:0.5,style:-2"])
def test_a_comparison_is_the_match_that_similar_to_gives(shop: dict[str, Product], mix: str | None) -> None:
    weights = parse_mix(mix) if mix else None
    for match in similar_to(shop["one"], mix=weights).matches:
        answer = compare(shop["one"], match.product, weights)
        (alone,) = answer.matches
        assert alone.score == pytest.approx(match.score, abs=1e-5)
        assert alone.parts == pytest.approx(match.parts, abs=1e-5)
        assert (alone.same, alone.different) == (match.same, match.different)


def test_the_comparison_names_parts_that_either_lacks(shop: dict[str, Product], add_product: AddProduct) -> None:
    add_product("blank", WHITE)
    build_index()
    blank = Product.objects.get(product_id="blank")
    assert compare(blank, shop["one"]).missing_parts == compare(shop["one"], blank).missing_parts == ("colour",)


def test_what_is_shared_lights_up_in_both_pictures(shop: dict[str, Product]) -> None:
    one, two = heat_maps_of(shop["one"], shop["two"])
    assert one.product == shop["one"]
    assert one.heat.argmax() == 0
    assert two.heat.argmax() == 3
    assert one.heat[0, 0] > 0.99
    assert one.heat[:, 1].max() == two.heat[:, 0].max() == 0  # the white ground


# --- GET /api/v1/products/<id>/explain/<other>/ ------------------------------------------------


def test_the_answer_says_how_much_and_where(client: Client, shop: dict[str, Product]) -> None:
    response = explain(client)
    assert response.status_code == 200
    answer = response.json()
    (match,) = compare(shop["one"], shop["two"]).matches
    assert {name: answer[name] for name in ("product_id", "other_id", "same", "different", "missing_parts")} == {
        "product_id": "one",
        "other_id": "two",
        "same": ["product_type"],
        "different": {"gender": ["Girls", "Boys"]},
        "missing_parts": [],
    }
    assert answer["score"] == pytest.approx(match.score, abs=1e-4)
    assert answer["parts"] == pytest.approx(match.parts, abs=1e-4)
    assert sum(answer["parts"].values()) == pytest.approx(answer["score"], abs=2e-4)
    assert set(answer["mix"]) == set(answer["parts"])
    for side, product in (("product", shop["one"]), ("other", shop["two"])):
        assert answer[side]["box"] == [0, 0, 1, 1]
        assert np.shape(answer[side]["heat"]) == (2, 2)
        assert answer[side]["image"] == product.image.url
        assert answer[side]["thumbnail"] == product.thumbnail.url


def test_the_mix_changes_the_score_and_not_the_maps(client: Client, shop: dict[str, Product]) -> None:
    usual, colours = explain(client).json(), explain(client, query="?mix=colour:1").json()
    assert colours["parts"]["style"] == 0
    assert colours["score"] != usual["score"]
    assert colours["product"] == usual["product"]


def test_a_product_may_be_compared_with_itself(client: Client, shop: dict[str, Product]) -> None:
    answer = explain(client, "one", "one").json()
    assert answer["score"] == pytest.approx(1, abs=1e-3)
    assert answer["product"] == answer["other"]


def test_ids_may_have_slashes(client: Client, shop: dict[str, Product]) -> None:
    Product.objects.filter(product_id="two").update(product_id="a/b c")
    assert explain(client, other="a/b%20c").json()["other_id"] == "a/b c"
    assert client.get("/products/one/why/a/b%20c/").status_code == 200


@pytest.mark.parametrize("query", ["?mix=style", "?mix=style:nan", "?mix=style:0", "?mix=unknown:1"])
def test_a_mix_that_makes_no_sense_is_400(client: Client, shop: dict[str, Product], query: str) -> None:
    response = explain(client, query=query)
    assert response.status_code == 400
    assert errors_of(response)["mix"]


def test_unknown_and_hidden_products_are_404(client: Client, shop: dict[str, Product]) -> None:
    Product.objects.filter(product_id="plain").update(hidden=True)
    for one, other in (("one", "nobody"), ("nobody", "one"), ("one", "plain"), ("plain", "one")):
        assert explain(client, one, other).status_code == 404
        assert client.get(f"/products/{one}/why/{other}/").status_code == 404


def test_a_product_without_picture_or_embedding_is_409_and_named(
    client: Client, shop: dict[str, Product], add_product: AddProduct
) -> None:
    add_product("bare")
    add_product("new", GREEN)
    for product_id, says in (("bare", "bare has no picture"), ("new", "new is new and waits")):
        response = explain(client, other=product_id)
        assert response.status_code == 409
        assert re.search(says, problem_of(response)["detail"])
    with pytest.raises(NothingToCompare):
        compare(Product.objects.get(product_id="bare"), shop["one"])


def test_without_an_index_it_is_503_with_the_repair(client: Client, reds_and_blues: dict[str, Product]) -> None:
    response = explain(client, "red", "rose")
    assert response.status_code == 503
    assert "build_index" in problem_of(response, 503)["reason"]


def test_a_picture_that_cannot_be_read_is_503_and_named(client: Client, shop: dict[str, Product]) -> None:
    Path(shop["two"].image.path).unlink()
    response = explain(client)
    assert response.status_code == 503
    assert "The picture of two: The file cannot be read" in problem_of(response, 503)["reason"]


def test_a_model_without_regions_is_503_in_words(
    client: Client, shop: dict[str, Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("tests.similarity.toy.MeanColourEmbedder.regions")
    assert "toy does not tell the regions" in problem_of(explain(client), 503)["reason"]


def test_another_version_of_the_model_is_503(client: Client, shop: dict[str, Product], settings: Any) -> None:
    embedders = settings.SIMILARITY["EMBEDDERS"]
    toy = {**embedders["toy"], "OPTIONS": {"revision": "2"}}
    settings.SIMILARITY = {**settings.SIMILARITY, "EMBEDDERS": {**embedders, "toy": toy}}
    with pytest.raises(SimilarityUnavailable, match="another version of toy"):
        heat_maps_of(shop["one"], shop["two"])


def test_the_same_again_costs_no_network(
    client: Client, shop: dict[str, Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = explain(client).headers["ETag"]
    assert explain(client, query="?mix=style:1").headers["ETag"] != etag
    with monkeypatch.context() as patch:
        patch.delattr("similarity.explain_api.heat_maps_of")
        assert explain(client, if_none_match=etag).status_code == 304
    give_picture(shop["two"], png(GREEN))
    build_index()
    assert explain(client, if_none_match=etag).status_code == 200


# --- /products/<id>/why/<other>/ ---------------------------------------------------------------


def test_the_page_lays_the_maps_over_both_pictures(client: Client, shop: dict[str, Product]) -> None:
    page = client.get("/products/one/why/two/").content.decode()
    for product in (shop["one"], shop["two"]):
        assert f'src="{product.image.url}"' in page
        assert f'href="{product.get_absolute_url()}"' in page
    first, second = page.split("<figure>")[1:]
    assert 'x="0.00%" y="0.00%" width="100.00%" height="100.00%" viewBox="0 0 2 2"' in first
    assert '<rect x="0" y="0" width="1" height="1" fill-opacity="1.00"/>' in first
    assert not re.search(r'<rect x="1" y="\d" width="1"', first)
    assert '<rect x="1" y="1" width="1" height="1" fill-opacity="1.00"/>' in second
    assert "the warmest is at the top left" in first
    assert "the warmest is at the bottom right" in second
    assert "Boys, not Girls" in page
    assert "same product type<" in page
    assert "Colour" in page.split("What the likeness is made of")[1]


def test_the_page_stands_under_the_strict_policy(client: Client, shop: dict[str, Product]) -> None:
    response = client.get("/products/one/why/two/")
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert "style=" not in response.content.decode()
    assert not re.search(r"<script(?![^>]* src=)", response.content.decode())


def test_staff_may_compare_hidden_products(client: Client, shop: dict[str, Product], admin_user: User) -> None:
    Product.objects.filter(product_id="two").update(hidden=True)
    client.force_login(admin_user)
    assert client.get("/products/one/why/two/").status_code == 200


def test_the_page_stays_whole_where_there_is_nothing_to_show(
    client: Client, shop: dict[str, Product], add_product: AddProduct
) -> None:
    add_product("bare")
    bare = client.get("/products/one/why/bare/")
    assert bare.status_code == 409
    assert "no picture yet" in bare.content.decode()
    Path(shop["two"].image.path).unlink()
    unread = client.get("/products/one/why/two/")
    assert unread.status_code == 503
    assert "Boys, not Girls" in unread.content.decode()
    assert "fill-opacity" not in unread.content.decode()


def test_the_page_without_an_index_says_so(client: Client, reds_and_blues: dict[str, Product]) -> None:
    response = client.get("/products/red/why/rose/")
    assert response.status_code == 503
    assert "come back soon" in response.content.decode()


def test_every_similar_item_leads_to_its_why(client: Client, shop: dict[str, Product]) -> None:
    page = client.get("/products/one/").content.decode()
    for other in ("two", "plain"):
        assert f'href="/products/one/why/{other}/" rel="nofollow"' in page
