"""Pictures: what may come in, how it is kept, and whose it becomes.

The way of every picture, imported or uploaded: bytes → `verify` (checked before decoding, then really
decoded) → `store` (original and thumbnail under names made of the SHA-256) → `accept` (the product has it).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from PIL import Image, UnidentifiedImageError

from catalog.files import replace_file
from catalog.models import THUMBNAIL_SIDE_PX, Product, RowCounter, fitted
from catalog.signals import pictures_changed

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_SIDE_PX = 10_000
MAX_JPEG_SCANS = 32
"""A progressive JPEG of few bytes may ask for thousands of passes over its pixels (libjpeg-turbo's advisory
LJT-01-004); encoders make about ten."""

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
"""The formats we take, by content, and how their files are named."""

_THUMBNAIL_QUALITY = 80
_THUMBNAIL_METHOD = 2
"""WebP's effort, 0 to 6. The library's own choice, 4, takes nearly twice the time of 2 for files 4 % smaller, and was
half the work of storing a picture."""
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """Why a picture is not taken: one short sentence for people."""


@dataclass(frozen=True, eq=False)
class VerifiedImage:
    """A picture that was really decoded; `width` and `height` as people see it (after EXIF orientation)."""

    data: bytes
    format: str
    width: int
    height: int
    sha256: str
    image: Image.Image
    """RGB, upright, transparency laid on white."""


@dataclass(frozen=True)
class StoredImage:
    """A picture on disk: names under MEDIA_ROOT and what the product keeps of it."""

    image: str
    thumbnail: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Acceptance:
    """A stored picture that shall be a product's; `source` says where it came from."""

    product: int
    """The product's primary key."""
    stored: StoredImage
    source: str


# --- what may come in ---------------------------------------------------------------------------
def verify(data: bytes) -> VerifiedImage:
    """Check the bytes before decoding them, decode them, and say what they are.

    Raises ImageError with a sentence for people.
    """
    if not data:
        raise ImageError(gettext("The file is empty."))
    if len(data) > MAX_BYTES:
        raise ImageError(_too_many_bytes())
    kind, image = _decode(data)
    return VerifiedImage(
        data=data,
        format=kind,
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(data).hexdigest(),
        image=image,
    )


def open_rgb(path: Path, shorter_px: int | None = None) -> Image.Image:
    """The picture in a file as RGB: upright, transparency on white, first frame. Raises ImageError.

    With `shorter_px`, a JPEG may come smaller, at a half, a quarter or an eighth of its size, as long as its
    shorter side keeps that many pixels: the decoder then leaves out what nobody will look at.
    """
    return _decode(read(path), shorter_px)[1]


def read(path: Path) -> bytes:
    """The bytes of a picture's file, never many more than are allowed. Raises ImageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(gettext("The file cannot be read: %(why)s.") % {"why": error.strerror or error}) from error
    if len(data) > MAX_BYTES:
        raise ImageError(_too_many_bytes())
    if not data:
        raise ImageError(gettext("The file is empty."))
    return data


def _decode(data: bytes, shorter_px: int | None = None) -> tuple[str, Image.Image]:
    """(format, RGB picture) of bytes that nobody has looked at yet."""
    try:
        with Image.open(io.BytesIO(data), formats=list(EXTENSIONS)) as image:
            kind = image.format or ""
            _check_size(*image.size)
            _check_whole(kind, data)
            if shorter_px is not None and kind == "JPEG" and min(image.size) > shorter_px:
                # Rounded up: the decoder stops at the smallest scale that is not below the size asked for.
                width, height = (-(-side * shorter_px // min(image.size)) for side in image.size)
                image.draft("RGB", (width, height))
            image.load()
            return kind, _to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_what_it_is_instead(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_many_pixels()) from error
    # Decoders meet hostile bytes with whatever their author forgot: OSError, SyntaxError, ValueError,
    # struct.error, IndexError, OverflowError, MemoryError... To us every one of them means the same.
    except Exception as error:
        raise ImageError(gettext("The picture is damaged or incomplete and cannot be decoded.")) from error


def _check_size(width: int, height: int) -> None:
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX:
        said = gettext("The picture is %(width)d × %(height)d pixels; a side may have %(limit)s.")
        raise ImageError(said % {"width": width, "height": height, "limit": f"{MAX_SIDE_PX:,}"})
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels())


def _too_many_pixels() -> str:
    return gettext("The picture has more than %(limit)d megapixels.") % {"limit": MAX_PIXELS // 1_000_000}


def _too_many_bytes() -> str:
    return gettext("The file is larger than %(limit)d MiB.") % {"limit": MAX_BYTES // 2**20}


def _check_whole(kind: str, data: bytes) -> None:
    """Refuse what can be seen to be cut off without decoding: decoders are lenient about the last bytes."""
    whole = True
    if kind == "JPEG":
        scans, whole = _walk_jpeg(data)
        if scans > MAX_JPEG_SCANS:
            said = gettext("The JPEG has %(scans)d scans; %(limit)d are allowed.")
            raise ImageError(said % {"scans": scans, "limit": MAX_JPEG_SCANS})
    elif kind == "PNG":
        whole = b"\0\0\0\0IEND\xae\x42\x60\x82" in data
    elif kind == "WEBP":
        whole = len(data) >= int.from_bytes(data[4:8], "little") + 8
    if not whole:
        raise ImageError(gettext("The picture is incomplete: its end is missing."))


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker that ends a stretch of entropy-coded data: there 0xFF is followed by 0x00 or a restart marker.

It begins with one plain byte, for which `re` looks at the speed of memchr.
"""


def _walk_jpeg(data: bytes) -> tuple[int, bool]:
    """(number of scans, whether the end-of-image marker is there), from the markers alone."""
    scans, position = 0, 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[0][1], found.end()
        if marker == 0xD9:
            return scans, True
        if marker in (0x01, 0xD8):
            continue
        scans += marker == 0xDA
        # Segments carry their length, so that the markers of an embedded preview are stepped over.
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans, False


def _what_it_is_instead(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return gettext("This is a web page, not a picture.")
    if start.startswith((b"<?xml", b"<svg")):
        return gettext("SVG is not taken; JPEG, PNG, WebP and GIF are.")
    return gettext("This is not a JPEG, PNG, WebP or GIF picture, or its beginning is damaged.")


def _to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as RGB, upright, on white."""
    if image.mode.startswith(("I", "F")):
        # Greyscale of 16 bits: Pillow's own conversion to 8 clips everything above 255 to white.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    turn = _TURNS.get(_orientation(image))
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
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - EXIF that cannot be read says nothing about the pixels
        return 1


# --- how it is kept -----------------------------------------------------------------------------
def store(verified: VerifiedImage) -> StoredImage:
    """Put the original and its thumbnail under MEDIA_ROOT, where they are not there yet.

    Names are made of the content; a file that no longer has its content is written again.
    """
    digest = verified.sha256
    stored = StoredImage(
        image=f"images/{digest[:2]}/{digest}.{EXTENSIONS[verified.format]}",
        thumbnail=f"thumbnails/{digest[:2]}/{digest}.webp",
        width=verified.width,
        height=verified.height,
        sha256=digest,
    )
    media = Path(settings.MEDIA_ROOT)
    if not _holds(media / stored.image, verified.data):
        replace_file(media / stored.image, verified.data)
    if not _is_there(media / stored.thumbnail):
        replace_file(media / stored.thumbnail, _thumbnail(verified))
    return stored


def are_stored(*names: str) -> bool:
    """Whether all of these files lie under MEDIA_ROOT."""
    media = str(settings.MEDIA_ROOT)
    return all(names) and all(_is_there(f"{media}/{name}") for name in names)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _is_there(path: Path | str) -> bool:
    try:
        return os.stat(path).st_size > 0  # noqa: PTH116 - called for every product of an import
    except OSError:
        return False


def _thumbnail(verified: VerifiedImage) -> bytes:
    return encode_small(verified.image, fitted((verified.width, verified.height), THUMBNAIL_SIDE_PX))


def encode_small(image: Image.Image, size: tuple[int, int]) -> bytes:
    """An RGB picture as a WebP of that size, as pages show it."""
    small = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=_THUMBNAIL_QUALITY, method=_THUMBNAIL_METHOD)
    return buffer.getvalue()


# --- whose it becomes ---------------------------------------------------------------------------
_ACCEPTED_FIELDS = [
    "image",
    "thumbnail",
    "image_width",
    "image_height",
    "image_sha256",
    "image_source",
    "image_error",
    "embedding_row",
    "updated_at",
]


_ROWS_AT_ONCE = 500
BY_HAND = "upload:"
"""How the source of a picture begins that somebody gave a product by hand."""
REMOVED = f"{BY_HAND}none"
"""The source of the picture of a product whose picture was taken away by hand."""


def accept(acceptances: Iterable[Acceptance], *, announced: bool = True) -> set[int]:
    """Give stored pictures to their products, in one transaction. The primary keys whose picture changed.

    A picture of another SHA-256 draws a new embedding row; the same picture again keeps its row. `announced`: whether
    `pictures_changed` is sent.
    """
    wanted = {acceptance.product: acceptance for acceptance in acceptances}
    if not wanted:
        return set()
    with transaction.atomic():
        products = list(Product.objects.select_for_update().filter(pk__in=wanted).order_by("pk"))
        changed = [
            product
            for product in products
            if product.embedding_row is None or product.image_sha256 != wanted[product.pk].stored.sha256
        ]
        rows = RowCounter.draw(len(changed)) if changed else range(0)
        for product, row in zip(changed, rows, strict=True):
            product.embedding_row = row
        now = timezone.now()
        for product in products:
            _give(product, wanted[product.pk])
            product.updated_at = now
        Product.objects.bulk_update(products, _ACCEPTED_FIELDS)
        if changed and announced:
            pictures_changed.send(Product)
    return {product.pk for product in changed}


def _give(product: Product, acceptance: Acceptance) -> None:
    stored = acceptance.stored
    product.image.name = stored.image
    product.thumbnail.name = stored.thumbnail
    product.image_width, product.image_height = stored.width, stored.height
    product.image_sha256 = stored.sha256
    product.image_source = acceptance.source
    product.image_error = ""


def renew_rows(products: models.QuerySet[Product]) -> int:
    """Draw a new row for each of these products that has a picture, as if it were another one; how many there were.

    No space has an embedding for the new rows, so that whoever embeds next makes one.
    """
    with transaction.atomic():
        keys = list(products.filter(embedding_row__isnull=False).order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            some = list(Product.objects.select_for_update().filter(pk__in=keys[start : start + _ROWS_AT_ONCE]))
            for product, row in zip(some, RowCounter.draw(len(some)), strict=True):
                product.embedding_row = row
            Product.objects.bulk_update(some, ["embedding_row"])
        if keys:
            pictures_changed.send(Product)
    return len(keys)


def remove(product: Product) -> None:
    """Take a product's picture away, so that imports bring none until their file names another one.

    Its embedding row is not given again, and its files stay: other products may have the same.
    """
    product.image.name = product.thumbnail.name = product.image_sha256 = product.image_error = ""
    product.image_width = product.image_height = 0
    product.image_source = REMOVED
    product.embedding_row = None
    product.save(update_fields=_ACCEPTED_FIELDS)


def refuse(reasons: dict[int, str]) -> None:
    """Note why products' pictures were not taken. A good picture that a product has already stays."""
    with transaction.atomic():
        for product, reason in reasons.items():
            Product.objects.filter(pk=product).update(image_error=reason[:500], updated_at=timezone.now())
