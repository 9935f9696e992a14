"""What a map keeps, on maps whose answer can be told on paper."""

from __future__ import annotations

import numpy as np

from similarity.maps.measuring import measure


def line(count: int) -> np.ndarray:
    """Looks on an arc: the nearest in looks are the nearest along it."""
    angle = np.linspace(0, np.pi / 2, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def cells(columns: np.ndarray) -> np.ndarray:
    return np.stack([columns, np.zeros_like(columns)], axis=1).astype(np.uint16)


def test_a_map_that_keeps_the_order_keeps_the_neighbours() -> None:
    quality = measure(line(80), cells(np.arange(80)))
    assert quality.within_10 is not None and quality.within_10 > 0.95  # the tenth is a tie
    assert (quality.within_30, quality.asked) == (1.0, 80)
    assert quality.trustworthiness is not None and quality.trustworthiness > 0.999


def test_a_shuffled_map_keeps_what_chance_keeps() -> None:
    quality = measure(line(400), cells(np.random.default_rng(0).permutation(400)))
    assert quality.within_10 is not None and quality.within_10 < 0.06
    assert quality.trustworthiness is not None and 0.4 < quality.trustworthiness < 0.6


def test_of_a_handful_nothing_is_said() -> None:
    quality = measure(line(5), cells(np.arange(5)))
    assert quality.to_json() == {"within_10": None, "within_30": None, "trustworthiness": None, "asked": 5}
