"""Which places of two pictures look alike, by regions made by hand; those of networks are in test_embedders.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from similarity.preprocessing import Crop
from similarity.regions import Regions, emptiness, heat_maps
from tests.similarity.test_embedders import gradient

BACKGROUND = np.array([1, 1, 0, 0, 0], np.float32)
COLLAR = np.array([1, 1, 3, 0, 0], np.float32)
BUTTON = np.array([1, 1, 0, 4, 0], np.float32)
POCKET = np.array([1, 1, 0, 0, 3], np.float32)


def picture(form: tuple[int, int], **parts: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Region vectors, all background but for the parts named, and which of the regions are empty."""
    vectors, empty = np.tile(BACKGROUND, (*form, 1)), np.ones(form, np.float32)
    for name, place in parts.items():
        vectors[place], empty[place] = {"collar": COLLAR, "button": BUTTON, "pocket": POCKET}[name], 0
    return vectors, empty


def heat(one: Any, other: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return heat_maps(one[0], other[0], one[1], other[1])


def hottest(heats: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(int(at) for at in np.unravel_index(int(heats.argmax()), heats.shape))


def test_a_patch_that_has_moved_is_found_in_both_places() -> None:
    here, there = heat(picture((3, 4), collar=(0, 1), button=(2, 2)), picture((3, 4), collar=(2, 0), pocket=(0, 3)))
    assert hottest(here) == (0, 1)
    assert hottest(there) == (2, 0)
    assert here[2, 2] < 0.05  # the other has no button,
    assert there[0, 3] < 0.05  # and this one no pocket


def test_the_background_stays_dark_though_it_matches_best_of_all() -> None:
    for heats in heat(picture((3, 3), collar=(1, 1)), picture((5, 2), collar=(4, 0))):
        assert heats.max() > 0.9
        assert np.sort(heats.ravel())[-2] == 0


def test_a_background_that_is_not_white_is_dark_where_it_is_the_rule() -> None:
    vectors, _ = picture((9, 9), collar=(4, 4))
    nothing = np.zeros((9, 9), np.float32)
    heats = heat_maps(vectors, vectors, nothing, nothing)[0]
    assert heats[4, 4] == pytest.approx(1)
    assert np.sort(heats.ravel())[-2] < 0.05


def test_of_a_picture_and_itself_every_region_is_as_warm_as_it_is_rich() -> None:
    one = picture((2, 2), collar=(0, 0), button=(1, 1))
    for heats in heat(one, one):
        np.testing.assert_allclose(heats, np.array([[3 / 4, 0], [0, 1]]), atol=2e-3)


def test_heat_is_the_same_from_both_sides_and_leaves_its_arguments_alone() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random((2, 3, 7), np.float32), rng.random((4, 1, 7), np.float32)
    empty = np.zeros((2, 3), np.float32), np.full((4, 1), 0.5, np.float32)
    before = one.copy(), other.copy()
    here, there = heat_maps(one, other, *empty)
    back, forth = heat_maps(other, one, *reversed(empty))
    np.testing.assert_allclose(here, forth, atol=1e-6)
    np.testing.assert_allclose(there, back, atol=1e-6)
    np.testing.assert_array_equal(one, before[0])
    np.testing.assert_array_equal(other, before[1])
    assert here.dtype == there.dtype == np.float32
    assert (here.shape, there.shape) == ((2, 3), (4, 1))
    assert 0 <= min(here.min(), there.min()) <= max(here.max(), there.max()) <= 1


def test_pictures_in_which_nothing_differs_are_cold_and_no_trouble() -> None:
    blank = picture((2, 2))
    for heats in heat(blank, blank):
        np.testing.assert_array_equal(heats, 0)


WHOLE = (0.0, 0.0, 1.0, 1.0)
HALVES = Regions(np.zeros((2, 2, 1), np.float32), (0.25, 0, 0.75, 1))


def test_empty_is_what_is_as_the_border_is() -> None:
    image = Image.new("RGB", (200, 100), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle((50, 4, 99, 49), (246, 246, 246))  # a white shirt is greyer than its ground
    draw.rectangle((0, 30, 10, 80), (0, 0, 0))  # outside the box
    assert emptiness(image, HALVES) == pytest.approx(np.array([[0.1, 1], [1, 1]]), abs=0.03)


def test_a_ground_that_shades_off_is_empty_too() -> None:
    down, across = np.indices((100, 200)) / [[[100]], [[200]]] - 0.5
    light = 230 - 60 * (down**2 + across**2) + 10 * across
    pixels = np.repeat(light[..., np.newaxis], 3, axis=2)
    pixels[20:50, 60:100] = 120
    image = Image.fromarray(pixels.astype(np.uint8))
    assert emptiness(image, HALVES) == pytest.approx(np.array([[1 - 30 * 40 / 2500, 1], [1, 1]]), abs=0.1)


def test_a_product_that_reaches_the_border_is_not_empty() -> None:
    image = Image.new("RGB", (100, 100), (240, 240, 250))
    ImageDraw.Draw(image).rectangle((0, 0, 49, 99), (90, 30, 30))
    ImageDraw.Draw(image).rectangle((0, 0, 60, 60), (240, 240, 250))
    empty = emptiness(image, Regions(HALVES.vectors, WHOLE))
    assert empty == pytest.approx(np.array([[1, 1], [0.2, 1]]), abs=0.1)


def test_without_an_even_border_nothing_is_empty() -> None:
    np.testing.assert_array_equal(emptiness(gradient(300, 400, seed=2), HALVES), 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_odd_pictures_are_no_trouble_to_look_for_ground_in(size: tuple[int, int]) -> None:
    assert emptiness(Image.new("RGB", size, (225, 230, 225)), Regions(HALVES.vectors, WHOLE)).min() == 1


# --- where the network looks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((256, 256), (1 / 16, 1 / 16, 15 / 16, 15 / 16)),
        ((512, 1024), (1 / 16, 9 / 32, 15 / 16, 23 / 32)),
        ((1024, 512), (9 / 32, 1 / 16, 23 / 32, 15 / 16)),
        # Ten times as long as high: the middle eight tenths, and of these the middle.
        ((1000, 100), (0.5 - 0.04375, 1 / 16, 0.5 + 0.04375, 15 / 16)),
    ],
)
def test_the_box_says_where_the_crop_lies(size: tuple[int, int], box: tuple[float, ...]) -> None:
    assert Crop(256, 224, 224, (0.0,) * 3, (1.0,) * 3).box(*size) == pytest.approx(box, abs=1e-3)


@pytest.mark.parametrize("size", [(300, 400), (641, 479), (1000, 100), (33, 900)])
def test_what_lies_in_the_box_is_what_the_network_is_given(size: tuple[int, int]) -> None:
    image, crop = gradient(*size, seed=3), Crop(256, 224, 224, (0.0,) * 3, (1.0,) * 3)
    left, top, right, bottom = crop.box(*size)
    box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
    cut = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC, box), dtype=int)
    assert np.abs(cut - crop(image).astype(int)).mean() < 1
