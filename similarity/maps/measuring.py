"""How many neighbours a map keeps. Pure NumPy."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from similarity.maps.cells import CELL_HEIGHT, CELL_WIDTH, Cells
from similarity.vectors import Matrix

K, WIDER = 10, 30
SAMPLE = 1000
"""How many pictures are asked, where there are more."""
_CHUNK = 32


@dataclass(frozen=True)
class Quality:
    """What share of the 10 nearest in looks is among the 10 and 30 nearest on the map; and its trustworthiness.

    Trustworthiness (Venna and Kaski, 2001) is 1 where the 10 nearest on the map are the 10 nearest in looks, and loses
    the more the further away in looks one of them is. None where there are too few pictures to say.
    """

    within_10: float | None
    within_30: float | None
    trustworthiness: float | None
    asked: int

    def to_json(self) -> dict[str, float | int | None]:
        return asdict(self)


def measure(looks: Matrix, cells: Cells) -> Quality:
    """Of looks (n, dimension) and their cells (n, 2), asked of a sample."""
    count = len(looks)
    if count <= 2 * K:
        return Quality(None, None, None, count)
    asked = np.arange(count)
    if count > SAMPLE:
        asked = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
    places = cells.astype(np.float64) * [CELL_WIDTH, CELL_HEIGHT]
    kept, kept_wider, lost = 0, 0, 0
    for start in range(0, len(asked), _CHUNK):
        chunk = asked[start : start + _CHUNK]
        for one, scores in zip(chunk.tolist(), looks[chunk] @ looks.T, strict=True):
            scores[one] = -np.inf
            distances = ((places - places[one]) ** 2).sum(axis=1)
            distances[one] = np.inf
            near = np.argpartition(-scores, K)[:K]
            on_map = _nearest(distances, min(WIDER, count - 1))
            kept += len(np.intersect1d(near, on_map[:K]))
            kept_wider += len(np.intersect1d(near, on_map))
            ranks = 1 + (scores > scores[on_map[:K], np.newaxis]).sum(axis=1)
            lost += int(np.maximum(ranks - K, 0).sum())
    size = len(asked)
    worst = size * K * (2 * count - 3 * K - 1) / 2
    return Quality(round(kept / size / K, 4), round(kept_wider / size / K, 4), round(1 - lost / worst, 4), size)


def _nearest(distances: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Positions of the `count` smallest, the smallest first."""
    found = np.argpartition(distances, count - 1)[:count]
    ordered: NDArray[np.int64] = found[np.argsort(distances[found], kind="stable")]
    return ordered
