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
    """Of looks (n, dimension) and their cells (n, 2), asked of a sample; ties go to the smaller position."""
    count = len(looks)
    asked = np.arange(count)
    if count > SAMPLE:
        asked = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
    if count <= 2 * K:
        return Quality(None, None, None, count)
    places = cells.astype(np.float64) * [CELL_WIDTH, CELL_HEIGHT]
    kept, kept_wider, lost = 0, 0, 0.0
    for one in asked.tolist():
        near = _order(-(looks @ looks[one]), one)
        near_on_map = _order(((places - places[one]) ** 2).sum(axis=1), one)
        kept += len(np.intersect1d(near[:K], near_on_map[:K]))
        kept_wider += len(np.intersect1d(near[:K], near_on_map[:WIDER]))
        ranks = np.empty(count, dtype=np.int64)
        ranks[near] = np.arange(1, count)
        lost += np.maximum(ranks[near_on_map[:K]] - K, 0).sum()
    size = len(asked)
    worst = size * K * (2 * count - 3 * K - 1) / 2
    return Quality(round(kept / size / K, 4), round(kept_wider / size / K, 4), round(1 - lost / worst, 4), size)


def _order(distances: NDArray[np.floating], own: int) -> NDArray[np.int64]:
    """All positions but its own, the nearest first."""
    order = np.argsort(distances, kind="stable")
    others: NDArray[np.int64] = order[order != own]
    return others
