"""The mixes that pages offer."""

from __future__ import annotations

import pytest

from similarity import modes

DEFAULT = {"style": 0.3, "kind": 1.2, "colour": 0.8}


def test_the_middle_of_the_slider_is_the_default_and_its_ends_are_shape_and_colour() -> None:
    assert modes.mix_of(DEFAULT, modes.SIMILAR) == DEFAULT
    assert modes.balanced(DEFAULT, -2) == {"style": 0.3, "kind": 1.2, "colour": 0.0}
    far = modes.balanced(DEFAULT, 2)
    assert far["colour"] > 2 * (far["style"] + far["kind"])


def test_other_colours_weigh_colour_against_a_match() -> None:
    assert modes.mix_of(DEFAULT, modes.RECOLOURED)["colour"] < 0 < modes.mix_of(DEFAULT, modes.RECOLOURED)["kind"]


def test_the_grid_holds_every_offer_once_the_default_first() -> None:
    grid = modes.grid(DEFAULT)
    assert grid[0] == DEFAULT
    assert all(grid.count(mix) == 1 for mix in grid)
    assert {"style": 0.0, "kind": 0.0, "colour": 1.0} in grid


def test_no_place_of_the_slider_and_no_mode_is_an_error() -> None:
    with pytest.raises(KeyError):
        modes.balanced(DEFAULT, 3)
    with pytest.raises(KeyError):
        modes.mix_of(DEFAULT, "backwards")
