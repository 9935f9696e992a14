"""Asking, on colours whose neighbours can be told on paper."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from django.test import Client
from PIL import Image

from catalog.models import Product
from similarity.building import build_index
from similarity.mix import MixError
from similarity.refining import Refinement
from similarity.services import SimilarityUnavailable, index_status, similar_to, similar_to_image, similar_to_several
from similarity.vectors import unit
from tests.similarity.conftest import AddProduct, give_picture, png


def ids(matches: Any) -> list[str]:
    return [match.product.product_id for match in matches]


def test_the_nearest_come_first_and_never_itself(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    assert ids(similar_to(reds_and_blues["red"], mix={"style": 1}).matches) == ["rose", "plum", "blue"]


def test_the_score_is_the_cosine_of_the_network(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    first, second = unit(np.array([[200, 0, 0], [200, 60, 60]]))
    match = similar_to(reds_and_blues["red"], 1, {"style": 1}).matches[0]
    assert match.score == pytest.approx(float(first @ second), abs=1e-5)
    assert match.parts == {"style": pytest.approx(match.score), "colour": 0}


def test_the_parts_sum_up_to_the_score(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    for match in similar_to(reds_and_blues["red"]).matches:
        assert sum(match.parts.values()) == pytest.approx(match.score, abs=1e-5)


def test_the_panel_costs_two_queries(reds_and_blues: dict[str, Product], django_assert_num_queries: Any) -> None:
    build_index()
    similar_to(reds_and_blues["red"])  # opens the index
    with django_assert_num_queries(2):
        assert len(similar_to(reds_and_blues["red"]).matches) == 3
    with django_assert_num_queries(1):
        assert len(similar_to(reds_and_blues["red"], curated=False).matches) == 3


def test_hidden_missing_and_deleted_products_do_not_appear(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    from django.utils import timezone

    build_index()
    Product.objects.filter(product_id="rose").update(hidden=True)
    Product.objects.filter(product_id="plum").update(missing_since=timezone.now())
    assert ids(similar_to(reds_and_blues["red"]).matches) == ["blue"]
    Product.objects.filter(product_id="blue").delete()
    assert ids(similar_to(reds_and_blues["red"]).matches) == []


def test_many_hidden_products_do_not_empty_the_panel(add_product: AddProduct) -> None:
    red = add_product("red", (200, 0, 0))
    for number in range(60):
        add_product(f"hidden-{number}", (200, 0, number % 6), hidden=True)
    for number in range(12):
        add_product(f"far-{number}", (10 * number, 100, 200))
    build_index()
    assert len(similar_to(red, 12).matches) == 12


def test_a_row_that_names_another_picture_is_no_match(reds_and_blues: dict[str, Product]) -> None:
    """As after a backup was restored: the row is the same, the picture is not."""
    build_index()
    Product.objects.filter(product_id="rose").update(image_sha256="ab" * 32)
    assert ids(similar_to(reds_and_blues["red"]).matches) == ["plum", "blue"]
    reds_and_blues["rose"].refresh_from_db()
    assert similar_to(reds_and_blues["rose"]).waiting


def test_a_product_without_picture_or_embedding_has_no_matches(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    build_index()
    bare, young = add_product("bare"), add_product("young", (9, 9, 9))
    assert (similar_to(bare).matches, similar_to(bare).waiting) == ((), False)
    assert (similar_to(young).matches, similar_to(young).waiting) == ((), True)


def test_a_picture_without_colour_names_the_missing_part(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    white = add_product("white", (255, 255, 255))
    build_index()
    answer = similar_to(white)
    assert answer.missing_parts == ("colour",)
    assert len(answer.matches) == 4
    assert similar_to(white, mix={"colour": 1}).matches == ()


def test_a_mix_of_nothing_is_an_error(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    for mix in ({"style": 0.0}, {"style": float("nan")}, {"kind": 1.0}):
        with pytest.raises(MixError):
            similar_to(reds_and_blues["red"], mix=mix)


def test_an_uploaded_picture_finds_its_like(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    answer = similar_to_image(Image.new("RGB", (30, 40), (0, 0, 190)), 2)
    assert answer.product_id is None
    assert ids(answer.matches)[0] == "blue"


def test_a_picture_is_refused_when_the_model_is_no_longer_that_of_the_index(
    reds_and_blues: dict[str, Product], settings: Any
) -> None:
    build_index()
    toy = {"BACKEND": "tests.similarity.toy.MeanColourEmbedder", "OPTIONS": {"revision": "2"}}
    settings.SIMILARITY = {**settings.SIMILARITY, "EMBEDDERS": {**settings.SIMILARITY["EMBEDDERS"], "toy": toy}}
    with pytest.raises(SimilarityUnavailable, match=r"another version of toy.*build_index"):
        similar_to_image(Image.new("RGB", (30, 40)))


def test_without_an_index_the_repair_is_named(add_product: AddProduct) -> None:
    with pytest.raises(SimilarityUnavailable, match=r"manage.py build_index"):
        similar_to(add_product("red", (200, 0, 0)))


def test_the_status_counts_what_waits(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    assert (index_status().state, index_status().waiting) == ("missing", 4)
    build_index()
    assert (index_status().state, index_status().waiting) == ("ok", 0)
    add_product("new", (1, 2, 3))
    add_product("bare")
    give_picture(reds_and_blues["red"], png((7, 7, 7)))
    status = index_status()
    assert (status.products, status.with_picture, status.waiting) == (6, 5, 2)
    assert status.trouble == ""


def test_a_match_says_on_which_labels_it_agrees(reds_and_blues: dict[str, Product]) -> None:
    Product.objects.filter(product_id="red").update(product_type="Shirts", colour="Red", gender="Men")
    Product.objects.filter(product_id="rose").update(product_type="Shirts", colour="Pink")
    build_index()
    answer = similar_to(Product.objects.get(product_id="red"), 1)
    (match,) = answer.matches
    assert match.product.product_id == "rose"
    assert match.same == ("product_type",)
    assert match.different == {"colour": ("Red", "Pink")}  # it has no gender, so nothing is said of that
    assert answer.to_json()["matches"][0]["different"] == {"colour": ["Red", "Pink"]}


def test_products_with_the_same_picture_collapse_only_when_asked_and_the_list_is_refilled(
    add_product: AddProduct,
) -> None:
    asked = add_product("asked", (200, 0, 0))
    for name in ("a", "b", "c"):
        add_product(name, (190, 10, 10))
    add_product("other", (90, 90, 90))
    build_index()
    assert ids(similar_to(asked, 2).matches) == ["a", "b"]
    collapsed = similar_to(asked, 2, refinement=Refinement(collapse=True)).matches
    assert [(match.product.product_id, match.more) for match in collapsed] == [("a", 2), ("other", 0)]


def test_collapsing_reaches_past_any_number_of_copies(add_product: AddProduct) -> None:
    asked = add_product("asked", (200, 0, 0))
    for at in range(40):
        add_product(f"copy{at}", (190, 10, 10))
    add_product("other", (90, 90, 90))
    build_index()
    collapsed = similar_to(asked, 2, refinement=Refinement(collapse=True)).matches
    assert [(match.product.product_id, match.more) for match in collapsed] == [("copy0", 39), ("other", 0)]


def test_the_page_says_why_a_match_is_there_and_how_many_more_show_the_same(
    client: Client, add_product: AddProduct
) -> None:
    asked = add_product("asked", (200, 0, 0))
    for name in ("a", "b"):
        add_product(name, (190, 10, 10))
    Product.objects.update(product_type="Shirts", gender="Men", colour="Pink")
    Product.objects.filter(pk=asked.pk).update(colour="Red")
    build_index()
    page = client.get(asked.get_absolute_url()).content.decode()
    said = re.findall(r'<li class="why__(\w+)">([^<]*)</li>', page)
    assert said == [
        ("same", "same product type and gender"),
        ("different", "Pink, not Red"),
        ("more", "1 more like it"),
    ]


def test_several_products_are_answered_with_what_lies_between_them(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    red, blue = reds_and_blues["red"], reds_and_blues["blue"]
    assert ids(similar_to_several([red, blue], mix={"style": 1}).matches) == ["plum", "rose"]


def test_what_is_like_the_unliked_falls_behind(add_product: AddProduct) -> None:
    red, blue = add_product("red", (200, 0, 0)), add_product("blue", (0, 0, 200))
    add_product("violet", (150, 0, 130))  # cosine with red .76, with blue .65
    add_product("olive", (120, 100, 60))  # .72 and .36
    build_index()
    assert ids(similar_to_several([red], mix={"style": 1}).matches)[:2] == ["violet", "olive"]
    answer = similar_to_several([red], [blue], mix={"style": 1})
    assert ids(answer.matches) == ["olive", "violet"]
    assert answer.matches[0].score == pytest.approx((0.717 - 0.5 * 0.359) / 1.5, abs=1e-3)


def test_products_without_a_look_say_nothing(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    bare = add_product("bare")
    build_index()
    red = reds_and_blues["red"]
    with_bare, without = (similar_to_several(like, mix={"style": 1}) for like in ([red, bare], [red]))
    assert with_bare.matches == without.matches
    assert similar_to_several([bare]).matches == ()
