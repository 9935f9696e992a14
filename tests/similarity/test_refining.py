"""Collapsing, variety and wishes that give in, on a few vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from similarity.refining import Relaxed, diversified, leaders, nearly_same, rungs


def blues(label: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """Of colours, every blue is related to every blue; nothing else is related to anything."""
    return ("Blue", "Navy Blue") if label == "colour" else tuple(wanted)


def test_wishes_give_in_one_after_another_colour_before_gender_and_to_related_values_first() -> None:
    wishes = {"gender": ("Women",), "colour": ("Navy Blue",)}
    gives = [(dict(left), [(each.wish, each.to) for each in relaxed]) for left, relaxed in rungs(wishes, blues)]
    assert gives == [
        ({"gender": ("Women",), "colour": ("Navy Blue",)}, []),
        ({"gender": ("Women",), "colour": ("Blue", "Navy Blue")}, [("colour", "related")]),
        ({"gender": ("Women",)}, [("colour", "any")]),
        ({}, [("colour", "any"), ("gender", "any")]),
    ]


def test_without_wishes_there_is_one_rung() -> None:
    assert list(rungs({}, blues)) == [({}, ())]


def test_a_relaxed_wish_remembers_what_was_wanted() -> None:
    *_, (_, relaxed) = rungs({"colour": ("Navy Blue",)}, blues)
    assert relaxed == (Relaxed("colour", ("Navy Blue",), "any"),)


def test_the_first_of_the_same_picture_leads() -> None:
    assert leaders(["a", "b", "a", "c", "b"], None).tolist() == [0, 1, 0, 3, 1]


def test_nearly_the_same_is_led_too_but_a_chain_is_not_drawn_together() -> None:
    near = np.eye(3, dtype=bool)
    near[0, 1] = near[1, 0] = near[1, 2] = near[2, 1] = True
    assert leaders(["a", "b", "c"], near).tolist() == [0, 0, 2]


def test_nearly_the_same_takes_every_part_and_never_a_missing_one() -> None:
    shape = np.array([[1, 0], [1, 0.01], [1, 0], [0, 0]], dtype=np.float32)
    colour = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    near = nearly_same({"shape": shape, "colour": colour}, {"shape": 0.99, "colour": 0.99})
    assert near.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


LIKENESS = np.array([[1, 0.95, 0.1], [0.95, 1, 0.1], [0.1, 0.1, 1]], dtype=np.float32)
SCORES = np.array([0.9, 0.89, 0.6], dtype=np.float32)
ONE_STAGE = np.zeros(3, dtype=np.int64)


@pytest.mark.parametrize(("diversity", "order"), [(0.0, [0, 1, 2]), (0.5, [0, 2, 1]), (1.0, [0, 2, 1])])
def test_variety_passes_over_what_is_like_the_one_before(diversity: float, order: list[int]) -> None:
    assert diversified(SCORES, LIKENESS, ONE_STAGE, 3, diversity) == order


def test_variety_never_lets_a_relaxed_match_pass_one_that_fulfils_the_wishes() -> None:
    assert diversified(SCORES, LIKENESS, np.array([1, 0, 1]), 3, 0.5) == [1, 2, 0]


def test_no_more_are_chosen_than_there_are() -> None:
    assert diversified(SCORES[:0], LIKENESS[:0, :0], ONE_STAGE[:0], 5, 0.5) == []
    assert len(diversified(SCORES, LIKENESS, ONE_STAGE, 2, 0.5)) == 2
