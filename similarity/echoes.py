"""Echoes: some pictures of the catalogue, saved anew as shops do it, and embedded again.

How like itself a picture remains when it is saved smaller, or cut a little closer, says from where on two pictures of
the catalogue may be called nearly the same. No label is asked.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catalog.files import replace_file
from catalog.images import ImageError, open_rgb
from similarity import products
from similarity.embedders import Embedder, EmbedderError
from similarity.products import Pictures
from similarity.spaces import Entries, Space
from similarity.vectors import Matrix

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

ECHOED, ECHOES = 24, 2
"""Pictures that have echoes, and how many each has."""
_NOTHING = np.empty((0, 0), np.float32)
SMALLER, QUALITY, CLOSER = 0.7, 70, 0.03
"""Of the echoes: scale and JPEG quality of the one, what is cut off at each edge of the other."""


def echoes_of(space: Space, held: Entries, embedder: Embedder, pictures: Pictures) -> tuple[Matrix, Matrix]:
    """(originals, echoes), each (m, dim), line by line; m is 0 where nothing could be embedded.

    `held` is what the space holds of the pictures. Echoes are made once and kept beside the space, for as long as
    half of their pictures are in it.
    """
    originals, echoes = kept_echoes(space, held)
    if ECHOES * min(ECHOED, len(pictures)) <= 2 * len(echoes):
        return originals, echoes
    some = np.unique(np.linspace(0, len(pictures) - 1, ECHOED, dtype=np.int64)) if len(pictures) else np.empty(0, int)
    rows, digests = pictures.rows[some], pictures.digests[some]
    of, prepared = [], []
    for position, file in products.picture_paths(rows):
        try:
            image = open_rgb(file)
        except ImageError:
            continue  # told by whoever embedded it
        for echo in _saved_anew(image):
            of.append(position)
            prepared.append(embedder.prepare(echo))
    if not prepared:
        return _NOTHING, _NOTHING
    try:
        vectors = embedder.vectors(embedder.submit(np.stack(prepared)).result())
    except EmbedderError as error:
        logger.warning("How alike nearly equal pictures are stays unknown: %s", error)
        return _NOTHING, _NOTHING
    buffer = io.BytesIO()
    np.savez(buffer, rows=rows[of], digests=digests[of], vectors=vectors)
    replace_file(_path(space), buffer.getvalue())
    return held.take(held.find(rows[of], digests[of])), vectors


def kept_echoes(space: Space, held: Entries) -> tuple[Matrix, Matrix]:
    """(originals, echoes) of those that were made formerly and whose pictures the space still holds."""
    try:
        with np.load(_path(space), allow_pickle=False) as kept:
            at = held.find(kept["rows"], kept["digests"])
            return held.take(at[at >= 0]), kept["vectors"][at >= 0]
    except (OSError, ValueError, KeyError):  # none yet, or not whole
        return _NOTHING, _NOTHING


def _path(space: Space) -> Path:
    return space.folder / "echoes.npz"


def _saved_anew(image: Image.Image) -> Iterator[Image.Image]:
    from PIL import Image as pillow

    width, height = image.size
    buffer = io.BytesIO()
    image.resize((max(1, round(SMALLER * width)), max(1, round(SMALLER * height)))).save(
        buffer, "JPEG", quality=QUALITY
    )
    yield pillow.open(buffer).convert("RGB")
    left, top = int(CLOSER * width), int(CLOSER * height)
    yield image.crop((left, top, width - left, height - top))
