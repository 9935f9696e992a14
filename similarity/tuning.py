"""Which index a build gets: chosen by size and memory, measured, and searched harder until it finds what there is."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from similarity.calibration import LEAST_RECALL, exact_tenth, recall_of, sample_of
from similarity.indexes import VectorIndex, VectorIndexError, get_engine
from similarity.indexes.base import FLAT, EngineAway, Kept, Progress, TooFew, silently
from similarity.looks import Layout
from similarity.vectors import Matrix, Vectors, in_chunks

logger = logging.getLogger(__name__)

AUTO = "auto"
MEMORY_SHARE = 0.5
WANTED_RECALL = 0.995
"""What an approximate index is made to find where it can, so that .99 is certain, by however many looks it is asked."""
ASKED = 512
"""Looks that the index is asked with: what they find is within .001 of what all would (one standard error)."""


@dataclass(frozen=True)
class Tuning:
    """How an index came about. `chosen`: the factory string by setting or size; `factory`: the one that was kept.

    `effort`: how hard it searches, in the engine's measure, None where it is exact. `recall`: of the ten nearest under
    the default mix, the share that it finds, asked of `asked` looks.
    """

    chosen: str
    factory: str
    effort: int | None
    recall: float
    asked: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "exact": self.effort is None}


def chosen_factory(count: int, dimension: int) -> str:
    """As the settings say, else as it suits so many looks."""
    wanted: str = settings.SIMILARITY["INDEX"].get("FACTORY", AUTO)
    return wanted if wanted != AUTO else get_engine().choose(count, dimension, allowed_bytes())


def is_still_chosen(factory: str, count: int, dimension: int) -> bool:
    """Whether a build of that kind need not be made anew. How much memory is free at the moment is no reason to."""
    now = chosen_factory(count, dimension)
    if settings.SIMILARITY["INDEX"].get("FACTORY", AUTO) != AUTO:
        return factory == now
    return (factory == FLAT) == (now == FLAT)


def tuned_index(
    looks: Matrix | Vectors,
    layout: Layout,
    progress: Progress = silently,
    kept: Kept | None = None,
    engine: type[VectorIndex] | None = None,
) -> tuple[VectorIndex, Tuning]:
    """An index over looks (n, dimension) whose recall@10 under the default mix is LEAST_RECALL or more.

    One that finds less than WANTED_RECALL searches harder, and where that does not help enough, an exact one takes its
    place. `kept`: as `VectorIndex.build` has it. `engine`: another one than that of the settings, of the kind that
    it chooses itself. Raises ImproperlyConfigured where the settings name a factory string that the engine has not.
    """
    looks = in_chunks(looks)
    chosen = engine.choose(*looks.shape, allowed_bytes()) if engine else chosen_factory(*looks.shape)
    engine = engine or get_engine()
    try:
        index = engine.build(looks, chosen, progress, kept)
    except EngineAway:
        raise
    except TooFew as error:
        logger.warning("%s An exact index takes its place.", error)
        return engine.build(looks, FLAT, kept=kept), Tuning(chosen, FLAT, None, 1.0, 0)
    except VectorIndexError as error:
        raise ImproperlyConfigured(f"SIMILARITY['INDEX']['FACTORY'] (VITRINE_INDEX): {error}") from error
    if index.exact or not index.count:
        return index, Tuning(chosen, chosen, None, 1.0, 0)
    queries: Matrix = index.reconstruct(sample_of(index.count, ASKED)) * layout.query_weights(layout.default_mix)
    queries = queries[queries.any(axis=1)]
    tenth = exact_tenth(queries, index)
    recall = recall_of(index, queries, tenth)
    while recall < WANTED_RECALL and index.harder():
        recall = recall_of(index, queries, tenth)
    if recall >= LEAST_RECALL:
        return index, Tuning(chosen, chosen, index.effort, recall, len(queries))
    logger.warning(
        "An index %s over %d looks finds %.3f of the ten nearest, searching as hard as it can, and at least %.2f are "
        "asked for: an exact one takes its place.",
        *(chosen, index.count, recall, LEAST_RECALL),
    )
    index.forget()
    del index
    return engine.build(looks, FLAT, kept=kept), Tuning(chosen, FLAT, None, 1.0, len(queries))


def allowed_bytes() -> int | None:
    """What an index may take: as the settings say (INDEX's MEMORY_MIB), else half of what is there, as a machine is
    shared with everything else; None where nobody knows."""
    set_mib: int | None = settings.SIMILARITY["INDEX"].get("MEMORY_MIB")
    if set_mib:
        return set_mib * 2**20
    there = available_bytes()
    return None if there is None else int(MEMORY_SHARE * there)


def available_bytes() -> int | None:
    """The memory that is free or can be made so; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
