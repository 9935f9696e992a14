"""A picture in the sizes that pages show it in: made when first asked for, kept beside the thumbnail.

    media/thumbnails/5e/5e1f….webp        the thumbnail, made when the picture came in
    media/thumbnails/5e/5e1f…-320.webp    a rendition, whose longest side has so many pixels

So an import pays for one size, and another set of sizes needs no migration.
"""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings

from catalog.decoding import EXTENSIONS
from catalog.files import replace_file
from catalog.images import ImageError, encode_small, open_rgb
from catalog.models import THUMBNAIL_SIDE_PX, Product, fitted

SMALL_PX, LARGE_PX = 320, 1200
"""Longest sides: a card on screens of one pixel per CSS pixel, and a product's page on those of two."""
NAMES = re.compile(rf"thumbnails/[0-9a-f]{{2}}/([0-9a-f]{{64}})-({SMALL_PX}|{LARGE_PX})\.webp")


def card_srcset(product: Product, thumbnail: str) -> str:
    """What a card's `srcset` offers: the small rendition and the thumbnail, which has that address; "" where these are
    the same."""
    size = (product.image_width, product.image_height)
    if max(size) <= SMALL_PX:
        return ""
    return _srcset((_url(thumbnail, SMALL_PX), fitted(size, SMALL_PX)), (thumbnail, product.thumbnail_size))


def page_srcset(product: Product) -> str:
    """What a product's page offers: the thumbnail, and the large rendition of a picture that is larger still."""
    size = (product.image_width, product.image_height)
    if not product.thumbnail or max(size) <= THUMBNAIL_SIDE_PX:
        return ""
    thumbnail = product.thumbnail.url
    offers = [(thumbnail, product.thumbnail_size)]
    if max(size) > LARGE_PX:
        offers.append((_url(thumbnail, LARGE_PX), fitted(size, LARGE_PX)))
    else:
        offers.append((product.image.url, size))
    return _srcset(*offers)


def _srcset(*offers: tuple[str, tuple[int, int]]) -> str:
    return ", ".join(f"{url} {width}w" for url, (width, _) in offers)


def _url(thumbnail: str, side_px: int) -> str:
    return f"{thumbnail.removesuffix('.webp')}-{side_px}.webp"


def make_rendition(name: str) -> bool:
    """Put the rendition of that name below MEDIA_ROOT, if its picture is there; whether it is there now."""
    asked = NAMES.fullmatch(name)
    if not asked:
        return False
    digest, side_px = asked[1], int(asked[2])
    media = Path(settings.MEDIA_ROOT)
    path = media / name
    if path.is_file():
        return True
    try:
        image = open_rgb(_source(media, digest, side_px), shorter_px=side_px)
    except ImageError:
        return False
    replace_file(path, encode_small(image, fitted(image.size, side_px)))
    return True


def _source(media: Path, digest: str, side_px: int) -> Path:
    """The smallest file that has as many pixels: the thumbnail, else the picture."""
    if side_px <= THUMBNAIL_SIDE_PX:
        return media / "thumbnails" / digest[:2] / f"{digest}.webp"
    candidates = [media / "images" / digest[:2] / f"{digest}.{extension}" for extension in EXTENSIONS.values()]
    return next((path for path in candidates if path.is_file()), candidates[0])
