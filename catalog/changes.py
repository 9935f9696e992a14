"""What has changed in the catalogue: a log that the database itself keeps.

Triggers write it, so that bulk writes, `update()` and other programs are in it too, and in the very transaction of the
change. An entry is a version (ever growing), the product, and a random token: whoever has seen an entry and finds it
again has missed nothing but what stands after it, and whoever does not has read a database that was rolled back,
restored, or has gone on further than the log reaches back.

SQLite only, as `catalog.words` is; it is made by migration 0006. A migration that lets Django remake the table of
products drops the triggers with it, and has to run `CREATE` again; a test looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from catalog.columns import ATTRIBUTES

TABLE = "catalog_product_changes"
KEPT = 100_000
"""Entries that the log reaches back."""
WATCHED = ("title", *ATTRIBUTES, "hidden", "missing_since", "embedding_row")
"""What an update must change to be an entry: what decides whether a product is found, and by what."""

_CHANGED = " OR ".join(f"old.{name} IS NOT new.{name}" for name in ("id", *WATCHED))


def _entry(row: str) -> str:
    return (
        f"INSERT INTO {TABLE} (product, token) VALUES ({row}.id, random());"  # noqa: S608 - constants
        f" DELETE FROM {TABLE} WHERE version = last_insert_rowid() - {KEPT};"
    )


CREATE = [
    f"CREATE TABLE IF NOT EXISTS {TABLE}"
    " (version INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL, token INTEGER NOT NULL)",
    f"INSERT INTO {TABLE} (product, token) SELECT 0, random() WHERE NOT EXISTS (SELECT 1 FROM {TABLE})",  # noqa: S608
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_insert AFTER INSERT ON catalog_product BEGIN {_entry('new')} END",
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_delete AFTER DELETE ON catalog_product BEGIN {_entry('old')} END",
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_update AFTER UPDATE OF id, {', '.join(WATCHED)} ON catalog_product"
    f" WHEN {_CHANGED} BEGIN {_entry('new')} END",
]
DROP = [
    *(f"DROP TRIGGER IF EXISTS {TABLE}_{event}" for event in ("insert", "delete", "update")),
    f"DROP TABLE IF EXISTS {TABLE}",
]


@dataclass(frozen=True)
class Entry:
    """The newest entry that somebody has seen."""

    version: int
    token: int


@dataclass(frozen=True)
class News:
    """What stands in the log after an entry: the newest, and the products that were changed, each once."""

    newest: Entry
    products: frozenset[int]


def newest() -> Entry:
    """The log's last entry. One query."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT version, token FROM {TABLE} ORDER BY version DESC LIMIT 1")  # noqa: S608
        return Entry(*cursor.fetchone())


def since(seen: Entry, most: int) -> News | None:
    """What has changed since then; None where that cannot be told, or where it is more than `most` entries. One
    query."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT version, token, product FROM {TABLE} WHERE version >= %s ORDER BY version LIMIT %s",  # noqa: S608
            [seen.version, most + 2],
        )
        found = cursor.fetchall()
    if not found or found[0][:2] != (seen.version, seen.token) or len(found) > most + 1:
        return None
    return News(Entry(*found[-1][:2]), frozenset(product for _version, _token, product in found[1:]))
