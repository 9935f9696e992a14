"""Looks, on vectors whose cosines can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest

from similarity.looks import Layout, Part
from similarity.mix import MixError

LAYOUT = Layout((Part("style", 1.0, 2, "style"), Part("colour", 0.5, 2, "colour")))
STYLE = np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)  # cosines with the first: 1, 0, .7071
COLOUR = np.array([[0, 1], [0, 5], [0, 0]], dtype=np.float32)  # cosines with the first: 1, 1, missing


def scores(mix: dict[str, float]) -> list[float]:
    looks = LAYOUT.compose({"style": STYLE, "colour": COLOUR})
    query = looks[0] * LAYOUT.query_weights(mix)
    return [round(float(score), 4) for score in looks @ query]


def test_one_inner_product_is_the_weighted_mean_of_the_cosines() -> None:
    assert scores({"style": 1, "colour": 0.5}) == [1.0, round(0.5 / 1.5, 4), round(0.7071 / 1.5, 4)]


def test_every_mix_is_answered_by_the_same_looks() -> None:
    assert scores({"style": 1, "colour": 0}) == [1.0, 0.0, 0.7071]
    assert scores({"style": 0, "colour": 3}) == [1.0, 1.0, 0.0]
    assert scores({"style": 1, "colour": -1}) == [0.0, -0.5, 0.3536]


def test_what_each_part_adds_sums_up_to_the_score() -> None:
    looks = LAYOUT.compose({"style": STYLE, "colour": COLOUR})
    query = looks[0] * LAYOUT.query_weights({"style": 1, "colour": 0.5})
    parts = LAYOUT.contributions(query, looks)
    np.testing.assert_allclose(parts["style"] + parts["colour"], looks @ query, atol=1e-6)
    np.testing.assert_allclose(parts["style"], np.array([1, 0, 0.70711]) / 1.5, atol=1e-4)


def test_a_missing_part_is_zeros_and_is_named() -> None:
    looks = LAYOUT.compose({"style": STYLE, "colour": COLOUR})
    assert LAYOUT.missing_parts(looks[2]) == ("colour",)
    assert LAYOUT.missing_parts(looks[0]) == ()


def test_a_part_that_the_build_lacks_is_ignored_and_named() -> None:
    assert LAYOUT.usable_mix({"colour": 1, "kind": 2}) == ({"style": 0.0, "colour": 1.0}, ("kind",))
    with pytest.raises(MixError, match="none of them"):
        LAYOUT.usable_mix({"kind": 1})


def test_two_parts_may_come_from_one_space() -> None:
    layout = Layout(
        (
            Part("style", 1.0, 2, "style"),
            Part("kind", 1.0, 1, "style", np.array([0.5, 0], np.float32), np.array([[1], [0]], np.float32)),
        )
    )
    looks = layout.compose({"style": np.array([[1, 0], [0, 1], [0, 0]], dtype=np.float32)})
    assert looks.tolist() == [[1, 0, 1], [0, 1, -1], [0, 0, 0]]  # what is missing is not moved by the mean
