"""Pictures that visitors search with: kept for an hour, so that another part or filter needs no second upload.

They lie below the data folder under names that nobody can guess, encoded anew: what else was in the file (where it was
taken, and by whom) is gone.
"""

from __future__ import annotations

import io
import logging
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext

from catalog.decoding import MAX_BYTES
from catalog.fetching import REFUSAL, fetch
from catalog.files import replace_file
from catalog.images import ImageError, open_rgb, verify

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile
    from PIL import Image

logger = logging.getLogger(__name__)

KEPT_S = 3600.0
MOST_KEPT = 300
"""When there are more, the oldest go: nobody fills the disk."""
LONGEST_PX = 1280
_TOKEN = re.compile(r"[\w-]{22}")


def read_given(upload: UploadedFile[bytes] | None, address: str) -> Image.Image:
    """The RGB picture that somebody has sent, else the one at the address. Raises ImageError."""
    if upload is not None:
        return verify(upload.read(MAX_BYTES + 1)).image
    data = fetch(address)
    try:
        return verify(data).image
    except ImageError as error:
        # What else lies there is nobody's business either: a page, a program's own words, another port's protocol.
        logger.info("No picture to search with: %r (%s)", address[:200], error)
        raise ImageError(gettext(REFUSAL)) from error


def keep(image: Image.Image) -> str:
    """Keep an RGB picture; the token under which it is found again."""
    small = image.copy()
    small.thumbnail((LONGEST_PX, LONGEST_PX))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=90, method=2)
    token = secrets.token_urlsafe(16)
    replace_file(_folder() / f"{token}.webp", buffer.getvalue())
    _forget()
    return token


def kept_path(token: str) -> Path | None:
    """The file of a picture that is still kept."""
    path = _folder() / f"{token}.webp"
    return path if _TOKEN.fullmatch(token) and _age(path) < KEPT_S else None


def kept_image(token: str) -> Image.Image | None:
    """The RGB picture, if it is still kept."""
    path = kept_path(token)
    try:
        return open_rgb(path) if path else None
    except ImageError:  # forgotten between the two
        return None


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "queries"


def _forget() -> None:
    """Remove what is too old, and the oldest of too many."""
    youngest_first = sorted(_folder().glob("*.webp"), key=_kept_at, reverse=True)
    for place, path in enumerate(youngest_first):
        if place >= MOST_KEPT or _age(path) >= KEPT_S:
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    return time.time() - _kept_at(path)


def _kept_at(path: Path) -> float:
    """When, in UNIX time; long ago where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
