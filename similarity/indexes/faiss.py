"""FAISS, behind the contract; its habits end here (Douze et al., "The Faiss library", 2024)."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from catalog.files import free_bytes, fsync, replace_file
from catalog.memory import prefault_memory
from similarity.embedders.base import file_sha256
from similarity.indexes.base import FLAT, RECALL_AT, Kept, Progress, TooFew, VectorIndex, VectorIndexError, silently
from similarity.vectors import Matrix, Vectors, in_chunks

# One query of a flat index is slower on several threads than on one, and a query before `fork` with several
# leaves their locks held in every child: gunicorn's workers would hang.
faiss.omp_set_num_threads(1)

logger = logging.getLogger(__name__)

KEEP_EVERY_S = 120.0
"""How often an unfinished graph is kept: writing it takes seconds."""
GRAPH, COMPACT_GRAPH = "HNSW32,Flat", "HNSW32_SQfp16"
"""Factory strings (FAISS' wiki, "The index factory"): a graph of neighbours (Malkov and
Yashunin, 2016) over whole vectors; one over vectors of half precision."""
GRAPH_FROM = 20_000
"""Below that, looking at every vector takes about a millisecond."""
LINKS_BYTES = 272
"""What a graph of 32 links adds to a vector: twice as many links of 4 bytes on the lowest level, and their lists."""
UPPER_LEVELS = 1.02
"""Room for the links of a graph's upper levels, on which one vector in 32 stands, with half as many links each."""
EF_CONSTRUCTION = 100
SIGHT_A_HIT = 4
"""The least that a search keeps in sight for each look that is asked for."""
MOST_PARTS = 1_000_000
"""Lists, or indexes within an index, that a file may hold."""
FIRST_EFFORT, MOST_EFFORT = 64, 512
"""How many of the nearest a search of a graph keeps in sight (`efSearch`); of inverted lists, how many it reads
(`nprobe`)."""
FIRST_PROBES = 16
"""Lists that are read at first, and a quarter of how many looks are proposed for ten."""
REFINED = ",RFlat"
"""What a factory string ends with whose index only proposes, and whole vectors decide (FAISS' wiki, "Refine")."""
TRAINED_ON = 131_072
"""Vectors, from all over, that an index is trained on, where its kind has to be."""
TRAINED_A_LIST = 40
"""Of which there are more where it has many lists: FAISS asks for 39 of each
(`ClusteringParameters.min_points_per_centroid`)."""
ARRAY_SHARE = 0.1
"""Up to that share of all, a list of positions is read faster than a bitmap, which asks for each of all."""


class FaissIndex(VectorIndex):
    """Inner products: exact, by a graph, or by whatever else the factory string says, refined by whole vectors."""

    file_name = "faiss.index"

    def __init__(self, index: Any) -> None:
        self._index, self._storage = index, index
        self._is_graph = isinstance(index, faiss.IndexHNSW)
        self._refined = _Refined(faiss.downcast_index(index.base_index)) if _is_refined(index) else None
        self._count, self._dimension = int(index.ntotal), int(index.d)
        self._sight: int | None = None  # asked of FAISS, it costs a microsecond each time
        if self._is_graph:
            self._storage, self._sight = faiss.downcast_index(index.storage), int(index.hnsw.efSearch)
        elif self._refined is not None:
            self._storage, self._sight = faiss.downcast_index(index.refine_index), int(index.k_factor)

    @classmethod
    def choose(cls, count: int, dimension: int, memory_bytes: int | None) -> str:
        if count < GRAPH_FROM:
            return FLAT
        needed = count * (4 * dimension + LINKS_BYTES)
        return GRAPH if memory_bytes is None or needed <= memory_bytes else COMPACT_GRAPH

    @classmethod
    def build(
        cls,
        vectors: Matrix | Vectors,
        factory: str = FLAT,
        progress: Progress = silently,
        kept: Kept | None = None,
    ) -> Self:
        given = in_chunks(vectors)
        count, dimension = given.shape
        made = cls._begun(dimension, factory)
        if kept is not None and made._is_graph:
            made = cls._resumed(kept, factory, count) or made
        index = made._index
        made._reserve(count)
        kept_at = time.monotonic()
        with _threads(cls.building_threads):
            if not index.is_trained:
                made._train(given, factory)
            for chunk in given.chunks(int(index.ntotal)):
                index.add(np.ascontiguousarray(chunk, dtype=np.float32))
                progress(int(index.ntotal))
                if kept is not None and made._is_graph and time.monotonic() - kept_at > KEEP_EVERY_S:
                    made._keep(kept, factory)
                    kept_at = time.monotonic()
        made._count = int(index.ntotal)
        if kept is not None:
            shutil.rmtree(kept.folder, ignore_errors=True)
        return made

    @classmethod
    def _begun(cls, dimension: int, factory: str) -> Self:
        index: Any = _of_factory(dimension, factory)
        if not isinstance(index, faiss.IndexFlat) and not _is_whole_graph(index):
            if not _is_refined(index):
                # Codes alone do not say what a look is, and another mix, a filter and a recall have to be told.
                index = _of_factory(dimension, factory + REFINED)
            if not _can_be_searched(index):
                raise VectorIndexError(
                    f"'{factory}' is none of the kinds that Vitrine searches by inner product: {FLAT}, a graph (as "
                    f"{GRAPH}), and inverted lists (IVF…) or codes (SQ…, PQ…, RaBitQ), refined by vectors in full or "
                    "half precision."
                )
            index.k_factor = FIRST_PROBES
        graph = _Refined(faiss.downcast_index(index.base_index)).graph if _is_refined(index) else index
        if isinstance(graph, faiss.IndexHNSW):
            graph.hnsw.efConstruction, graph.hnsw.efSearch = EF_CONSTRUCTION, FIRST_EFFORT
        return cls(index)

    def _train(self, given: Vectors, factory: str) -> None:
        """On some from all over: those that come first are all of one kind."""
        lists = self._refined.lists if self._refined is not None else 0
        step = max(1, given.shape[0] // max(TRAINED_ON, TRAINED_A_LIST * lists))
        taken, at = [], 0
        for chunk in given.chunks():
            taken.append(np.array(chunk[-at % step :: step], dtype=np.float32))
            at += len(chunk)
        sample = np.concatenate(taken) if taken else np.empty((0, self._dimension), np.float32)
        try:
            self._index.train(sample)
        except RuntimeError as error:
            why = str(error).rpartition("failed: ")[2].strip()
            raise TooFew(f"'{factory}' cannot be trained on {len(sample)} looks. {why}") from error

    @classmethod
    def _resumed(cls, kept: Kept, factory: str, count: int) -> Self | None:
        """The unfinished index that lies there, if it is the beginning of this one."""
        with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
            note = json.loads((kept.folder / "kept.json").read_text())
            path = kept.folder / note["file"]
            ours = (note["key"], note["factory"], note["faiss"]) == (kept.key, factory, faiss.__version__)
            if ours and path.stat().st_size == note["size"] and file_sha256(path) == note["sha256"]:
                made = cls(faiss.read_index(str(path)))  # read, not mapped: a mapped one cannot grow
                if made._count <= count:
                    logger.info("Going on with an index of which %d of %d looks were in.", made._count, count)
                    return made
        return None

    def _keep(self, kept: Kept, factory: str) -> None:
        """So that whoever is killed loses some minutes and not all. A full disk loses nothing either."""
        done = int(self._index.ntotal)
        path = kept.folder / f"{done}.faiss"
        try:
            kept.folder.mkdir(parents=True, exist_ok=True)
            faiss.write_index(self._index, str(path))
            fsync(path)
            note: dict[str, Any] = {"key": kept.key, "factory": factory, "faiss": faiss.__version__}
            note |= {"file": path.name, "size": path.stat().st_size, "sha256": file_sha256(path)}
            replace_file(kept.folder / "kept.json", json.dumps(note).encode())
            for former in kept.folder.glob("*.faiss"):
                if former != path:
                    former.unlink()
        except (OSError, RuntimeError) as error:
            logger.warning("The unfinished index cannot be kept, and would begin anew after a kill: %s", error)

    def _reserve(self, count: int) -> None:
        """Room for exactly so many: FAISS' vectors double as they grow, and for a moment take three times as much."""
        rooms: list[tuple[Any, int]] = [(self._storage.codes, count * self._storage.code_size)]
        if self._is_graph:
            lowest_links = self._index.hnsw.nb_neighbors(0)
            rooms.append((self._index.hnsw.neighbors, int(count * lowest_links * UPPER_LEVELS)))
        for room, needed in rooms:
            taken = room.size()
            if taken < needed:
                room.resize(needed)
                room.resize(taken)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Mapped, not read: processes share its pages, and it is open in milliseconds."""
        path = folder / cls.file_name
        # Whoever opens a build has verified it. Should a file lie all the same, it asks for no more than it has:
        # otherwise half a megabyte can ask for four gigabytes.
        size = path.stat().st_size if path.is_file() else 0
        faiss.set_deserialization_vector_byte_limit(size + 8)
        faiss.set_deserialization_loop_limit(MOST_PARTS)
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, MemoryError) as error:  # FAISS throws one kind for all, with its own source lines in it
            raise VectorIndexError(f"FAISS cannot read {path}.") from error
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise VectorIndexError(f"{path} does not compare by inner product.")
        return cls(index)

    def prefault(self) -> None:
        codes = self._storage.codes
        prefault_memory(int(faiss.rev_swig_ptr(codes.data(), 1).ctypes.data), codes.size() if self.count else 0)
        if self._is_graph and self.count:
            for array, size in ((self._index.hnsw.neighbors, 4), (self._index.hnsw.offsets, 8)):
                prefault_memory(int(faiss.rev_swig_ptr(array.data(), 1).ctypes.data), size * array.size())
        if self._refined is not None and self.count:  # of what proposes, every kind has its own: ask it of everything
            _ask(self._index, self._storage.reconstruct_n(0, 1), 1, self._refined.of_all())

    @classmethod
    def centroids(cls, sample: Matrix, count: int) -> Matrix | None:
        with _threads(cls.building_threads):
            means = faiss.Kmeans(int(sample.shape[1]), count, niter=10, seed=1, max_points_per_centroid=len(sample))
            means.train(np.ascontiguousarray(sample, dtype=np.float32))
        found: Matrix = np.array(means.centroids, dtype=np.float32)
        return found

    def save(self, folder: Path) -> None:
        path = folder / self.file_name
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            left = free_bytes(folder) / 2**20
            raise VectorIndexError(f"{path} cannot be written; is the disk full? {left:.1f} MiB are free.") from error

    @property
    def exact(self) -> bool:
        return self._sight is None

    @property
    def count(self) -> int:
        return self._count

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def effort(self) -> int | None:
        return self._sight

    def harder(self) -> bool:
        if self._sight is None or self._sight >= MOST_EFFORT:
            return False
        self._sight = min(MOST_EFFORT, self._sight * 5 // 4)
        if self._refined is not None:
            self._index.k_factor = self._sight  # where a file has room for it
        else:
            self._index.hnsw.efSearch = self._sight
        return True

    def reconstruct(self, positions: NDArray[np.int64]) -> Matrix:
        positions = np.ascontiguousarray(positions, dtype=np.int64)
        if positions.view(np.uint64).max(initial=0) >= self._count and len(positions):  # negative ones are huge then
            outside = (positions < 0) | (positions >= self._count)
            raise VectorIndexError(f"The index has no position {positions[outside][0]}.")
        vectors: Matrix = self._storage.reconstruct_batch(positions)
        return vectors

    def chunk(self, start: int, stop: int) -> Matrix:
        if not 0 <= start <= stop <= self.count:
            raise VectorIndexError(f"The index has no positions from {start} to {stop}.")
        vectors: Matrix = self._storage.reconstruct_n(start, stop - start)
        return vectors

    def search_exactly(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self.exact:
            return super().search_exactly(query, k, among)
        # The index' own vectors, one after another, where they lie.
        return FaissIndex(self._storage).search(query[np.newaxis], k, among)

    def _params(self, k: int) -> Any:
        """How hard to search for the k nearest: FAISS' parameters, None where all are looked at."""
        if self._sight is None:
            return None
        # Those that are asked for many want the later ones to be right too: filters take these.
        if self._refined is not None:
            return self._refined.params(self._sight, k)
        return _of_effort(max(self._sight, SIGHT_A_HIT * k))

    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if among is not None:
            selector, _alive = _selector(np.sort(among), self.count)
            return _ask(self._storage, queries, k, faiss.SearchParameters(sel=selector))  # type: ignore[call-arg]
        if self._sight is None:
            return _ask(self._index, queries, k)
        positions, scores = _ask(self._index, queries, k, self._params(k))
        short = positions[:, -1] < 0
        if short.any():  # a graph may not reach so many; whoever gets too few is answered by looking at all
            positions[short], scores[short] = _ask(self._storage, queries[short], k)
        return positions, scores


def _ask(index: Any, queries: Matrix, k: int, params: Any = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    scores, positions = index.search(queries, k, params=params)
    return positions, scores


@lru_cache(maxsize=64)  # a search only reads it
def _of_effort(effort: int) -> Any:
    return faiss.SearchParametersHNSW(efSearch=effort)  # type: ignore[attr-defined]


def _of_factory(dimension: int, factory: str) -> Any:
    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise VectorIndexError(f"'{factory.removesuffix(REFINED)}' is no factory string of FAISS.") from error


def _is_refined(index: Any) -> bool:
    return isinstance(index, faiss.IndexRefine)


def _is_whole_graph(index: Any) -> bool:
    return isinstance(index, (faiss.IndexHNSWFlat, faiss.IndexHNSWSQ)) and _is_whole(index.storage)


def _is_whole(storage: Any) -> bool:
    """Whether it has the vectors, give or take half a float."""
    storage = faiss.downcast_index(storage)
    if isinstance(storage, faiss.IndexScalarQuantizer):
        return storage.sq.qtype in (faiss.ScalarQuantizer.QT_fp16, faiss.ScalarQuantizer.QT_bf16)
    return isinstance(storage, faiss.IndexFlat)


def _can_be_searched(index: Any) -> bool:
    """Some kinds cannot go by inner products, and silently go by distances; some never end building."""
    return (
        _is_refined(index)
        and _is_whole(index.refine_index)
        and index.refine_index.metric_type == faiss.METRIC_INNER_PRODUCT
        and _Refined(faiss.downcast_index(index.base_index)).is_known
    )


class _Refined:
    """How hard to ask what proposes: inverted lists, a graph, or codes that are all looked at.

    `base`: an index of FAISS, of its own kind or behind a transform of the vectors.
    """

    def __init__(self, base: Any) -> None:
        self._transformed = isinstance(base, faiss.IndexPreTransform)
        inner: Any = faiss.downcast_index(base.index) if self._transformed else base
        self.lists = int(inner.nlist) if isinstance(inner, faiss.IndexIVF) else 0
        centres = faiss.downcast_index(inner.quantizer) if self.lists else None
        self.graph = next((each for each in (inner, centres) if isinstance(each, faiss.IndexHNSW)), None)
        self.is_known = isinstance(inner, (faiss.IndexIVF, faiss.IndexFlatCodes, faiss.IndexFastScan, faiss.IndexHNSW))
        self.params = lru_cache(maxsize=64)(self._params)

    def _params(self, sight: int, k: int) -> Any:
        """For the k nearest. Recall is measured on ten: whoever asks for more is proposed more in proportion, and has
        more lists read, though not at once.
        """
        proposed = SIGHT_A_HIT * sight * max(k, RECALL_AT) // RECALL_AT
        return self._asked(proposed / k, max(sight, sight * k // (SIGHT_A_HIT * RECALL_AT)), proposed)

    def of_all(self) -> Any:
        """For whoever wants every list read."""
        return self._asked(1.0, self.lists, 1)

    def _asked(self, proposed_a_hit: float, probes: int, sight: int) -> Any:
        probes = min(self.lists, probes)
        beam = faiss.SearchParametersHNSW(efSearch=2 * probes or sight)  # type: ignore[attr-defined]
        if self.lists:
            quantizer = {} if self.graph is None else {"quantizer_params": beam}
            base: Any = faiss.SearchParametersIVF(nprobe=probes, **quantizer)  # type: ignore[call-arg]
        else:
            base = None if self.graph is None else beam
        if base is not None and self._transformed:
            base = faiss.SearchParametersPreTransform(index_params=base)  # type: ignore[call-arg]
        more = {} if base is None else {"base_index_params": base}
        return faiss.IndexRefineSearchParameters(k_factor=proposed_a_hit, **more)  # type: ignore[call-arg]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _selector(ids: NDArray[np.int64], count: int) -> tuple[Any, Any]:
    """Of ascending positions, by whichever way FAISS reads the fewest others; and what must live as long as it does."""
    if ids[-1] - ids[0] + 1 == len(ids):
        return faiss.IDSelectorRange(int(ids[0]), int(ids[-1]) + 1), None
    if len(ids) <= ARRAY_SHARE * count:
        return faiss.IDSelectorArray(ids), ids
    inside = np.zeros(count, dtype=bool)
    inside[ids] = True
    bitmap = np.packbits(inside, bitorder="little")
    return faiss.IDSelectorBitmap(count, faiss.swig_ptr(bitmap)), bitmap
