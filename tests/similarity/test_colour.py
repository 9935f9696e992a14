"""Colour, as people would tell it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from similarity.embedders.colour import ColourEmbedder, find_foreground, srgb_to_lab

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
