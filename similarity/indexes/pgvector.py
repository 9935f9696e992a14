"""PostgreSQL with pgvector, behind the contract (https://github.com/pgvector/pgvector).

Each build is a table of its own, `position → look`, loaded by COPY and only then given its graph (pgvector's README,
"Loading" and "Indexing": a graph over rows that are there is many times quicker than one that grows with them). Looks
lie there whole; the graph is over their half precision, half as large, and what it finds is compared anew by whole
looks, so that scores are those of any other engine.

A filter after the graph loses hits silently (measured: .40 to .72 of the ten nearest at 2 %). So nothing is ever
filtered there: `among` some looks, all of these are compared, found by the runs of their positions.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from numpy.typing import NDArray
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector

from similarity.indexes.base import EngineAway, VectorIndexError
from similarity.indexes.served import ServedIndex, first_line
from similarity.vectors import Matrix

EF_CONSTRUCTION = 100
SIGHT_A_HIT = 4
"""The least that a search keeps in sight for each look that is asked for."""
MOST_SIGHT = 1000
"""The largest `hnsw.ef_search`."""
SPARE = 8
"""Looks beyond those asked for that are compared whole: half precision may have them in another order."""
BUILD_MIB = 512
"""Memory for making a graph where settings do not say: one that does not fit takes many times as long."""

_efforts: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""The `hnsw.ef_search` that each connection has."""
_registered: weakref.WeakSet[Any] = weakref.WeakSet()


class PgVectorIndex(ServedIndex):
    """Inner products in PostgreSQL: of every look, or by a graph."""

    file_name = "pgvector.json"
    server = "PostgreSQL"
    graph_from = 10_000
    most_links = 100
    first_effort: ClassVar[int] = 64
    most_effort: ClassVar[int] = MOST_SIGHT
    sight_costs = 5

    @property
    def _half(self) -> str:
        return f"halfvec({self.dimension})"

    def _create(self) -> None:
        with _cursor() as cursor:
            try:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except DatabaseError as error:
                raise VectorIndexError(
                    f"PostgreSQL has no pgvector that may be used ({first_line(error)}). Install it, and as a "
                    "superuser: CREATE EXTENSION vector"
                ) from error
            # PLAIN: beside its position, not in a table of its own that every comparison would have to open.
            cursor.execute(
                f"CREATE TABLE {self._stored.name} (position integer PRIMARY KEY, "
                f"look vector({self.dimension}) STORAGE PLAIN NOT NULL)"
            )

    def _held(self) -> int | None:
        with _cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [self._stored.name])
            if cursor.fetchone() == (None,):
                return None
            cursor.execute(f"SELECT coalesce(max(position) + 1, 0) FROM {self._stored.name}")
            return int(cursor.fetchone()[0])

    def _insert(self, start: int, vectors: Matrix) -> None:
        into = f"COPY {self._stored.name} (position, look) FROM STDIN (FORMAT binary)"
        with transaction.atomic(using=_alias()), _cursor(binary=True) as cursor, cursor.copy(into) as copy:
            copy.set_types(["int4", "vector"])
            for at, vector in enumerate(vectors, start):
                copy.write_row((at, Vector(vector)))

    def _finish(self) -> None:
        name, links = self._stored.name, self._links(self._stored.factory)
        if not links:
            with _cursor() as cursor:
                cursor.execute(f"ANALYZE {name}")
            return
        memory = settings.SIMILARITY["INDEX"].get("MEMORY_MIB") or BUILD_MIB
        made = (
            f"CREATE INDEX IF NOT EXISTS {name}_graph ON {name} USING hnsw ((look::{self._half}) halfvec_ip_ops) "
            f"WITH (m = {links}, ef_construction = {max(EF_CONSTRUCTION, 2 * links)})"
        )
        for alone in (False, True):
            try:
                with transaction.atomic(using=_alias()), _cursor() as cursor:
                    cursor.execute(f"SET LOCAL maintenance_work_mem = '{int(memory)}MB'")
                    if alone:
                        cursor.execute("SET LOCAL max_parallel_maintenance_workers = 0")
                    cursor.execute(made)
                    cursor.execute(f"ANALYZE {name}")
                    break
            except OperationalError as error:
                # Several workers share the graph in /dev/shm, which a container has little of; one needs none.
                if alone or not isinstance(error.__cause__, psycopg.errors.DiskFull):
                    raise

    def _fetch(self, positions: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Matrix]]:
        with _cursor(binary=True) as cursor:
            some, parameters = self._those(positions)
            cursor.execute(f"SELECT position, look FROM {some}", parameters)
            while lines := cursor.fetchmany(4096):
                at = np.array([line[0] for line in lines], dtype=np.int64)
                yield at, np.stack([line[1].to_numpy() for line in lines])

    def _those(self, positions: NDArray[np.int64]) -> tuple[str, list[Any]]:
        """What stands at ascending positions, as a table, and its parameters."""
        name = self._stored.name
        if len(positions) == 1:  # the look of the product that is asked with
            return f"{name} WHERE position = %s", [int(positions[0])]
        breaks = np.flatnonzero(np.diff(positions) != 1)
        if 2 * len(breaks) > len(positions):
            return f"{name} WHERE position = ANY(%s::integer[])", [positions.tolist()]
        # By runs, which what a filter asks for has few of. Each is taken for a ninth of the table, so that all of it
        # would be read, were it not for their order: 80 ms instead of 0.3 for fifteen looks of 100,000.
        first, last = np.append(0, breaks + 1), np.append(breaks, len(positions) - 1)
        return (
            "unnest(%s::integer[], %s::integer[]) AS run (first, last) CROSS JOIN LATERAL (SELECT position, look FROM "
            f"{name} WHERE position BETWEEN run.first AND run.last ORDER BY position LIMIT run.last - run.first + 1) "
            "AS of_run",
            [positions[first].tolist(), positions[last].tolist()],
        )

    def _nearest(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None, exactly: bool
    ) -> tuple[Sequence[int], Sequence[float]]:
        asked, name = Vector(query), self._stored.name
        parameters: list[Any]
        if among is not None:
            some, of_some = self._those(among)
            parameters = [asked, *of_some, k]
        elif exactly or k + SPARE > MOST_SIGHT:
            some, parameters = name, [asked, k]
        else:
            some = f"(SELECT position, look FROM {name} ORDER BY look::{self._half} <#> %s LIMIT %s) AS near"
            parameters = [asked, HalfVector(query), k + SPARE, k]
        # Whole looks have no index, so that nobody thinks of the graph but where it is asked for.
        statement = (
            f"SELECT position, -distance FROM (SELECT position, look <#> %s AS distance FROM {some}) AS compared "
            "ORDER BY distance, position LIMIT %s"
        )
        with _cursor(binary=True) as cursor:
            if among is None and not exactly:
                _let_search(cursor, min(MOST_SIGHT, max(self.effort or 0, SIGHT_A_HIT * k)))
            cursor.execute(statement, parameters)
            lines = cursor.fetchall()
        return [line[0] for line in lines], [line[1] for line in lines]

    def _drop(self) -> None:
        with _cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self._stored.name}")

    @classmethod
    def _translated(cls, error: Exception) -> VectorIndexError | None:
        if isinstance(error, (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)):
            return EngineAway(f"PostgreSQL, which has the looks, does not answer: {first_line(error)}")
        if isinstance(error, (DatabaseError, psycopg.Error)):
            return VectorIndexError(f"PostgreSQL refuses: {first_line(error)}")
        return None

    @classmethod
    def _renew(cls) -> None:
        connection = connections[_alias()]
        if not connection.in_atomic_block:
            connection.close()


def _alias() -> str:
    alias: str = settings.SIMILARITY["INDEX"].get("DATABASE") or "default"
    return alias


@contextmanager
def _cursor(*, binary: bool = False) -> Iterator[Any]:
    """Of the database that has the looks; `binary`: the driver's own, which knows vectors."""
    connection = connections[_alias()]
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            f"Looks cannot lie in {connection.vendor}: let VITRINE_VECTORS_URL (or DATABASE_URL) name a PostgreSQL "
            "with pgvector."
        )
    if not binary:
        with connection.cursor() as cursor:
            yield cursor
        return
    connection.ensure_connection()
    _register(connection)
    with psycopg.Cursor(connection.connection) as cursor:  # Django's own puts parameters into the text
        cursor.format = psycopg.pq.Format.BINARY
        yield cursor


def _register(connection: BaseDatabaseWrapper) -> None:
    """Teach an open connection what vectors are, once."""
    if connection.connection not in _registered:
        register_vector(connection.connection)
        _registered.add(connection.connection)


def _let_search(cursor: Any, effort: int) -> None:
    """It stays with the connection, and most questions want the same: one statement less for each of these. Within a
    transaction nothing is remembered, as one that is rolled back takes it along."""
    connection = cursor.connection
    if _efforts.get(connection) == effort:
        return
    _efforts.pop(connection, None)
    # Without autocommit, as within `atomic`, the first statement begins a transaction.
    lasting = connection.autocommit and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    cursor.execute("SELECT set_config('hnsw.ef_search', %s, false)", [str(effort)])
    if lasting:
        _efforts[connection] = effort
