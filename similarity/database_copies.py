"""A catalogue's database as one file of a backup, and back: by SQLite's own backup, or by pg_dump and pg_restore.

PostgreSQL's programs are told where the database is by the environment: what stands on a command line, a password too,
everybody on the machine can read. They see what Django sees, at one moment that is held for them
(https://www.postgresql.org/docs/current/functions-admin.html, pg_export_snapshot).
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import connection, connections, transaction

from catalog.files import fsync


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why, and what to do."""


class DatabaseCopy(ABC):
    """The database of the settings."""

    name: str
    """Of its file in a backup."""
    kind: str
    """What people call it."""
    otherwise: str
    """What to do with a backup of this kind where the settings name another."""

    @abstractmethod
    def write(self, target: Path) -> int:
        """Copy it, as it is at one moment, to a new file; how many products that has. Raises BackupError."""

    @abstractmethod
    def refuse_unless_empty(self) -> None:
        """Raises BackupError where something would be overwritten, or `read` cannot be done; changes nothing."""

    @abstractmethod
    def read(self, source: Path) -> None:
        """Fill it, which is empty, from a file that `write` has written; all of it or nothing. The file may go."""


class SqliteCopy(DatabaseCopy):
    name = "database.sqlite3"
    kind = "SQLite"
    otherwise = "restore it without DATABASE_URL, and move_catalogue then moves it to PostgreSQL"

    def write(self, target: Path) -> int:
        with (
            closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=60)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, that needs no other to be read
            if (said := copy.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                raise BackupError(
                    f"The database is damaged ({said}): restore an older backup, or ask SQLite's .recover."
                )
            return int(copy.execute("SELECT count(*) FROM catalog_product").fetchone()[0])

    def refuse_unless_empty(self) -> None:
        path = self._path()
        if path.exists():
            raise BackupError(
                f"{path} is there already, and nothing is overwritten: let VITRINE_DATA_DIR name an empty folder, or "
                f"move what is in {path.parent} away."
            )
        # Left by a crash (https://www.sqlite.org/tempfiles.html).
        beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]
        if left := [str(each) for each in beside if each.exists()]:
            raise BackupError(
                f"{' and '.join(left)} belonged to a database that is gone, and SQLite would write what is in there "
                f"into the one that is restored: move {'it' if len(left) == 1 else 'them'} away, and run the same "
                "command again."
            )

    def read(self, source: Path) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, path)
        fsync(path.parent)

    @staticmethod
    def _path() -> Path:
        return Path(connection.settings_dict["NAME"])


class PostgresCopy(DatabaseCopy):
    name = "database.pgdump"
    kind = "PostgreSQL"
    otherwise = "let DATABASE_URL name an empty database of PostgreSQL"

    # Whose tables they are and who may read them, the database says that they come to.
    _AS_THEY_COME = ("--no-owner", "--no-privileges", "--no-password")

    def write(self, target: Path) -> int:
        program = _program("pg_dump")
        with _moment() as moment, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM catalog_product")
            products = int(cursor.fetchone()[0])
            _run(program, "--format=custom", *self._AS_THEY_COME, f"--snapshot={moment}", f"--file={target}")
        return products

    def refuse_unless_empty(self) -> None:
        _program("pg_restore")
        with connection.cursor() as cursor:
            # Everything but what belongs to an extension, which may have been made for us.
            cursor.execute(
                "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class "
                "WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema$)' AND NOT EXISTS ("
                "SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')"
                " AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') ORDER BY 1 LIMIT 1"
            )
            if found := cursor.fetchone():
                raise BackupError(
                    f"The database that DATABASE_URL names has {found[0]} already, and nothing is overwritten: let it "
                    "name an empty one (createdb)."
                )

    def read(self, source: Path) -> None:
        connections.close_all()
        whole = ("--single-transaction", "--exit-on-error", "--no-comments")  # of extensions: their owner's to make
        # Without --dbname it would write to its output; where that is, the environment says as to pg_dump.
        _run(_program("pg_restore"), *whole, *self._AS_THEY_COME, "--dbname=application_name=vitrine", str(source))


KINDS: dict[str, type[DatabaseCopy]] = {"sqlite": SqliteCopy, "postgresql": PostgresCopy}
"""By the database's vendor, as Django calls it."""


def of_settings() -> DatabaseCopy:
    """Raises BackupError where the settings name a database that nobody here can copy."""
    if connection.vendor not in KINDS:
        raise BackupError(f"DATABASE_URL names {connection.vendor}: make and restore its backups by its own tools.")
    return KINDS[connection.vendor]()


# --- PostgreSQL's programs -------------------------------------------------------------------------
def _program(name: str) -> str:
    """Where it is. One that is older than the server knows neither its tables nor its dumps."""
    server = connection.pg_version // 10_000  # type: ignore[attr-defined]  # of PostgreSQL's connection
    mend = f"install PostgreSQL's client programs of version {server} or younger (postgresql-client-{server})"
    path = shutil.which(name)
    if path is None:
        raise BackupError(f"{name} is not on PATH: {mend}.")
    said = _run(path, "--version")
    version = re.search(r"\) (\d+)", said)
    if version is None or int(version[1]) < server:
        raise BackupError(f"{path} is too old for the server ({said.strip()}): {mend}, and let PATH name them first.")
    return path


def _run(program: str, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603  # a program of PATH, and arguments of ours
        [program, *arguments],
        env={**os.environ, **_where()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise BackupError(next((line for line in lines if "error:" in line), lines[0]))
    return done.stdout


def _where() -> dict[str, str]:
    """What Django connects with, as variables that libpq reads."""
    from psycopg import pq

    known = connection.get_connection_params()
    names = {option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
    return {names[keyword]: str(value) for keyword, value in known.items() if keyword in names and value is not None}


@contextmanager
def _moment() -> Iterator[str]:
    """The database as it is now, for as long as the block lasts: its name, by which other connections see it too."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_export_snapshot()")
        yield str(cursor.fetchone()[0])
