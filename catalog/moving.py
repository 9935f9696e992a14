"""Moving a catalogue from one database to another: every row of every table, with the keys that they have.

For who outgrows SQLite: `import_fashion` would draw new rows for the pictures, and every embedding would have to be
made again. PostgreSQL takes the rows by COPY, in one transaction: all of them or none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core import serializers
from django.core.management.color import no_style
from django.db import connection, connections, models, transaction

SOURCE = "moved_from"
"""What the database that is read is called while it is."""
_LINES = 2000

Progress = Callable[[int, int], object]
"""Told how many rows of how many are there."""


class MoveError(Exception):
    """A catalogue cannot be moved; the message says why, and what to do."""


@dataclass(frozen=True)
class Moved:
    """How many rows each table got."""

    rows: dict[str, int]
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "total": self.total, "seconds": self.seconds}


def move_catalogue(source: dict[str, Any], progress: Progress = lambda done, total: None) -> Moved:
    """Fill the database of the settings, which has to be PostgreSQL, migrated and without products, from `source`, the
    settings of another one that is as migrated. It is only read.

    Raises MoveError; nothing was changed then.
    """
    started = time.monotonic()
    if str(source["ENGINE"]).endswith("sqlite3") and not Path(source["NAME"]).is_file():  # it would be made
        raise MoveError(f"There is no database {source['NAME']}.")
    if connection.vendor != "postgresql":
        raise MoveError("DATABASE_URL has to name the PostgreSQL that the catalogue moves to.")
    connections.settings[SOURCE] = connections.configure_settings({"default": {}, SOURCE: source})[SOURCE]
    former = connections[SOURCE]
    try:
        tables = list(_tables())
        _check(tables)
        # One view of the source for all its tables, whatever is written meanwhile.
        with transaction.atomic(), transaction.atomic(using=SOURCE):
            counts = {model: model._base_manager.using(SOURCE).count() for model in tables}
            total = sum(counts.values())
            moved: dict[type[models.Model], int] = {}
            with connection.cursor() as cursor:
                names = ", ".join(connection.ops.quote_name(model._meta.db_table) for model in tables)
                cursor.execute(f"TRUNCATE {names}")
            for model in tables:
                moved[model] = _copy(model, partial(_advance, progress, sum(moved.values()), total))
                if moved[model] != counts[model]:
                    raise MoveError(f"Of {model._meta.db_table}, {moved[model]} of {counts[model]} rows arrived.")
            with connection.cursor() as cursor:
                for statement in connection.ops.sequence_reset_sql(no_style(), tables):
                    cursor.execute(statement)
    finally:
        former.close()
        del connections[SOURCE], connections.settings[SOURCE]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    rows = {model._meta.db_table: count for model, count in moved.items() if count}
    return Moved(rows, round(time.monotonic() - started, 1))


def _advance(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _tables() -> Iterator[type[models.Model]]:
    """Those that others refer to first."""
    of_apps = [(config, None) for config in apps.get_app_configs()]
    ordered = serializers.sort_dependencies(of_apps, allow_cycles=True)
    seen = set()
    for model in ordered:
        throughs: list[Any] = [field.remote_field.through for field in model._meta.local_many_to_many]
        for each in (model, *(through for through in throughs if through._meta.auto_created)):
            if each._meta.managed and not each._meta.proxy and each._meta.db_table not in seen:
                seen.add(each._meta.db_table)
                yield each


def _check(tables: list[type[models.Model]]) -> None:
    from catalog.models import Product

    for name, which in (("default", "DATABASE_URL"), (SOURCE, "the database that is moved")):
        there = set(connections[name].introspection.table_names())
        lacking = [model._meta.db_table for model in tables if model._meta.db_table not in there]
        if lacking:
            raise MoveError(f"{which} has no table {lacking[0]}; run there: python manage.py migrate")
    if _migrations("default") != _migrations(SOURCE):
        raise MoveError("Both databases have to be of this version; run for each: python manage.py migrate")
    if Product.objects.exists():
        raise MoveError("DATABASE_URL names a database that has products already, and nothing is overwritten.")


def _migrations(alias: str) -> set[tuple[str, str]]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations")
        return set(cursor.fetchall())


def _copy(model: type[models.Model], progress: Callable[[int], object]) -> int:
    fields = [field for field in model._meta.local_concrete_fields if field.column]
    quote = connection.ops.quote_name
    into = f"COPY {quote(model._meta.db_table)} ({', '.join(quote(str(field.column)) for field in fields)}) FROM STDIN"
    rows = model._base_manager.using(SOURCE).order_by("pk").values_list(*(field.attname for field in fields))
    done = 0
    with connection.cursor() as cursor, cursor.copy(into) as copy:
        for row in rows.iterator(chunk_size=_LINES):
            copy.write_row(
                [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]
            )
            done += 1
            if done % _LINES == 0:
                progress(done)
    progress(done)
    return done
