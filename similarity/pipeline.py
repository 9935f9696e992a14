"""Embedding: pictures on disk → vectors in spaces, once for all spaces, a batch at a time.

Pictures are decoded and prepared by a few threads, a bounded number of them ahead of the network. What a batch
has given is on the disk before the next one begins, so that a process killed anywhere loses one batch at most.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from catalog.images import ImageError, open_rgb
from catalog.memory import keep_freed_memory
from similarity import products
from similarity.embedders import Embedder
from similarity.products import Pictures
from similarity.spaces import Entries, Space, SpaceWriter

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

DECODERS = os.cpu_count() or 1
CALIBRATION = 64
"""Pictures that int8 is fitted on."""
AHEAD = 2
"""Batches of prepared pictures that wait for the network, beyond those it works on."""


@dataclass(frozen=True)
class Batch:
    """How many pictures a batch has embedded, and how many could not be read."""

    embedded: int
    failed: int


@dataclass(frozen=True)
class Work:
    """What is to be embedded: `missing[part]` (n,) says which of the pictures lack a vector in that space.

    `held`: what the spaces held when that was found out.
    """

    pictures: Pictures
    missing: Mapping[str, NDArray[np.bool_]]
    held: Mapping[str, Entries]

    def __len__(self) -> int:
        return len(self.pictures)


def plan_work(pictures: Pictures, spaces: Mapping[str, Space], *, full: bool = False) -> Work:
    """The pictures that some space lacks; all of them under `full`."""
    held = {part: space.read(verify=True) for part, space in spaces.items()}
    missing = {}
    for part, entries in held.items():
        absent = np.ones(len(pictures), dtype=bool)
        missing[part] = absent if full else entries.find(pictures.rows, pictures.digests) < 0
    wanted = np.any(list(missing.values()), axis=0)
    return Work(
        Pictures(pictures.rows[wanted], pictures.digests[wanted]),
        {part: absent[wanted] for part, absent in missing.items()},
        held,
    )


def embed(work: Work, embedders: Mapping[str, Embedder], writers: Mapping[str, SpaceWriter]) -> Iterator[Batch]:
    """Do the work, a batch at a time; each batch is on the disk when it is yielded.

    Networks that can work on several batches at once have them; results are written in order.
    """
    keep_freed_memory()
    under_way: deque[_UnderWay] = deque()
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
        prepared = _prepare_ahead(pool, work, embedders)
        while batch := list(islice(prepared, batch_size(embedders))):
            under_way.append(_submit(batch, embedders))
            if len(under_way) >= max(embedder.lanes for embedder in embedders.values()):
                yield _write(under_way.popleft(), work, embedders, writers)
        while under_way:
            yield _write(under_way.popleft(), work, embedders, writers)


def batch_size(embedders: Mapping[str, Embedder]) -> int:
    return max(embedder.batch for embedder in embedders.values())


def calibrate(work: Work, embedders: Mapping[str, Embedder]) -> None:
    """Show the embedders pictures from all over the work, before it begins."""
    some = np.unique(np.linspace(0, len(work) - 1, CALIBRATION, dtype=np.int64)) if len(work) else np.empty(0, int)

    def images() -> Iterator[Image.Image]:
        for _, path in products.picture_paths(work.pictures.rows[some]):
            with contextlib.suppress(ImageError):
                yield open_rgb(path, decoded_px(embedders))

    for embedder in embedders.values():
        embedder.calibrate(images())


@dataclass(frozen=True)
class _UnderWay:
    """A batch in the networks: for each part, which of its pictures, and what is being made of them."""

    size: int
    unreadable: dict[int, str]
    """Positions in the work, and why."""
    parts: dict[str, tuple[list[int], Future[NDArray[np.float32]]]]


def _submit(batch: list[Prepared], embedders: Mapping[str, Embedder]) -> _UnderWay:
    parts = {}
    for part, embedder in embedders.items():
        lacking = [item for item in batch if part in item.arrays]
        if lacking:
            stacked = np.stack([item.arrays[part] for item in lacking])
            parts[part] = ([item.at for item in lacking], embedder.submit(stacked))
    return _UnderWay(len(batch), {item.at: item.trouble for item in batch if item.trouble}, parts)


def _write(done: _UnderWay, work: Work, embedders: Mapping[str, Embedder], writers: Mapping[str, SpaceWriter]) -> Batch:
    embedded = {
        part: (at, embedders[part].vectors(future.result()), embedders[part].computed_by)
        for part, (at, future) in done.parts.items()
    }
    return write(Embedded(done.size, done.unreadable, embedded), work, writers)


@dataclass(frozen=True)
class Embedded:
    """What was made of `size` pictures: positions in the work of those that cannot be read, and why; for each part the
    positions (n,), the vectors (n, dimension), and what has computed them."""

    size: int
    unreadable: dict[int, str]
    parts: dict[str, tuple[list[int], NDArray[np.float32], str]]


def write(done: Embedded, work: Work, writers: Mapping[str, SpaceWriter]) -> Batch:
    """Append it to the spaces; it is on the disk when this returns."""
    for part, (at, vectors, computed_by) in done.parts.items():
        writers[part].append(work.pictures.rows[at], work.pictures.digests[at], vectors, computed_by)
    if done.unreadable:
        rows = work.pictures.rows
        products.note_unreadable({int(rows[at]): reason for at, reason in done.unreadable.items()})
    return Batch(embedded=done.size - len(done.unreadable), failed=len(done.unreadable))


@dataclass(frozen=True)
class Prepared:
    """The picture at position `at` of the work, prepared for each part that lacks it; for none if unreadable."""

    at: int
    arrays: dict[str, NDArray[np.generic]]
    trouble: str = ""


def _prepare_ahead(pool: ThreadPoolExecutor, work: Work, embedders: Mapping[str, Embedder]) -> Iterator[Prepared]:
    """Prepared pictures in order, a bounded number of them ahead of whoever takes them."""
    shorter_px = decoded_px(embedders)
    missing = work.missing
    waiting: deque[Future[Prepared]] = deque()
    try:
        for at, path in products.picture_paths(work.pictures.rows):
            lacking = {part: embedder for part, embedder in embedders.items() if missing[part][at]}
            waiting.append(pool.submit(prepare, at, path, lacking, shorter_px))
            if len(waiting) >= AHEAD * batch_size(embedders):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def prepare(at: int, path: Path, lacking: Mapping[str, Embedder], shorter_px: int | None) -> Prepared:
    """Decode a picture, once, and make ready what each of the embedders is to see."""
    try:
        image = open_rgb(path, shorter_px)
    except ImageError as error:
        logger.warning("The picture %s cannot be embedded: %s", path, error)
        return Prepared(at, {}, str(error))
    return Prepared(at, {part: embedder.prepare(image) for part, embedder in lacking.items()})


def decoded_px(embedders: Mapping[str, Embedder]) -> int | None:
    """The shorter side that decoding may stop at: twice what is asked for keeps the neighbours (see docs)."""
    wanted = [embedder.shorter_px for embedder in embedders.values()]
    return None if None in wanted else 2 * max(px for px in wanted if px is not None)
