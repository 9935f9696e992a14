"""Looks → points of a plane, by t-SNE (van der Maaten and Hinton, 2008; openTSNE, Poličar et al., 2024).

The one module that imports openTSNE, and with it scipy and scikit-learn; it is itself imported only to build a map.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from openTSNE import TSNEEmbedding, affinity, initialization, nearest_neighbors

from similarity.indexes import VectorIndex
from similarity.vectors import Matrix

PERPLEXITY = 30
NEIGHBOURS = 3 * PERPLEXITY
SEED = 0
FEWEST = 8
"""Fewer looks are laid out by their principal directions: nothing can be said of their neighbourhoods."""
EARLY_STEPS, EARLY_EXAGGERATION, STEPS = 250, 12, 500
_CHUNK = 1024

Points = NDArray[np.float64]
"""(n, 2)"""


def project(looks: Matrix, index: VectorIndex) -> Points:
    """Looks (n, dimension), none of them zeros, as the index holds them in its positions → points (n, 2).

    The same looks give the same points. The neighbourhoods are the index's own, under the default mix: the higher the
    score, the nearer. Principal directions come first, so that the large distances mean something too (Kobak and
    Linderman, 2021, "Initialization is critical for preserving global data structure").
    """
    if len(looks) < FEWEST:
        return _principal(looks)
    count = min(NEIGHBOURS, len(looks) - 1)
    positions, distances = _neighbours(looks, index, count)
    # openTSNE's own threads change no result: each point's forces are summed by one of them.
    threads = os.cpu_count() or 1
    affinities = affinity.PerplexityBasedNN(
        knn_index=nearest_neighbors.PrecomputedNeighbors(positions, distances),
        perplexity=min(PERPLEXITY, count / 3),
        n_jobs=threads,
        random_state=SEED,
    )
    start = initialization.pca(looks, random_state=SEED)
    embedding = TSNEEmbedding(start, affinities, n_jobs=threads, random_state=SEED)
    embedding.optimize(EARLY_STEPS, exaggeration=EARLY_EXAGGERATION, momentum=0.5, inplace=True)
    embedding.optimize(STEPS, momentum=0.8, inplace=True)
    return np.array(embedding, dtype=np.float64)


def _neighbours(looks: Matrix, index: VectorIndex, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions and distances (n, count) of each look's nearest others, the nearest first."""

    def search(start: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        found, scores = index.search(looks[start : start + _CHUNK], count + 1)
        own = np.arange(start, start + len(found))[:, np.newaxis]
        # Itself goes; where more copies of one picture stand before it than were asked for, the last one does.
        at = np.argsort(found == own, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(found, at, axis=1), np.take_along_axis(scores, at, axis=1)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        parts = list(pool.map(search, range(0, len(looks), _CHUNK)))
    positions = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts]).astype(np.float64)
    highest = float((looks.astype(np.float64) ** 2).sum(axis=1).max())
    return positions, np.sqrt(np.maximum(2 * (highest - scores), 0))


def _principal(looks: Matrix) -> Points:
    points = np.zeros((len(looks), 2))
    centred = looks.astype(np.float64) - looks.mean(axis=0, dtype=np.float64)
    if len(looks) > 1:
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        directions = min(2, len(s))
        points[:, :directions] = (u * s)[:, :directions]
    return points
