"""Pictures: what may come in, how it is kept, and whose it becomes.

The way of every picture, imported or uploaded: bytes → `verify` (checked before decoding, then really decoded in a
process of its own, metadata left behind) → `store` (original and thumbnail under names made of the SHA-256) → `accept`
(the product has it).
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from PIL import Image

from catalog import decoder, decoding
from catalog.decoding import EXTENSIONS, MAX_BYTES
from catalog.files import replace_file
from catalog.metrics import refused
from catalog.models import THUMBNAIL_SIDE_PX, Product, RowCounter, fitted
from catalog.signals import pictures_changed

_THUMBNAIL_QUALITY = 80
_THUMBNAIL_METHOD = 2
"""WebP's effort, 0 to 6. The library's own choice, 4, takes nearly twice the time of 2 for files 4 % smaller, and was
half the work of storing a picture."""


class ImageError(Exception):
    """Why a picture is not taken: one short sentence for people."""


@dataclass(frozen=True, eq=False)
class VerifiedImage:
    """A picture that was really decoded; `width` and `height` as people see it (after EXIF orientation).

    `data` is the file as it is kept: without metadata, which `sha256` is of.
    """

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
    """Check the bytes before decoding them, decode them in a process of its own, and say what they are.

    Raises ImageError with a sentence for people.
    """
    with _in_words():
        kind, image, kept = decoder.take(data)
    return VerifiedImage(
        data=kept,
        format=kind,
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(kept).hexdigest(),
        image=image,
    )


def open_rgb(path: Path, shorter_px: int | None = None) -> Image.Image:
    """The picture in one of our own files, once verified, as RGB: upright, transparency on white, first frame. Raises
    ImageError. `shorter_px` as for `decoding.decode`.
    """
    with _in_words():
        return decoding.decode(read(path), shorter_px)[1]


def read(path: Path) -> bytes:
    """The bytes of a picture's file, never many more than are allowed. Raises ImageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(gettext("The file cannot be read: %(why)s.") % {"why": error.strerror or error}) from error
    with _in_words():
        decoding.check_length(len(data))
    return data


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except decoding.Refused as error:
        refused("picture", decoding.REASONS[error.sentence])
        raise ImageError(gettext(error.sentence) % error.values if error.values else gettext(error.sentence)) from error


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
