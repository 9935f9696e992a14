"""Growing many looks from few, for trials at sizes that nobody has pictures for. Pure NumPy.

A new look lies between a real one and some of its neighbours, as a piece of the same kind would, and a little off, in
the directions in which its neighbours differ from it. How far off is found by trial: grown looks, as many as the real
ones, are as like their nearest as those are to theirs. A share of them are nearly copies, as in real catalogues.

A look so made is a weighted sum of real ones. The same sum of what other spaces say of these is that product's vector
there, so that a grown product is of one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from similarity.vectors import Matrix, unit

NEIGHBOURS = 24
"""Of so many nearest, some are mixed in."""
PARENTS = 3
COPIES = 0.2
COPY_NOISE = 0.05
"""A near copy's distance from what it copies, where a whole look's length is 1."""
RANKS = (1, 10, 100)
LOCAL = 20
"""Neighbours that tell how many dimensions a place has."""
_SAMPLE = 2000
_CHUNK = 8192


@dataclass(frozen=True)
class Seeds:
    """The real looks (n, dim) at length 1, the positions (n, NEIGHBOURS) of the nearest of each, and how far off new
    ones are put."""

    looks: Matrix
    nearest: NDArray[np.int64]
    noise: float

    @classmethod
    def of(cls, looks: Matrix, seed: int = 0) -> Seeds:
        """Raises ValueError for too few looks to have so many neighbours."""
        if len(looks) <= NEIGHBOURS:
            raise ValueError(f"{len(looks)} looks are too few to grow others from: at least {NEIGHBOURS + 1}.")
        looks = unit(looks)
        nearest = _nearest(looks, looks, NEIGHBOURS + 1)[:, 1:]
        sample = min(len(looks), _SAMPLE)
        wanted = likeness(looks[np.random.default_rng(seed).permutation(len(looks))[:sample]])[10]
        low, high = 0.0, 2.0
        for _ in range(8):  # to less than a hundredth
            noise = (low + high) / 2
            grown, _parents = grow(cls(looks, nearest, noise), sample, seed, copies=0.0)
            low, high = (noise, high) if likeness(grown)[10] > wanted else (low, noise)
        return cls(looks, nearest, (low + high) / 2)


@dataclass(frozen=True, eq=False)
class Growth:
    """Some grown products: the real one (m,) that each is of the kind of, and the weights (m, n) of the real ones that
    it is made of. Those that are `copies` (m,) of others are a little off in every space on its own."""

    parents: NDArray[np.int64]
    weights: Matrix
    copies: NDArray[np.bool_]
    random: np.random.Generator

    def of(self, vectors: Matrix) -> Matrix:
        """What a space that has vectors (n, dim) of the real products has of the grown ones: (m, dim) at length 1."""
        grown = unit(self.weights @ vectors)
        noise = self.random.normal(size=(int(self.copies.sum()), vectors.shape[1])).astype(np.float32)
        grown[self.copies] = unit(grown[self.copies] + COPY_NOISE * unit(noise))
        return grown


def growths(seeds: Seeds, count: int, seed: int = 0, *, copies: float = COPIES) -> Iterator[Growth]:
    """`count` products, some at a time."""
    random = np.random.default_rng(seed)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        of = random.integers(0, len(seeds.looks), size)
        weights = np.zeros((size, len(seeds.looks)), dtype=np.float32)
        line = np.arange(size)
        shares = random.dirichlet(np.ones(PARENTS + 1), size).astype(np.float32)
        around = seeds.nearest[of[:, np.newaxis], random.integers(0, NEIGHBOURS, (size, PARENTS))]
        np.add.at(weights, (line, of), shares[:, 0])
        for place in range(PARENTS):
            np.add.at(weights, (line, around[:, place]), shares[:, place + 1])
        steps = random.normal(size=(size, NEIGHBOURS)).astype(np.float32) * np.float32(seeds.noise / NEIGHBOURS**0.5)
        for place in range(NEIGHBOURS):
            np.add.at(weights, (line, seeds.nearest[of, place]), steps[:, place])
        np.add.at(weights, (line, of), -steps.sum(axis=1))
        copied = random.permutation(size)[: int(copies * size)]
        originals = np.setdiff1d(line, copied)
        if len(originals):
            source = originals[random.integers(0, len(originals), len(copied))]
            weights[copied], of[copied] = weights[source], of[source]
        yield Growth(of, weights, np.isin(line, copied) & bool(len(originals)), random)


def grow(seeds: Seeds, count: int, seed: int = 0, *, copies: float = COPIES) -> tuple[Matrix, NDArray[np.int64]]:
    """`count` looks (count, dim) at length 1, and the real look (count,) that each is of the kind of."""
    grown = np.empty((count, seeds.looks.shape[1]), dtype=np.float32)
    parents = np.empty(count, dtype=np.int64)
    done = 0
    for some in growths(seeds, count, seed, copies=copies):
        at = slice(done, done + len(some.parents))
        grown[at], parents[at] = some.of(seeds.looks), some.parents
        done = at.stop
    return grown, parents


def likeness(looks: Matrix) -> dict[int, float]:
    """Rank → the median cosine of looks (n, dim) with their neighbour of that rank, as far as there are so many."""
    ranks = [rank for rank in RANKS if rank < len(looks)]
    scores = np.sort(looks @ looks.T, axis=1)[:, ::-1]
    return {rank: float(np.median(scores[:, rank])) for rank in ranks}


def local_dimension(looks: Matrix) -> float:
    """How many dimensions the surroundings of looks (n, dim) at length 1 have, in the median (Levina and Bickel,
    "Maximum likelihood estimation of intrinsic dimension", 2004)."""
    cosines = np.sort(looks @ looks.T, axis=1)[:, ::-1][:, 1 : LOCAL + 1]
    distances = np.sqrt(np.maximum(2 - 2 * cosines, 1e-12))
    logs = np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    return float(np.median(1 / np.maximum(logs, 1e-6)))


def _nearest(queries: Matrix, looks: Matrix, k: int) -> NDArray[np.int64]:
    found = []
    for start in range(0, len(queries), _SAMPLE):
        scores = queries[start : start + _SAMPLE] @ looks.T
        found.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)
