"""Precision, on neighbours that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from django.core.management import call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.evaluation import evaluate_similarity, label_codes, leave_one_out, precision_of
from tests.similarity.conftest import AddProduct

LOOKS = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)


def test_nobody_is_their_own_neighbour() -> None:
    neighbours = leave_one_out(LOOKS, LOOKS, np.arange(4), 2)
    assert neighbours[:, 0].tolist() == [1, 0, 3, 2]
    assert all(at not in line for at, line in enumerate(neighbours))


def test_products_with_the_same_picture_are_no_neighbours() -> None:
    neighbours = leave_one_out(LOOKS, LOOKS, np.array([0, 0, 1, 2]), 3)
    assert neighbours.tolist() == [[3, 2, -1], [3, 2, -1], [3, 1, 0], [2, 1, 0]]


def test_precision_counts_neighbours_that_bear_the_label() -> None:
    precision = precision_of(np.array([[1, 2], [0, 2], [1, 0]]), np.array([0, 0, 1]))
    assert precision.p_at_1 == pytest.approx(2 / 3, abs=1e-4)
    assert precision.p_at_k == pytest.approx((0.5 + 0.5 + 0) / 3, abs=1e-4)


def test_queries_without_label_are_left_out_and_counted() -> None:
    precision = precision_of(np.array([[1], [0], [0]]), np.array([0, 0, -1]))
    assert (precision.queries, precision.left_out, precision.p_at_1) == (2, 1, 1.0)


def test_fewer_neighbours_than_k_are_judged_by_how_many_there_are() -> None:
    assert precision_of(np.array([[1, -1], [0, -1]]), np.array([0, 0])).p_at_k == 1.0


def test_without_labels_there_is_no_figure() -> None:
    precision = precision_of(np.array([[1], [0]]), np.array([-1, -1]))
    assert (precision.p_at_1, precision.p_at_k, precision.left_out) == (None, None, 2)


def test_combined_labels_need_all_of_them() -> None:
    table = [{"a": "x", "b": "y"}, {"a": "x", "b": ""}, {"a": "x", "b": "y"}]
    assert label_codes(table, ("a", "b")).tolist() == [0, -1, 0]


def test_the_command_prints_the_promised_json(
    reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
) -> None:
    Product.objects.filter(product_id__in=["red", "rose", "plum"]).update(product_type="Shirts", gender="Women")
    build_index()
    call_command("evaluate_similarity", "--json", "-k", "2", "--mix", "style:1")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["products"], printed["k"]) == (4, 2)
    # red → rose, plum; rose → red, plum; plum → rose, red: every neighbour is a shirt.
    assert printed["labels"]["product_type"] == {"p_at_1": 1.0, "p_at_k": 1.0, "queries": 3, "left_out": 1}
    assert set(printed["labels"]) == {
        *("gender", "category", "sub_category", "product_type", "colour", "usage"),
        *("product_type+gender", "product_type+gender+colour"),
    }


def test_a_catalogue_of_nothing_is_judged_without_a_crash(add_product: AddProduct) -> None:
    add_product("bare")
    build_index()
    assert evaluate_similarity().labels["colour"].p_at_k is None
