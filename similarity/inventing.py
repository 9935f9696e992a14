"""Inventing products for trials: rows of the catalogue without pictures, and embeddings grown from the real ones'.

They are told from real ones by their ids, and by the digests of pictures that never were.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings

from similarity import products
from similarity.builds import build_lock
from similarity.growing import Growth, Seeds, grow, growths, likeness, local_dimension
from similarity.serving import LiveIndex, get_index
from similarity.spaces import Space
from similarity.vectors import Matrix

MOST_SEEDS = 4000
"""Real products that others are grown from."""
CHECKED = 2000
"""Products by which likeness is told."""
VARIED = 0.05
"""The share that has the colour of another product's."""


@dataclass(frozen=True)
class Invented:
    """What was made. Likeness: rank → median cosine with the neighbour of that rank, among as many of each."""

    count: int
    source: int
    source_likeness: dict[int, float]
    likeness: dict[int, float]
    source_dimension: float
    dimension: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def invent(
    count: int, seed: int = 0, *, remove: bool = False, progress: Callable[[int], object] = lambda done: None
) -> Invented:
    """Add so many products and their vectors. Every one that `progress` was told of is kept if this is killed.

    Raises ValueError where products were invented with this seed before, or too few real ones have looks; BuildError
    where nothing is built; else as `build_index` does.
    """
    started = time.monotonic()
    live = get_index()
    with build_lock():
        if remove:
            products.remove_invented()
        elif products.is_invented(seed):
            raise ValueError(
                f"There are invented products with the seed {seed} already: give --remove, or another --seed."
            )
        seeds, vectors, labels = _source(live, seed)
        random = np.random.default_rng([seed, 1])
        spaces = _spaces(live)
        number = 0
        with ExitStack() as stack:
            writers = {part: stack.enter_context(space.writing()) for part, space in spaces.items()}
            for some in growths(seeds, count, seed):
                digests = [
                    hashlib.sha256(f"invented {seed} {number + at}".encode()).digest()
                    for at in range(len(some.parents))
                ]
                rows = products.draw_rows(len(digests))
                of_pictures = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
                for part, writer in writers.items():
                    writer.append(rows, of_pictures, some.of(vectors[part]), "invented")
                products.add_invented(seed, number, rows, of_pictures, _labels(some, labels, random))
                number += len(rows)
                progress(len(rows))
    checked = min(CHECKED, len(seeds.looks))
    real, (grown, _) = seeds.looks[:checked], grow(seeds, checked, seed, copies=0.0)
    return Invented(
        count,
        len(seeds.looks),
        likeness(real),
        likeness(grown),
        local_dimension(real),
        local_dimension(grown),
        round(time.monotonic() - started, 1),
    )


def _spaces(live: LiveIndex) -> dict[str, Space]:
    root = Path(settings.SIMILARITY["SPACES_DIR"])
    return {part: Space(root, identity) for part, identity in live.build.manifest.identities.items()}


def _source(live: LiveIndex, seed: int) -> tuple[Seeds, dict[str, Matrix], dict[str, list[str]]]:
    """The real products' looks in random order, their vectors in each space, and their labels with their titles."""
    real = products.real_rows(live.build.rows)
    some = np.random.default_rng(seed).permutation(real)[:MOST_SEEDS]
    at = live.build.positions_of(some)
    rows, digests = live.build.rows[at], live.build.digests[at]
    seeds = Seeds.of(live.build.index.reconstruct(at), seed)
    vectors = {}
    for part, space in _spaces(live).items():
        held = space.read()
        vectors[part] = held.take(held.find(rows, digests))
    return seeds, vectors, {**products.labels_of(rows), "title": products.titles_of(rows)}


def _labels(some: Growth, labels: dict[str, list[str]], random: np.random.Generator) -> dict[str, list[str]]:
    """The parents', a few with another colour."""
    found = {name: [values[parent] for parent in some.parents.tolist()] for name, values in labels.items()}
    for at in np.flatnonzero(random.random(len(some.parents)) < VARIED).tolist():
        found["colour"][at] = labels["colour"][int(random.integers(len(labels["colour"])))]
    return found
