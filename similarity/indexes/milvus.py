"""Milvus, behind the contract (https://milvus.io/docs): for more looks than one PostgreSQL holds.

Each build is a collection of its own, `position → look`, compared by inner product: of every look, or by Milvus' HNSW.
Among some, few are fetched and compared here, which is exact; many are named to Milvus, whose filtered search is exact
over a flat index, and of a graph as good as Milvus makes it.

Checked against Milvus Lite, not against a cluster.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import grpc
import numpy as np
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from similarity.indexes.base import EngineAway, VectorIndexError
from similarity.indexes.served import ServedIndex, first_line
from similarity.vectors import Matrix

EF_CONSTRUCTION = 200
SIGHT_A_HIT = 4
FEW = 2048
"""So many looks may be fetched to be compared here."""
MOST_HITS = 16_384
"""The most that Milvus gives in one answer."""
SENT = 4096
"""Vectors in one message: it may have 64 MiB."""
TIMEOUT_S = 10.0
LOAD_S = 3600.0
_AWAY = re.compile(r"(?i)unavailable|connect|timeout|deadline|not ready|closed channel")


class MilvusIndex(ServedIndex):
    """Inner products in Milvus: of every look, or by a graph."""

    file_name = "milvus.json"
    server = "Milvus"
    graph_from = 100_000
    most_links = 2048
    first_effort: ClassVar[int] = 64
    most_effort: ClassVar[int] = 4096

    def _create(self) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("position", DataType.INT64, is_primary=True)
        schema.add_field("look", DataType.FLOAT_VECTOR, dim=self.dimension)
        _client().create_collection(self._stored.name, schema=schema, consistency_level="Strong", timeout=TIMEOUT_S)

    def _held(self) -> int | None:
        client, name = _client(), self._stored.name
        if not client.has_collection(name, timeout=TIMEOUT_S):
            return None
        if not client.list_indexes(name):  # it is being filled
            return int(client.get_collection_stats(name, timeout=TIMEOUT_S)["row_count"])
        client.load_collection(name, timeout=LOAD_S)
        found = client.query(name, filter="", output_fields=["count(*)"], timeout=TIMEOUT_S)
        return int(found[0]["count(*)"])

    def _insert(self, start: int, vectors: Matrix) -> None:
        client = _client()
        for at in range(0, len(vectors), SENT):
            lines = [{"position": start + at + line, "look": look} for line, look in enumerate(vectors[at : at + SENT])]
            client.upsert(self._stored.name, lines, timeout=LOAD_S)
        client.flush(self._stored.name, timeout=LOAD_S)

    def _finish(self) -> None:
        client, links = _client(), self._links(self._stored.factory)
        if not client.list_indexes(self._stored.name):
            wanted = client.prepare_index_params()
            how = {"M": links, "efConstruction": EF_CONSTRUCTION} if links else {}
            kind = "HNSW" if links else "FLAT"
            wanted.add_index("look", index_type=kind, metric_type="IP", params=how)
            client.create_index(self._stored.name, wanted, timeout=LOAD_S)
        client.load_collection(self._stored.name, timeout=LOAD_S)

    def _fetch(self, positions: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Matrix]]:
        for start in range(0, len(positions), SENT):
            wanted = positions[start : start + SENT].tolist()
            found = _client().get(self._stored.name, ids=wanted, output_fields=["position", "look"], timeout=TIMEOUT_S)
            if found:
                at = np.array([each["position"] for each in found], dtype=np.int64)
                yield at, np.array([each["look"] for each in found], dtype=np.float32)

    def _nearest(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None, exactly: bool
    ) -> tuple[Sequence[int], Sequence[float]]:
        few = among is not None and len(among) <= max(FEW, k)
        if few or k > MOST_HITS or (exactly and not self.exact):
            return self._compared_here(query, k, np.arange(self.count) if among is None else among)
        asked: dict[str, Any] = {}
        if among is not None:
            asked = {"filter": "position in {among}", "filter_params": {"among": among.tolist()}}
        search = {} if self.effort is None else {"ef": min(self.most_effort, max(self.effort, SIGHT_A_HIT * k, k))}
        found = _client().search(
            self._stored.name,
            data=[query.tolist()],
            limit=k,
            search_params={"metric_type": "IP", "params": search},
            output_fields=["position"],
            timeout=TIMEOUT_S,
            **asked,
        )[0]
        order = sorted(found, key=lambda hit: (-hit["distance"], hit["position"]))
        return [hit["position"] for hit in order], [hit["distance"] for hit in order]

    def _compared_here(
        self, query: NDArray[np.float32], k: int, positions: NDArray[np.int64]
    ) -> tuple[Sequence[int], Sequence[float]]:
        """Fetched and compared piece by piece; ties go to the smaller position."""
        best, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        for at, looks in self._fetch(positions):
            best, scores = np.concatenate([best, at]), np.concatenate([scores, looks @ query])
            kept = np.lexsort((best, -scores))[:k]
            best, scores = best[kept], scores[kept]
        return best.tolist(), scores.tolist()

    def _drop(self) -> None:
        _client().drop_collection(self._stored.name, timeout=TIMEOUT_S)

    @classmethod
    def _translated(cls, error: Exception) -> VectorIndexError | None:
        if isinstance(error, grpc.RpcError) or (isinstance(error, MilvusException) and _AWAY.search(str(error))):
            return EngineAway(f"Milvus at {_uri()} does not answer: {first_line(error)}")
        if isinstance(error, MilvusException):
            return VectorIndexError(f"Milvus refuses: {first_line(error)}")
        return None

    @classmethod
    def _renew(cls) -> None:
        _connected.cache_clear()


def _uri() -> str:
    uri: str = settings.SIMILARITY["INDEX"].get("MILVUS", {}).get("URI", "")
    if not uri:
        raise ImproperlyConfigured("VITRINE_MILVUS does not say where Milvus is, as http://127.0.0.1:19530.")
    return uri


def _client() -> Any:
    """One for each process: what was opened before a fork is of no use after it."""
    return _connected(_uri(), settings.SIMILARITY["INDEX"]["MILVUS"].get("TOKEN") or "", os.getpid())


@lru_cache(maxsize=1)
def _connected(uri: str, token: str, process: int) -> Any:
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what it raises is told by us, once
    return MilvusClient(uri=uri, token=token, timeout=TIMEOUT_S)
