"""Colour, as people would tell it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from similarity.backgrounds import find_foreground, srgb_to_lab
from similarity.embedders.colour import ColourEmbedder

EMBEDDER = ColourEmbedder()
WHITE, NAVY, BLUE, RED = (255, 255, 255), (20, 30, 80), (40, 60, 160), (200, 30, 40)


def garment(colour: tuple[int, int, int], background: tuple[int, int, int] = WHITE) -> Image.Image:
    image = Image.new("RGB", (120, 160), background)
    ImageDraw.Draw(image).rectangle((30, 30, 90, 130), fill=colour)
    return image


def likeness(a: Image.Image, b: Image.Image) -> float:
    first, second = EMBEDDER.embed([a, b])
    return float(first @ second)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # CIELAB under D65 of the sRGB primaries, as published in many tables.
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_is_that_of_the_tables(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(srgb_to_lab(np.array(rgb, dtype=np.uint8)), lab, atol=0.05)


def test_a_shade_is_nearer_than_another_colour() -> None:
    assert likeness(garment(NAVY), garment(BLUE)) > likeness(garment(NAVY), garment(RED)) + 0.1


def test_the_white_background_does_not_count() -> None:
    elsewhere = Image.new("RGB", (120, 160), WHITE)
    elsewhere.paste(garment(RED).crop((30, 30, 90, 130)), (10, 10))
    assert likeness(garment(RED), elsewhere) > 0.95


def test_white_inside_the_product_is_a_colour_of_it() -> None:
    striped = garment(NAVY)
    ImageDraw.Draw(striped).rectangle((40, 60, 80, 90), fill=WHITE)
    foreground = find_foreground(srgb_to_lab(np.asarray(striped)))
    assert foreground[75, 60]
    assert not foreground[5, 5]


def test_an_all_white_picture_has_no_colour() -> None:
    assert not EMBEDDER.embed([Image.new("RGB", (50, 50), WHITE)]).any()


def vignetted(image: Image.Image) -> Image.Image:
    """Darker towards the corners, as on a grey studio ground."""
    pixels = np.asarray(image, dtype=np.float32)
    y, x = np.meshgrid(np.linspace(-1, 1, pixels.shape[0]), np.linspace(-1, 1, pixels.shape[1]), indexing="ij")
    return Image.fromarray((pixels * (1 - 0.15 * (x * x + y * y))[..., np.newaxis]).astype(np.uint8))


@pytest.mark.parametrize("ground", [(235, 235, 230), (205, 205, 205), (225, 228, 240)])
def test_a_grey_or_pale_ground_does_not_count_even_when_unevenly_lit(ground: tuple[int, int, int]) -> None:
    picture = vignetted(garment(RED, ground))
    assert likeness(picture, garment(RED)) > 0.9
    foreground = find_foreground(srgb_to_lab(np.asarray(picture.resize((48, 64), Image.Resampling.BOX))))
    assert foreground.mean() == pytest.approx(60 * 100 / (120 * 160), abs=0.03)


def test_a_white_shirt_keeps_its_white_on_white() -> None:
    shirt = garment((243, 243, 243))
    assert EMBEDDER.embed([shirt]).any()
    assert likeness(shirt, garment((250, 250, 250), (200, 200, 200))) > 0.8


def test_a_product_that_touches_the_border_is_not_taken_for_the_ground() -> None:
    belt = Image.new("RGB", (120, 160), WHITE)
    ImageDraw.Draw(belt).rectangle((0, 60, 119, 90), fill=NAVY)
    foreground = find_foreground(srgb_to_lab(np.asarray(belt)))
    assert foreground[75].all()
    assert not foreground[10].any()


def test_a_cloth_that_fills_the_picture_has_its_colour() -> None:
    assert likeness(Image.new("RGB", (50, 50), RED), garment(RED)) > 0.95


def test_where_the_border_is_no_ground_only_near_white_is_background() -> None:
    street = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8))
    assert find_foreground(srgb_to_lab(np.asarray(street))).mean() > 0.95
