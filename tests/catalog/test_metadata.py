"""What is served of a picture says nothing but the picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from catalog.decoding import Refused, decode
from catalog.metadata import stripped

GPS, MAKE, DESCRIPTION, ORIENTATION = 0x8825, 0x010F, 0x010E, 0x0112
SECRET = b"Rua das Flores 12"


def noise(mode: str = "RGB", size: tuple[int, int] = (37, 23)) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def exif(orientation: int = 1) -> Image.Exif:
    made = Image.Exif()
    made[MAKE], made[DESCRIPTION] = "A camera", SECRET.decode()
    made[GPS] = {1: "N", 2: (52.0, 31.0, 12.0)}
    if orientation != 1:
        made[ORIENTATION] = orientation
    return made


def told(kind: str, orientation: int = 1, mode: str = "RGB") -> bytes:
    """A picture whose file tells a lot."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, object] = {"exif": exif(orientation), "icc_profile": profile, "quality": 90, "lossless": True}
    if kind == "PNG":
        notes = PngImagePlugin.PngInfo()
        notes.add_text("Comment", SECRET.decode())
        notes.add_itxt("XML:com.adobe.xmp", SECRET.decode(), zip=True)
        options["pnginfo"] = notes
    elif kind == "GIF":
        options = {"comment": SECRET}
    else:
        options["xmp"] = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
        options["comment"] = SECRET
    buffer = io.BytesIO()
    noise("P" if kind == "GIF" else mode).save(buffer, kind, **options)
    return buffer.getvalue() + b"behind the end: " + SECRET


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_place_author_and_comments_go_and_the_pixels_stay(kind: str, orientation: int) -> None:
    data = told(kind, orientation)
    found, before, turned = decode(data)
    kept = stripped(found, data, turned)
    assert SECRET in data
    assert SECRET not in kept
    with Image.open(io.BytesIO(kept)) as image:
        assert set(image.getexif()) <= {ORIENTATION}
        assert GPS not in image.getexif()
    assert decode(kept)[1].tobytes() == before.tobytes()
    assert decode(kept)[2] == turned
    assert stripped(found, kept, turned) is kept


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colour_profiles_stay(kind: str) -> None:
    data = told(kind)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stripped(kind, data))) as after:
        assert after.info["icc_profile"] == before.info["icc_profile"]


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_keeps_its_pixels(mode: str, options: dict[str, object]) -> None:
    buffer = io.BytesIO()
    noise(mode, (200, 150)).save(buffer, "JPEG", exif=exif(), **options)
    kept = stripped("JPEG", buffer.getvalue())
    assert len(kept) < len(buffer.getvalue())
    assert decode(kept)[1].tobytes() == decode(buffer.getvalue())[1].tobytes()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_what_moves_keeps_its_first_frame(kind: str) -> None:
    buffer = io.BytesIO()
    noise("P").save(buffer, kind, save_all=True, append_images=[noise("P", (37, 23)).rotate(180)], loop=0, duration=50)
    kept = stripped(kind, buffer.getvalue())
    assert decode(kept)[1].tobytes() == decode(buffer.getvalue())[1].tobytes()


def test_what_stands_behind_a_jpegs_end_goes_with_its_index() -> None:
    """The second picture of an MPO has EXIF of its own."""
    buffer = io.BytesIO()
    noise(size=(64, 48)).save(buffer, "MPO", save_all=True, append_images=[noise(size=(32, 24))], exif=exif(6))
    data = buffer.getvalue()
    kind, image, turned = decode(data)
    kept = stripped(kind, data, turned)
    assert (kind, image.size, turned) == ("JPEG", (48, 64), 6)
    assert decode(kept)[1].tobytes() == image.tobytes()
    assert SECRET not in kept
    assert kept.count(b"\xff\xd8\xff") == kept.count(b"\xff\xd9") == 1


def test_a_clean_picture_is_the_very_same_file(real_catalogue: Path) -> None:
    same = 0
    for path in sorted((real_catalogue / "images").iterdir())[:200]:
        data = path.read_bytes()
        kind, image, turned = decode(data)
        kept = stripped(kind, data, turned)
        same += kept is data
        assert decode(kept)[1].tobytes() == image.tobytes()
    assert same


def test_a_file_that_nobody_can_follow_is_refused() -> None:
    data = told("PNG")
    with pytest.raises(Refused):
        stripped("PNG", data[: data.index(b"IEND") - 4])


def test_a_kind_that_is_not_taken_is_refused_as_such() -> None:
    with pytest.raises(Refused, match="not a JPEG, PNG, WebP or GIF"):
        stripped("TIFF", told("PNG"))
