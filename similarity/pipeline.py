"""Embedding: pictures on disk → vectors in spaces, once for all spaces, a batch at a time.

Pictures are decoded and prepared by a few threads, a bounded number of them ahead of the network. What a batch
has given is on the disk before the next one begins, so that a process killed anywhere loses one batch at most.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.images import ImageError, open_rgb
from similarity import products
from similarity.embedders import Embedder
from similarity.products import Pictures
from similarity.spaces import Space, SpaceWriter

logger = logging.getLogger(__name__)

BATCH = 16
DECODERS = 2


@dataclass(frozen=True)
class Batch:
    """How many pictures a batch has embedded, and how many could not be read."""

    embedded: int
    failed: int


@dataclass(frozen=True)
class Work:
    """What is to be embedded: `missing[part]` (n,) says which of the pictures lack a vector in that space."""

    pictures: Pictures
    missing: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.pictures)


def plan_work(pictures: Pictures, spaces: Mapping[str, Space], *, full: bool = False) -> Work:
    """The pictures that some space lacks; all of them under `full`."""
    missing = {}
    for part, space in spaces.items():
        absent = np.ones(len(pictures), dtype=bool)
        if not full:
            absent = space.read().find(pictures.rows, pictures.digests) < 0
        missing[part] = absent
    wanted = np.any(list(missing.values()), axis=0)
    return Work(
        Pictures(pictures.rows[wanted], pictures.digests[wanted]),
        {part: absent[wanted] for part, absent in missing.items()},
    )


def embed(work: Work, embedders: Mapping[str, Embedder], writers: Mapping[str, SpaceWriter]) -> Iterator[Batch]:
    """Do the work, a batch at a time; each batch is on the disk when it is yielded."""
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
        prepared = _prepare_ahead(pool, work, embedders)
        while batch := list(islice(prepared, BATCH)):
            for part, embedder in embedders.items():
                lacking = [item for item in batch if part in item.arrays]
                if not lacking:
                    continue
                vectors = embedder.embed_prepared([item.arrays[part] for item in lacking])
                at = np.array([item.at for item in lacking])
                writers[part].append(work.pictures.rows[at], work.pictures.digests[at], vectors)
            failed = sum(not item.arrays for item in batch)
            yield Batch(embedded=len(batch) - failed, failed=failed)


@dataclass(frozen=True)
class _Prepared:
    """The picture at position `at` of the work, prepared for each part that lacks it; for none if unreadable."""

    at: int
    arrays: dict[str, NDArray[np.generic]]


def _prepare_ahead(pool: ThreadPoolExecutor, work: Work, embedders: Mapping[str, Embedder]) -> Iterator[_Prepared]:
    """Prepared pictures in order, never more than two batches ahead of whoever takes them."""

    def prepare(at: int, path: Path) -> _Prepared:
        try:
            image = open_rgb(path)
        except ImageError as error:
            logger.warning("The picture %s cannot be embedded: %s", path, error)
            return _Prepared(at, {})
        return _Prepared(
            at, {part: embedder.prepare(image) for part, embedder in embedders.items() if work.missing[part][at]}
        )

    waiting: deque[Future[_Prepared]] = deque()
    try:
        for at, path in products.picture_paths(work.pictures.rows):
            waiting.append(pool.submit(prepare, at, path))
            if len(waiting) >= 2 * BATCH:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
