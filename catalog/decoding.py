"""Pictures from bytes that nobody has looked at: checked before they are decoded, then decoded.

Knows nothing of Django, so that the process that decodes what strangers send (`catalog.decoder`) starts quickly and
holds nothing worth having.
"""

from __future__ import annotations

import io
import re
from typing import Any

from PIL import Image, UnidentifiedImageError

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_SIDE_PX = 10_000
MAX_JPEG_SCANS = 32
"""A progressive JPEG of few bytes may ask for thousands of passes over its pixels (libjpeg-turbo's advisory
LJT-01-004); encoders make about ten."""

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
"""The formats we take, by content, and how their files are named."""

EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def gettext_noop(text: str) -> str:
    """Marks a sentence for the translators, as Django's does; whoever shows it translates it."""
    return text


EMPTY = gettext_noop("The file is empty.")
TOO_LARGE = gettext_noop("The file is larger than %(limit)d MiB.")
TOO_MANY_PIXELS = gettext_noop("The picture has more than %(limit)d megapixels.")
TOO_LONG_A_SIDE = gettext_noop("The picture is %(width)d × %(height)d pixels; a side may have %(limit)s.")
TOO_MANY_SCANS = gettext_noop("The JPEG has %(scans)d scans; %(limit)d are allowed.")
DAMAGED = gettext_noop("The picture is damaged or incomplete and cannot be decoded.")
CUT_OFF = gettext_noop("The picture is incomplete: its end is missing.")
WEB_PAGE = gettext_noop("This is a web page, not a picture.")
SVG = gettext_noop("SVG is not taken; JPEG, PNG, WebP and GIF are.")
UNKNOWN = gettext_noop("This is not a JPEG, PNG, WebP or GIF picture, or its beginning is damaged.")
TOO_COSTLY = gettext_noop("Decoding the picture takes too much time or memory.")


REASONS = {
    EMPTY: "empty",
    TOO_LARGE: "too_large",
    TOO_MANY_PIXELS: "too_many_pixels",
    TOO_LONG_A_SIDE: "too_many_pixels",
    TOO_MANY_SCANS: "too_many_scans",
    DAMAGED: "damaged",
    CUT_OFF: "damaged",
    WEB_PAGE: "no_picture",
    SVG: "no_picture",
    UNKNOWN: "no_picture",
    TOO_COSTLY: "too_costly",
}
"""In one word, for those who count."""


class Refused(Exception):
    """Why a picture is not taken: one of the sentences above, and the values within it."""

    def __init__(self, sentence: str, **values: Any) -> None:
        super().__init__(sentence % values if values else sentence)
        self.sentence, self.values = sentence, values


def decode(data: bytes, shorter_px: int | None = None) -> tuple[str, Image.Image, int]:
    """(format, picture, orientation): RGB, upright, first frame, transparency laid on white; and how the file had it
    turned (1 to 8, as EXIF counts). Raises Refused.

    With `shorter_px`, a JPEG may come smaller, at a half, a quarter or an eighth of its size, as long as its shorter
    side keeps that many pixels: the decoder then leaves out what nobody will look at.
    """
    check_length(len(data))
    try:
        with Image.open(io.BytesIO(data), formats=list(EXTENSIONS)) as image:
            kind = _kind(image)
            _check_size(*image.size)
            _check_whole(kind, data)
            if shorter_px is not None and kind == "JPEG" and min(image.size) > shorter_px:
                # Rounded up: the decoder stops at the smallest scale that is not below the size asked for.
                width, height = (-(-side * shorter_px // min(image.size)) for side in image.size)
                image.draft("RGB", (width, height))
            image.load()
            orientation = _orientation(image)
            return kind, _to_rgb(image, orientation), orientation
    except Refused:
        raise
    except UnidentifiedImageError as error:
        raise Refused(_what_it_is_instead(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels() from error
    # Decoders meet hostile bytes with whatever their author forgot: OSError, SyntaxError, ValueError,
    # struct.error, IndexError, OverflowError... To us every one of them means the same.
    except MemoryError as error:
        raise Refused(TOO_COSTLY) from error
    except Exception as error:
        raise Refused(DAMAGED) from error


def check_length(length: int) -> None:
    """Raises Refused for a file of so many bytes."""
    if not length:
        raise Refused(EMPTY)
    if length > MAX_BYTES:
        raise Refused(TOO_LARGE, limit=MAX_BYTES // 2**20)


def _kind(image: Image.Image) -> str:
    # A JPEG with an index of further pictures behind its end (CIPA DC-007), as telephones write them beside a portrait.
    # To Pillow that is a format of its own, to us it is its first picture.
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    if kind not in EXTENSIONS:
        raise Refused(UNKNOWN)
    return kind


def _check_size(width: int, height: int) -> None:
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX:
        raise Refused(TOO_LONG_A_SIDE, width=width, height=height, limit=f"{MAX_SIDE_PX:,}")
    if width * height > MAX_PIXELS:
        raise _too_many_pixels()


def _too_many_pixels() -> Refused:
    return Refused(TOO_MANY_PIXELS, limit=MAX_PIXELS // 1_000_000)


def _check_whole(kind: str, data: bytes) -> None:
    """Refuse what can be seen to be cut off without decoding: decoders are lenient about the last bytes."""
    whole = True
    if kind == "JPEG":
        scans, whole = _walk_jpeg(data)
        if scans > MAX_JPEG_SCANS:
            raise Refused(TOO_MANY_SCANS, scans=scans, limit=MAX_JPEG_SCANS)
    elif kind == "PNG":
        whole = b"\0\0\0\0IEND\xae\x42\x60\x82" in data
    elif kind == "WEBP":
        whole = len(data) >= int.from_bytes(data[4:8], "little") + 8
    if not whole:
        raise Refused(CUT_OFF)


JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker that ends a stretch of entropy-coded data: there 0xFF is followed by 0x00 or a restart marker.

It begins with one plain byte, for which `re` looks at the speed of memchr.
"""


def _walk_jpeg(data: bytes) -> tuple[int, bool]:
    """(number of scans, whether the end-of-image marker is there), from the markers alone. Raises Refused for a marker
    that no encoder writes.
    """
    scans, position = 0, 2
    while found := JPEG_MARKER.search(data, position):
        marker, position = found[0][1], found.end()
        if marker == 0xD9:
            return scans, True
        if marker in (0x01, 0xD8):
            continue
        if marker < 0xC0:
            # Reserved. Where a restart marker is due, libjpeg steps over these two bytes alone and would find the scans
            # that "segments" of them hide from us; anywhere else it gives up.
            raise Refused(DAMAGED)
        scans += marker == 0xDA
        # Segments carry their length, so that the markers of an embedded preview are stepped over.
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans, False


def _what_it_is_instead(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return WEB_PAGE
    if start.startswith((b"<?xml", b"<svg")):
        return SVG
    return UNKNOWN


def _to_rgb(image: Image.Image, orientation: int) -> Image.Image:
    """A decoded picture as RGB, upright, on white."""
    if image.mode.startswith(("I", "F")):
        # Greyscale of 16 bits: Pillow's own conversion to 8 clips everything above 255 to white.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    turn = _TURNS.get(orientation)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        rgb = Image.new("RGB", coloured.size, (255, 255, 255))
        rgb.paste(coloured, mask=coloured.getchannel("A"))
    else:
        # A copy in any case: the caller's picture outlives the file it was read from.
        rgb = image.convert("RGB") if image.mode != "RGB" else image.copy()
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        found = int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - EXIF that cannot be read says nothing about the pixels
        return 1
    return found if found in _TURNS else 1
