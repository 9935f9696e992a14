from __future__ import annotations

import numpy as np
import pytest

from similarity.mix import MixError, format_mix, parse_mix
from similarity.vectors import digest_matrix, find_rows, unit


def test_unit_gives_length_one_and_leaves_zeros_and_the_argument_alone() -> None:
    given = np.array([[3.0, 4.0], [0.0, 0.0]])
    made = unit(given)
    assert made.tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0]]
    assert made.dtype == np.float32
    assert given.tolist() == [[3.0, 4.0], [0.0, 0.0]]


def test_find_rows_gives_the_last_place_or_minus_one() -> None:
    assert find_rows(np.array([5, 7, 1]), np.array([7, 5, 9, 5])).tolist() == [3, 0, -1]
    assert find_rows(np.array([5]), np.empty(0, np.int64)).tolist() == [-1]


def test_digests_become_bytes() -> None:
    assert digest_matrix(["00" * 31 + "ff"])[0, 31] == 255
    assert digest_matrix([]).shape == (0, 32)


@pytest.mark.parametrize("text", ["style:1,colour:0.5", "colour:-0.25", "style:0,colour:2"])
def test_a_mix_is_read_and_written(text: str) -> None:
    assert format_mix(parse_mix(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not 'part:weight'"),
        ("style", "is not 'part:weight'"),
        ("style:x", "is no number"),
        ("style:1,style:2", "twice"),
        ("style:0", "All weights"),
        ("style:nan", "must lie between"),
        ("style:inf", "must lie between"),
    ],
)
def test_a_senseless_mix_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(MixError, match=says):
        parse_mix(text)
