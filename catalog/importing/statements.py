"""Many products written with few statements.

`bulk_create` makes a model instance, resolves every field and compiles a statement for every few dozen rows
(SQLite's 999 parameters divided by the columns): 250 µs a product where this takes about 30. The statements
are made from the model, and are what SQLite and PostgreSQL both speak; values go through the fields, so
that each database gets them as it wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone

from catalog.models import Product

_KEY = "product_id"
_TEXT = (models.CharField, models.TextField)
_PARAMETERS_AT_ONCE = 900
"""SQLite takes 999 in a statement, newer ones more; a larger number is no faster."""
_SQLITE_CACHE_KIB = 64 * 1024
_SQLITE_CHECKPOINT_PAGES = 8000


def rows_named(names: Sequence[str], product_ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The named columns of the products with these ids, as the database has them: nothing is decoded."""
    fields = ", ".join(_quoted(Product._meta.get_field(name)) for name in names)
    key = _quoted(Product._meta.get_field(_KEY))
    with connection.cursor() as cursor:
        for start in range(0, len(product_ids), _PARAMETERS_AT_ONCE):
            some = product_ids[start : start + _PARAMETERS_AT_ONCE]
            marks = ", ".join(["%s"] * len(some))
            cursor.execute(
                f"SELECT {fields} FROM {_table()} WHERE {key} IN ({marks})",  # noqa: S608 - names from the model
                some,
            )
            yield from cursor.fetchall()


def insert_products(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Create products from the values of the named fields; the other fields get their defaults.

    A product that is there already is left alone. How many were created. Many rows make one statement, because
    after each one SQLite's search in words (`catalog.words`) writes out what it holds in memory: row by row, an
    import took 1.8 times as long.
    """
    named = [Product._meta.get_field(name) for name in names]
    others = [field for field in Product._meta.concrete_fields if not field.primary_key and field not in named]
    defaults = [_prepared(field, _default(field)) for field in others]
    # What the statement says itself need not be bound for every row.
    marks = ["%s"] * len(named) + [_literal(default) for default in defaults]
    bound = tuple(default for default in defaults if _literal(default) == "%s")
    # Almost every value is text, which needs no preparing: only the others go through their field.
    to_prepare = [(at, field) for at, field in enumerate(named) if not isinstance(field, _TEXT)]
    parameters: list[Sequence[Any]] = []
    for row in rows:
        values = (*row, *bound)
        parameters.append(_with_prepared(values, to_prepare) if to_prepare else values)
    columns = ", ".join(_quoted(field) for field in [*named, *others])
    if connection.vendor == "postgresql":
        said = {_quoted(field): _literal(default) for field, default in zip(others, defaults, strict=True)}
        return _copied(columns, {name: mark for name, mark in said.items() if mark != "%s"}, parameters)
    one = f"({', '.join(marks)})"
    at_once = _PARAMETERS_AT_ONCE // (len(named) + len(bound))
    created = 0
    with connection.cursor() as cursor:
        for start in range(0, len(parameters), at_once):
            some = parameters[start : start + at_once]
            cursor.execute(
                f"INSERT INTO {_table()} ({columns}) VALUES {', '.join([one] * len(some))} "  # noqa: S608
                f"ON CONFLICT ({_quoted(Product._meta.get_field(_KEY))}) DO NOTHING",
                [*chain.from_iterable(some)],
            )
            created += cursor.rowcount
    return created


def _copied(columns: str, said: dict[str, str], rows: Sequence[Sequence[Any]]) -> int:
    """PostgreSQL: the rows by COPY into a table of this transaction's own, and from there with one statement. `said`
    are the columns whose values the statement says itself.

    100,000 products were imported in 6.8 s, and in 31 s by statements of many values each (medians of three rounds).
    """
    names = columns.split(", ")
    bound = ", ".join(name for name in names if name not in said)
    values = ", ".join(said.get(name, name) for name in names)
    key = _quoted(Product._meta.get_field(_KEY))
    with _staged(bound, rows) as (cursor, staging):
        cursor.execute(
            f"INSERT INTO {_table()} ({columns}) SELECT {values} FROM {staging} "  # noqa: S608
            f"ON CONFLICT ({key}) DO NOTHING"
        )
        created: int = cursor.rowcount
    return created


@contextmanager
def _staged(columns: str, rows: Iterable[Sequence[Any]]) -> Iterator[tuple[Any, str]]:
    """PostgreSQL: a cursor, and the name of a table that has these rows for as long as the block lasts."""
    staging = f"{Product._meta.db_table}_staging"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE {staging} ON COMMIT DROP AS SELECT {columns} FROM {_table()} WITH NO DATA"  # noqa: S608
        )
        with cursor.copy(f"COPY {staging} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        yield cursor, staging
        cursor.execute(f"DROP TABLE {staging}")


def update_products(products: Iterable[Product], update: Sequence[str]) -> None:
    """Write the named fields of products that are there."""
    fields = [field for field in Product._meta.concrete_fields if field.attname in update]
    key = _quoted(Product._meta.pk)
    rows = [
        (*(_prepared(field, getattr(product, field.attname)) for field in fields), product.pk) for product in products
    ]
    if not rows:
        return
    names = list(map(_quoted, fields))
    if connection.vendor == "postgresql":
        # One statement: the triggers are called once, and not for each row.
        settings = ", ".join(f"{name} = staged.{name}" for name in names)
        with _staged(", ".join([*names, key]), rows) as (cursor, staging):
            cursor.execute(
                f"UPDATE {_table()} AS product SET {settings} FROM {staging} AS staged"  # noqa: S608
                f" WHERE product.{key} = staged.{key}"
            )
        return
    settings = ", ".join(f"{name} = %s" for name in names)
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {_table()} SET {settings} WHERE {key} = %s", rows)  # noqa: S608


@contextmanager
def roomy_sqlite() -> Iterator[None]:
    """Give SQLite memory for the pages that a long import touches again and again; nothing on other databases.

    With its usual 2 MB of pages and a checkpoint every 4 MB of log, 200,000 new products took a third longer.
    """
    if connection.vendor != "sqlite":
        yield
        return
    before = {name: _pragma(name) for name in ("cache_size", "wal_autocheckpoint")}
    _pragma(f"cache_size={-_SQLITE_CACHE_KIB}")
    _pragma(f"wal_autocheckpoint={_SQLITE_CHECKPOINT_PAGES}")
    try:
        yield
    finally:
        for name, value in before.items():
            _pragma(f"{name}={value}")


def _pragma(what: str) -> Any:
    with connection.cursor() as cursor:
        row = cursor.execute(f"PRAGMA {what}").fetchone()
    return row and row[0]


def _default(field: models.Field[Any, Any]) -> Any:
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return timezone.now()
    return field.get_default()


def _prepared(field: Any, value: Any) -> Any:
    return field.get_db_prep_save(value, connection)


def _with_prepared(values: tuple[Any, ...], to_prepare: list[tuple[int, Any]]) -> list[Any]:
    prepared = list(values)
    for at, field in to_prepare:
        prepared[at] = _prepared(field, prepared[at])
    return prepared


def _literal(value: Any) -> str:
    """How SQL says a default, or the mark of a parameter where databases differ."""
    if value is None:
        return "NULL"
    if value == "":
        return "''"
    return "0" if type(value) is int and value == 0 else "%s"


def _quoted(field: Any) -> str:
    return connection.ops.quote_name(field.column)


def _table() -> str:
    return connection.ops.quote_name(Product._meta.db_table)
