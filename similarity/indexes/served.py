"""What engines have in common whose vectors lie on a server: a build holds a note of where, and the server the rest.

What lies there is given back by the installation that has put it there, and by no other one that has the note too: one
that has fetched the build (`similarity.sharing`), or was restored from a backup.

While an index is being built, its vectors also lie in a file of this machine: what is measured of them is measured
here, and not asked back piece by piece. Whoever opens the index later asks the server.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import secrets
import shutil
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from catalog.files import replace_file
from similarity.indexes.base import FLAT, EngineAway, Kept, Progress, VectorIndex, VectorIndexError, silently
from similarity.vectors import Matrix, Vectors, in_chunks

logger = logging.getLogger(__name__)

T = TypeVar("T")

PREFIX = "vitrine_looks_"
"""How names of tables and collections begin."""
KEPT = "kept.json"
AWAY_S = 2.0
"""How long a server that did not answer is not asked again: so that not every page waits for it."""
LINES = 8192
"""Vectors that are sent, or fetched, at once."""


@dataclass(frozen=True)
class Stored:
    """Where an index lies, and what it is: the note in a build's folder. `owner`: the installation that gives it back;
    `effort`: None for an exact one."""

    name: str
    owner: str
    count: int
    dimension: int
    factory: str
    effort: int | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, path: Path) -> Stored:
        """Raises VectorIndexError."""
        try:
            content = json.loads(path.read_text())
            stored = cls(
                *(
                    str(content["name"]),
                    str(content["owner"]),
                    int(content["count"]),
                    int(content["dimension"]),
                    str(content["factory"]),
                ),
                None if content["effort"] is None else int(content["effort"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VectorIndexError(f"{path} cannot be read: {error}") from error
        if not _is_ours(stored.name):
            raise VectorIndexError(f"{path} cannot be read: it names {stored.name!r}.")
        return stored


def first_line(error: Exception) -> str:
    """Of what a server says."""
    text = str(getattr(error, "message", "") or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _is_ours(name: str) -> bool:
    """Names become part of statements: nothing else does."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).isalnum() and name.isascii()


class ServedIndex(VectorIndex):
    """An engine says how vectors get to the server and back; resuming, notes and trouble are dealt with here."""

    graph: ClassVar[str] = "HNSW16"
    """The kind that many looks get: a graph of so many links."""
    graph_from: ClassVar[int]
    """From so many on; below that, looking at every vector is quick."""
    most_links: ClassVar[int]
    first_effort: ClassVar[int]
    most_effort: ClassVar[int]
    server: ClassVar[str]
    """What people call it. The note's name is that of the engine in settings: `similarity.builds.give_back_begun`."""
    _away_until: ClassVar[dict[type[ServedIndex], float]] = {}

    def __init__(self, stored: Stored, local: Matrix | None = None, kept: Kept | None = None) -> None:
        self._stored, self._local, self._kept = stored, local, kept

    # --- what an engine says of itself -----------------------------------------------------------
    @abstractmethod
    def _create(self) -> None:
        """Make an empty place with the name of `_stored`."""

    @abstractmethod
    def _held(self) -> int | None:
        """How many vectors, the first ones, are there; None where there is no such place."""

    @abstractmethod
    def _insert(self, start: int, vectors: Matrix) -> None:
        """Vectors (n, dimension) for the positions from `start` on: all of them, or those that lie there anew."""

    @abstractmethod
    def _finish(self) -> None:
        """All are there: make them quick to be searched."""

    @abstractmethod
    def _fetch(self, positions: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Matrix]]:
        """The vectors at distinct, ascending positions (n,), in pieces, in any order."""

    @abstractmethod
    def _nearest(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None, exactly: bool
    ) -> tuple[Sequence[int], Sequence[float]]:
        """As `search`, for one query, `among` ascending. There may be fewer than k where it is not exact."""

    @abstractmethod
    def _drop(self) -> None:
        """Give the place back, if there is one."""

    @classmethod
    @abstractmethod
    def _translated(cls, error: Exception) -> VectorIndexError | None:
        """What the driver's error means: EngineAway, or a refusal. None: it is none of the driver's."""

    @classmethod
    def _renew(cls) -> None:
        """Forget the connection, after it broke."""

    # --- the contract ----------------------------------------------------------------------------
    @classmethod
    def choose(cls, count: int, dimension: int, memory_bytes: int | None) -> str:
        return FLAT if count < cls.graph_from else cls.graph

    @classmethod
    def _links(cls, factory: str) -> int:
        """Of a graph; 0 where every vector is looked at. Raises VectorIndexError for a kind that the engine has not."""
        if factory == FLAT:
            return 0
        found = re.fullmatch(r"HNSW(\d{1,4})", factory)
        if not found or not 2 <= int(found[1]) <= cls.most_links:
            raise VectorIndexError(
                f"'{factory}' is neither {FLAT} nor a graph of 2 to {cls.most_links} links (as {cls.graph})."
            )
        return int(found[1])

    @classmethod
    def build(
        cls, vectors: Matrix | Vectors, factory: str = FLAT, progress: Progress = silently, kept: Kept | None = None
    ) -> Self:
        cls._links(factory)  # refuses what the engine has not
        given = in_chunks(vectors)
        count, dimension = given.shape
        local = _scratch(count, dimension)  # before anything is made: there may be no room
        made = cls._resumed(kept, factory, count, dimension) if kept else None
        if made is None:
            effort = None if factory == FLAT else cls.first_effort
            name = PREFIX + secrets.token_hex(8)
            made = cls(Stored(name, _installation(), count, dimension, factory, effort), kept=kept)
            made._note()
            made._ask(made._create)
        there = made._ask(made._held) or 0
        done = 0
        for chunk in given.chunks():
            local[done : done + len(chunk)] = chunk
            for start in range(max(done, there), done + len(chunk), LINES):
                lines = local[start : min(start + LINES, done + len(chunk))]
                made._ask(partial(made._put, start, lines))
            done += len(chunk)
            progress(done)
        made._ask(made._finish)
        made._local = local
        return made

    def _put(self, start: int, vectors: Matrix) -> None:
        """Insert them unless they are there: whoever is cut off cannot tell whether what was sent has arrived."""
        held = self._held()
        if held is None or held < start:
            raise VectorIndexError(f"{self._stored.name} on {self.server} has lost looks; begin again.")
        if held < start + len(vectors):
            self._insert(start, vectors)

    @classmethod
    def _resumed(cls, kept: Kept, factory: str, count: int, dimension: int) -> Self | None:
        """What somebody who was killed had begun, if it is the beginning of this one; else it is given back."""
        try:
            note = json.loads((kept.folder / KEPT).read_text())
            stored = Stored.read(kept.folder / cls.file_name)
        except (OSError, ValueError, VectorIndexError):
            return None
        found = cls(stored, kept=kept)
        there = cls._ask(found._held) if stored.owner == _installation() else None
        if there is None:
            return None
        ours = (note.get("key"), stored.factory, stored.count, stored.dimension)
        if ours == (kept.key, factory, count, dimension):
            if there:
                logger.info("Going on with an index of which %d of %d looks were in.", there, count)
            return found
        cls._ask(found._drop)
        return None

    def _note(self) -> None:
        """So that whoever comes after a kill goes on, or gives back what lies there."""
        if self._kept is not None:
            shutil.rmtree(self._kept.folder, ignore_errors=True)
            self._kept.folder.mkdir(parents=True)
            replace_file(self._kept.folder / self.file_name, self._stored.to_json().encode())
            replace_file(self._kept.folder / KEPT, json.dumps({"key": self._kept.key}).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        index = cls(Stored.read(folder / cls.file_name))
        index.check()
        return index

    def save(self, folder: Path) -> None:
        replace_file(folder / self.file_name, self._stored.to_json().encode())
        if self._kept is not None:  # from now on this folder says whose it is
            shutil.rmtree(self._kept.folder, ignore_errors=True)

    @classmethod
    def discard(cls, folder: Path) -> None:
        with suppress(FileNotFoundError):
            if (folder / cls.file_name).stat().st_size:
                stored = Stored.read(folder / cls.file_name)
                if stored.owner == _installation():
                    cls._ask(cls(stored)._drop)

    def forget(self) -> None:
        self._ask(self._drop)
        if self._kept is not None:
            shutil.rmtree(self._kept.folder, ignore_errors=True)

    def check(self) -> None:
        held = self._ask(self._held)
        if held != self.count:
            found = "is not there" if held is None else f"has {held}"
            raise VectorIndexError(f"{self._stored.name} should have {self.count} looks on {self.server}, and {found}.")

    @property
    def exact(self) -> bool:
        return self._stored.effort is None

    @property
    def effort(self) -> int | None:
        return self._stored.effort

    def harder(self) -> bool:
        effort = self._stored.effort
        if effort is None or effort >= self.most_effort:
            return False
        self._stored = replace(self._stored, effort=min(self.most_effort, effort * 5 // 4))
        return True

    @property
    def count(self) -> int:
        return self._stored.count

    @property
    def dimension(self) -> int:
        return self._stored.dimension

    def chunk(self, start: int, stop: int) -> Matrix:
        if not 0 <= start <= stop <= self.count:
            raise VectorIndexError(f"The index has no positions from {start} to {stop}.")
        return self.reconstruct(np.arange(start, stop))

    def reconstruct(self, positions: NDArray[np.int64]) -> Matrix:
        outside = (positions < 0) | (positions >= self.count)
        if outside.any():
            raise VectorIndexError(f"The index has no position {positions[outside][0]}.")
        if self._local is not None:
            return np.array(self._local[positions], dtype=np.float32)
        wanted = np.unique(positions)
        found = np.empty((len(wanted), self.dimension), dtype=np.float32)
        got = 0
        for at, vectors in self._ask(lambda: list(self._fetch(wanted))) if len(wanted) else ():
            found[np.searchsorted(wanted, at)] = vectors
            got += len(at)
        if got != len(wanted):
            raise VectorIndexError(f"{self._stored.name} on {self.server} lacks {len(wanted) - got} looks.")
        return found[np.searchsorted(wanted, positions)]

    def search_exactly(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        k = min(k, self.count if among is None else len(among))
        if not k:
            return np.empty((1, 0), np.int64), np.empty((1, 0), np.float32)
        return self._answers(query[np.newaxis], k, among, exactly=True)

    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return self._answers(queries, k, among, exactly=self.exact)

    def _answers(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None, exactly: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        among = None if among is None else np.sort(among)
        positions = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)

        def ask() -> None:
            for line, query in enumerate(queries):
                at, found = self._nearest(query, k, among, exactly)
                if len(at) < k:
                    at, found = self._nearest(query, k, among, exactly=True)
                if len(at) < k:
                    raise VectorIndexError(f"{self._stored.name} on {self.server} lacks looks.")
                positions[line], scores[line] = at[:k], found[:k]

        self._ask(ask)
        return positions, scores

    # --- trouble ---------------------------------------------------------------------------------
    @classmethod
    def _ask(cls, question: Callable[[], T]) -> T:
        """What the question gives. Raises EngineAway or another VectorIndexError instead of the driver's errors.

        A connection that broke is renewed once: the server may have been started anew since it was last asked. That is
        told at once; whoever was left waiting does not wait again. Of a server that was away one asks, and the others
        are told that it is.
        """
        before = cls._away_until.get(cls, 0.0)
        if time.monotonic() < before:
            raise EngineAway(f"{cls.server} did not answer a moment ago.")
        if before:
            cls._away_until[cls] = math.inf
        away = False
        try:
            for last in (False, True):
                began = time.monotonic()
                try:
                    return question()
                except VectorIndexError:
                    raise
                except Exception as error:
                    said = cls._translated(error)
                    if said is None:
                        raise
                    if isinstance(said, EngineAway):
                        cls._renew()
                        if not last and time.monotonic() - began < AWAY_S:
                            continue
                        away = True
                    raise said from error
            raise AssertionError
        finally:
            if away:
                cls._away_until[cls] = time.monotonic() + AWAY_S
            else:
                cls._away_until.pop(cls, None)


def _installation() -> str:
    """What this installation is known by: drawn once, and neither shared nor backed up."""
    path = Path(settings.SIMILARITY["BUILDS_DIR"]) / "owner"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, secrets.token_hex(8).encode())
    return path.read_text()


def _scratch(count: int, dimension: int) -> Matrix:
    """Room for so many vectors, in a file without a name beside the builds: what is large need not fit into memory.

    Taken now: whoever writes into a mapped file when its disk has become full is killed (SIGBUS). Raises OSError.
    """
    if not count:
        return np.empty((0, dimension), dtype=np.float32)
    folder = Path(settings.SIMILARITY["BUILDS_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, count * dimension * np.dtype(np.float32).itemsize)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        return np.memmap(file, dtype=np.float32, mode="r+", shape=(count, dimension))
