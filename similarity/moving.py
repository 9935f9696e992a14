"""Moving a published index to another engine: the same looks, in the same order, under the same transforms.

What comes out is a build like any other, which nobody answers from until it is published: servers switch at their next
question, and go back as from any build. It is stored only if it answers as the present one does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similarity.builds import (
    Build,
    BuildError,
    Ingredients,
    Manifest,
    build_lock,
    builds_dir,
    give_back_begun,
    open_current,
    remove_unfinished,
    store_build,
)
from similarity.calibration import LEAST_RECALL, calibrate
from similarity.cells import Cells
from similarity.indexes import VectorIndex, engine_name, engine_path, get_engine
from similarity.indexes.base import Kept
from similarity.planning import search
from similarity.publishing import publish
from similarity.tuning import tuned_index
from similarity.vectors import Matrix, groups_of

SAMPLE = 1000
"""Products whose answers are compared."""
HITS = 10
CLOSE = 1e-4
"""Scores that differ by less are the same: engines add up in different orders."""
_CHUNK = 16_384


@dataclass(frozen=True)
class Agreement:
    """Of `asked` looks, `equal` have the same ten nearest scores in both engines; `found` is the share of the former
    engine's ten nearest that the new one finds."""

    asked: int
    equal: int
    found: float


@dataclass(frozen=True)
class Move:
    """What `move_index` did. `former` is the build that was copied, `index` the one that holds its looks now."""

    former: str
    index: str
    name: str
    engine: str
    looks: int
    kind: dict[str, Any]
    agreement: Agreement
    published: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "agreement": vars(self.agreement)}


@dataclass(frozen=True, eq=False)
class _Held:
    """The looks of an index, some at a time."""

    index: VectorIndex

    @property
    def shape(self) -> tuple[int, int]:
        return self.index.count, self.index.dimension

    def chunks(self, start: int = 0) -> Iterator[Matrix]:
        for at in range(start, self.index.count, _CHUNK):
            yield self.index.chunk(at, min(at + _CHUNK, self.index.count))


def move_index(
    to: str,
    *,
    publishing: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
    wait_s: float = 0.0,
) -> Move:
    """Copy the published looks to the engine `to` (its name or dotted path), and compare how both answer.

    Killed anywhere, it goes on from there the next time. Raises BuildError where nothing is published, where the engine
    has the looks already, or where it answers otherwise; VectorIndexError where its server is away; BuilderBusy.
    """
    started = time.monotonic()
    engine = get_engine(to)
    with build_lock(wait_s):
        remove_unfinished()
        former = open_current()
        manifest = former.manifest
        if manifest.engine == engine_path(to):
            raise BuildError(f"The looks of index {manifest.id} lie in {engine_name(manifest.engine)} already.")
        kept = Kept(builds_dir() / "unfinished-move", f"{manifest.id} {engine.dotted_path()}")
        give_back_begun(kept.folder, engine)
        looks = _Held(former.index)
        index, tuning = tuned_index(looks, former.layout, lambda done: progress(done, former.index.count), kept, engine)
        cells = Cells.of(index, former.cells.starts) if former.cells is not None and not index.exact else None
        agreement = _compared(former, index, cells)
        if agreement.found < LEAST_RECALL:
            index.forget()
            raise BuildError(
                f"{engine_name(engine.dotted_path())} finds {agreement.found:.4f} of what {manifest.id} finds, asked "
                f"of {agreement.asked} products, and at least {LEAST_RECALL} are asked for. Nothing was changed."
            )
        near_duplicates = former.calibration.near_duplicates
        calibration = calibrate(groups_of(former.digests), former.layout, index, near_duplicates, cells)
        moved = store_build(_ingredients(former, index, cells, calibration.to_json(), tuning.to_json()))
        if publishing:
            publish(moved)
    return Move(
        former=manifest.id,
        index=moved.id,
        name=moved.name,
        engine=engine_name(moved.engine),
        looks=moved.count,
        kind=tuning.to_json(),
        agreement=agreement,
        published=publishing,
        seconds=round(time.monotonic() - started, 1),
    )


def _ingredients(
    former: Build, index: VectorIndex, cells: Cells | None, calibration: dict[str, Any], tuning: dict[str, Any]
) -> Ingredients:
    made: Manifest = former.manifest
    return Ingredients(
        name=made.name,
        model=made.model,
        identities=made.identities,
        spaces=made.spaces,
        seen=made.seen,
        layout=former.layout,
        index=index,
        rows=np.asarray(former.rows),
        digests=np.asarray(former.digests),
        labels_sha256=made.labels_sha256,
        fit={**made.fit, "calibration": calibration, "index": tuning, "moved_from": made.id},
        cells=cells,
    )


def _compared(former: Build, index: VectorIndex, cells: Cells | None) -> Agreement:
    """How the index answers, held against the build that it is a copy of: the same questions to both."""
    some: NDArray[np.int64] = np.sort(np.random.default_rng(0).permutation(index.count)[:SAMPLE])
    queries = former.index.reconstruct(some) * former.layout.query_weights(former.layout.default_mix)
    queries = queries[queries.any(axis=1)]
    if not len(queries):
        return Agreement(0, 0, 1.0)
    equal, shares = 0, []
    for query in queries:
        wanted = search(former.index, former.cells, query, HITS).scores
        found = search(index, cells, query, HITS).scores
        equal += bool(len(found) == len(wanted) and np.allclose(found, wanted, rtol=0, atol=CLOSE))
        shares.append(float((found >= wanted[-1] - CLOSE).mean()))
    return Agreement(len(queries), equal, round(float(np.mean(shares)), 4))
