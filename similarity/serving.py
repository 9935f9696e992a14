"""The index of this process: one, opened when first asked for, replaced when a new build is published.

The only state is `_holder`. Every question looks at one file's `stat`; a new build is opened beside the old
one, which goes on answering until the new one stands, and also when the new one cannot be opened.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.signals import setting_changed
from numpy.typing import NDArray

from similarity import planning
from similarity.builds import Build, BuildError, NoBuild, current_path, former_manifests, open_build, open_current
from similarity.indexes.base import VectorIndexError, exact_search
from similarity.planning import Plan, Selection
from similarity.products import Columns, places_of_rows
from similarity.spaces import Entries, Space, SpaceError
from similarity.vectors import Digests, Matrix, Rows, find_rows

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 30.0
"""How long a build that could not be opened is left alone, so that not every page verifies it again."""
MOST_KEPT = 32
"""Selections that are kept, a byte a look each."""


@dataclass(frozen=True)
class Tail:
    """Looks of pictures that are younger than the build, made with the build's own transforms.

    `rows` (n,), `digests` (n, 32), `looks` (n, dimension); `incomplete` (n,): a part of it may still be written.
    """

    rows: Rows
    digests: Digests
    looks: Matrix
    incomplete: NDArray[np.bool_]

    @cached_property
    def waits(self) -> bool:
        """Whether a part of one of them may still be written."""
        return bool(self.incomplete.any())


@dataclass(frozen=True)
class Hits:
    """Candidates for matches, best first: `rows` (n,), `digests` (n, 32), `scores` (n,), `looks` (n, dimension).

    `plan` tells how they were looked for in the build.
    """

    rows: Rows
    digests: Digests
    scores: NDArray[np.float32]
    looks: Matrix
    plan: Plan


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which looks may answer: of the build, and which lines of a tail (t,)."""

    selection: Selection
    tail: Tail
    young: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Placed:
    """Where in the catalogue's columns the products stand that the looks are of: `build` (count,) and `young` (t,),
    -1 where nobody shows the picture any more. `chosen`: selections of those very columns."""

    columns: Columns
    tail: Tail
    build: NDArray[np.int32]
    young: NDArray[np.int32]
    chosen: OrderedDict[Hashable, Chosen] = field(default_factory=OrderedDict)


class LiveIndex:
    """A build together with what has been embedded since."""

    def __init__(self, build: Build) -> None:
        self.build = build
        root = Path(settings.SIMILARITY["SPACES_DIR"])
        self._spaces = {part: Space(root, identity) for part, identity in build.manifest.identities.items()}
        self._lock = threading.Lock()
        self._tail_stamp: object = None
        self._tail = self._no_tail()
        self._placed: _Placed | None = None

    @property
    def count(self) -> int:
        """Looks in the build; younger ones come on top."""
        return len(self.build.rows)

    def tail(self) -> Tail:
        """The younger looks, read again only when a space has grown."""
        with self._lock:
            stamp: object = None
            try:
                # Who is young, the style says; other spaces matter only while somebody waits for a part.
                waits = self._tail.waits
                stamp = tuple(space.stamp() for part, space in self._spaces.items() if waits or part == "style")
                if stamp != self._tail_stamp:
                    self._tail = self._read_tail()
            except (SpaceError, OSError, ValueError) as error:
                stamp = str(error)
                if stamp != self._tail_stamp:
                    logger.warning("Products younger than the index are left out: %s", error)
                self._tail = self._no_tail()
            self._tail_stamp = stamp
            return self._tail

    def _no_tail(self) -> Tail:
        empty = np.empty((0, self.build.layout.dimension), np.float32)
        return Tail(np.empty(0, np.int64), np.empty((0, 32), np.uint8), empty, np.empty(0, bool))

    def _read_tail(self) -> Tail:
        entries = {part: self._younger(part) for part in self._spaces}
        style = entries["style"]
        young = self.build.positions_of(style.rows) < 0
        young &= find_rows(style.rows, style.rows) == np.arange(len(style.rows))  # the last of each
        rows, digests = style.rows[young], style.digests[young]
        if not len(rows):
            return self._no_tail()
        if not self.build.rows.size:
            raise SpaceError("the index is empty and knows no transform for them; run build_index.")
        looks = np.empty((len(rows), self.build.layout.dimension), np.float32)
        before = self._tail
        at = find_rows(rows, before.rows)
        known = at >= 0
        known[known] = (before.digests[at[known]] == digests[known]).all(axis=1) & ~before.incomplete[at[known]]
        looks[known] = before.looks[at[known]]
        incomplete = np.zeros(len(rows), dtype=bool)
        if not known.all():
            new = ~known
            looks[new], incomplete[new] = self._composed(entries, rows[new], digests[new])
        return Tail(rows, digests, looks, incomplete)

    def _younger(self, part: str) -> Entries:
        """What a space holds that the build had not seen; all of it, where nobody can tell."""
        space, seen = self._spaces[part], self.build.manifest.seen[part]
        note = space.note()
        if note is not None and note.token and note.token == seen.token:
            return space.read(since=seen.count)
        entries = space.read()
        # What the build had before it and left out is of pictures that are gone.
        had = seen.count if len(entries.rows) >= seen.count and entries.checksum(seen.count) == seen.checksum else 0
        return Entries(entries.rows[had:], entries.digests[had:], entries.vectors[had:])

    def _composed(self, entries: dict[str, Entries], rows: Rows, digests: Digests) -> tuple[Matrix, NDArray[np.bool_]]:
        """Looks (n, dimension), and which of them (n,) lack a part that may still come."""
        vectors: dict[str, Matrix] = {}
        incomplete = np.zeros(len(rows), dtype=bool)
        for part in self.build.layout.parts:
            if part.space in vectors:
                continue
            held = entries[part.space]
            at = held.find(rows, digests)
            if (at < 0).any():  # older than the build there, or not there yet
                held = self._spaces[part.space].read()
                at = held.find(rows, digests)
            incomplete |= at < 0
            there = held.vectors.shape[1] or part.space_dimension  # 0: nothing was ever written there
            vectors[part.space] = held.take(at) if held.vectors.shape[1] else np.zeros((len(rows), there), np.float32)
        return self.build.layout.compose(vectors), incomplete

    def look_of(self, row: int, sha256: str) -> tuple[NDArray[np.float32] | None, bool]:
        """The look (dimension,) of the picture with that row and digest, None while it has none; and whether it is one
        of the build's."""
        at = self.build.position_of(row)
        if at >= 0 and self.build.digests[at].tobytes().hex() == sha256:
            return self.build.index.reconstruct(np.array([at]))[0], True
        tail = self.tail()
        at = int(find_rows(np.array([row], dtype=np.int64), tail.rows)[0])
        if at >= 0 and tail.digests[at].tobytes().hex() == sha256:
            return tail.looks[at], False
        return None, False

    def looks_of(self, rows: Rows, digests: Digests) -> tuple[Matrix, NDArray[np.bool_]]:
        """Of many (n,), asked for together: looks (n, dimension), and of which (n,) there is one."""
        looks = np.zeros((len(rows), self.build.layout.dimension), np.float32)
        at = self.build.positions_of(rows)
        built = at >= 0
        built[built] = (self.build.digests[at[built]] == digests[built]).all(axis=1)
        looks[built] = self.build.index.reconstruct(at[built])
        tail = self.tail()
        at = find_rows(rows, tail.rows)
        young = (at >= 0) & ~built
        young[young] = (tail.digests[at[young]] == digests[young]).all(axis=1)
        looks[young] = tail.looks[at[young]]
        return looks, built | young

    def choose(self, columns: Columns, allowed: NDArray[np.bool_], key: Hashable = None) -> Chosen:
        """The looks of the products that are `allowed` (n,) by the catalogue's columns.

        What has a `key` is kept under it for as long as neither the catalogue nor the tail changes.
        """
        placed = self._places(columns)
        with self._lock:
            if key is not None and key in placed.chosen:
                placed.chosen.move_to_end(key)
                return placed.chosen[key]
        allowed = np.append(allowed, False)  # where place -1 leads
        selection = Selection(allowed[placed.build], self.build.cells)
        chosen = Chosen(selection, placed.tail, allowed[placed.young])
        if key is not None:
            with self._lock:
                placed.chosen[key] = chosen
                while len(placed.chosen) > MOST_KEPT:
                    placed.chosen.popitem(last=False)
        return chosen

    def count_known(self, columns: Columns) -> tuple[int, int]:
        """Of how many of the catalogue's products there is a look in the build, and a younger one; hidden included."""
        placed = self._places(columns)
        return int(np.count_nonzero(placed.build >= 0)), int(np.count_nonzero(placed.young >= 0))

    def _places(self, columns: Columns) -> _Placed:
        """Found anew where products or looks have come or gone; a label that was changed moves nothing."""
        tail, before = self.tail(), self._placed
        if before is not None and before.columns is columns and before.tail is tail:
            return before
        if before is not None and before.columns.rows is columns.rows and before.tail is tail:
            placed = _Placed(columns, tail, before.build, before.young)
        else:
            places = places_of_rows(columns.rows)
            placed = _Placed(columns, tail, places(self.build.rows), places(tail.rows))
        self._placed = placed
        return placed

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        chosen: Chosen | None = None,
        *,
        exactly: bool = False,
        slack: float | None = None,
        known: float | None = None,
    ) -> Hits:
        """The k nearest looks of build and tail to a query (dimension,), best first; only those that are `chosen`.

        `exactly`, `slack` and `known`: as `planning.search` has them.
        """
        build = self.build
        selection = chosen.selection if chosen else None
        found = planning.search(
            build.index, build.cells, query, k, selection, exactly=exactly, slack=slack, known=known
        )
        positions, scores = found.positions, found.scores
        rows, digests, looks = build.rows[positions], build.digests[positions], build.index.reconstruct(positions)
        tail, young = (chosen.tail, np.flatnonzero(chosen.young)) if chosen else (self.tail(), None)
        if len(tail.rows) if young is None else len(young):
            among = tail.looks if young is None else tail.looks[young]
            best, young_scores = exact_search(query[np.newaxis], among, k)
            at = best[0] if young is None else young[best[0]]
            rows = np.concatenate([rows, tail.rows[at]])
            digests = np.concatenate([digests, tail.digests[at]])
            looks = np.concatenate([looks, tail.looks[at]])
            scores = np.concatenate([scores, young_scores[0]])
        if len(scores) <= k and (scores[1:] < scores[:-1]).all():
            return Hits(rows, digests, scores, looks, found.plan)
        # Equal scores (copies of one picture) keep one order, that of their rows, on every page and machine.
        order = np.lexsort((rows, -scores))[:k]
        return Hits(rows[order], digests[order], scores[order], looks[order], found.plan)


@dataclass
class _Holder:
    """What this process serves, and how its last look at CURRENT ended."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    live: LiveIndex | None = None
    seen: object = "nothing yet"
    error: BuildError | None = None
    retry_at: float = 0.0

    def knows(self, stamp: object) -> bool:
        """Whether there is nothing new to open: the same CURRENT, opened, or refused a moment ago."""
        return stamp == self.seen and (self.error is None or time.monotonic() < self.retry_at)

    def answer(self) -> LiveIndex:
        if self.live is None:
            assert self.error is not None
            raise self.error.with_traceback(None)
        return self.live


_holder = _Holder()


def get_index() -> LiveIndex:
    """The index this process answers from. Raises BuildError, naming the repair, where there is none.

    A new build is noticed by its CURRENT file. One thread opens it while the others go on with the old one.
    """
    stamp = _stamp_of_current()
    if _holder.knows(stamp):
        return _holder.answer()
    if not _holder.lock.acquire(blocking=_holder.live is None):
        return _holder.answer()
    try:
        if not _holder.knows(stamp):
            _open_current(stamp)
        return _holder.answer()
    finally:
        _holder.lock.release()


def _open_current(stamp: object) -> None:
    try:
        live = LiveIndex(open_current())
    except NoBuild as error:
        _holder.live, _holder.error, _holder.retry_at = None, error, math.inf
    except BuildError as error:
        _holder.error, _holder.retry_at = error, time.monotonic() + RETRY_AFTER_S
        if _holder.live is None:
            _holder.live = _open_former()
        kept = "; the former build goes on answering" if _holder.live else ""
        logger.error("The index was refused%s: %s", kept, error)  # noqa: TRY400 (the sentence is enough)
    else:
        before, _holder.live, _holder.error = _holder.live, live, None
        # The first questions need not wait for it: each would only fault in a few pages itself.
        threading.Thread(target=live.build.index.prefault, name="prefault", daemon=True).start()
        made = live.build.manifest
        level = logging.DEBUG if before is None else logging.INFO  # every command opens one; only a change is news
        logger.log(level, "Serving build %s: %d looks of %s", made.id, made.count, made.model)
    _holder.seen = stamp


def _open_former() -> LiveIndex | None:
    """What a process that has just begun answers from where the current build cannot be trusted."""
    for manifest in former_manifests():
        try:
            live = LiveIndex(open_build(manifest))
        except BuildError:
            continue
        logger.warning("Serving the former build %s instead of the current one", manifest.id)
        return live
    return None


def serving_error() -> BuildError | None:
    """What is wrong with the published build, if anything is, though a former one may be answering; or with where its
    index lies."""
    try:
        get_index().build.index.check()
    except BuildError as error:
        return error
    except VectorIndexError as error:
        return BuildError(f"The index cannot answer: {error}")
    return _holder.error


def _stamp_of_current() -> tuple[int, int] | None:
    try:
        stat = os.stat(current_path())  # noqa: PTH116 - half the time of Path's
    except OSError:
        return None
    return (stat.st_ino, stat.st_mtime_ns)


def reset_index() -> None:
    """Forget the opened build; the next question opens the published one."""
    with _holder.lock:
        _holder.live, _holder.seen, _holder.error = None, "nothing yet", None


def _reset_on_setting(*, setting: str, **_: Any) -> None:
    if setting == "SIMILARITY":
        reset_index()


setting_changed.connect(_reset_on_setting)
