"""What has changed in the catalogue: a log that the database itself keeps.

Triggers write it, so that bulk writes, `update()` and other programs are in it too, and in the very transaction of the
change. An entry is a version (ever growing), the product, and a random token: whoever has seen an entry and finds it
again has missed nothing but what stands after it, and whoever does not has read a database that was rolled back,
restored, or has gone on further than the log reaches back.

SQLite has one writer at a time, so that versions are seen in their order. PostgreSQL has many, and who began first may
end last: there an entry also names its transaction, and whoever reads remembers up to which one all had ended
(`Seen.horizon`), and what was seen of later ones (`Seen.ahead`). What was dumped from another server names transactions
of that one, and had all ended when it was dumped.

It is made by migrations 0006 and 0007. A migration that lets Django remake the table of products drops the triggers
with it (SQLite), and has to run `CREATE` again; a test looks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog import reading
from catalog.columns import ATTRIBUTES

TABLE = "catalog_product_changes"
KEPT = 100_000
"""Entries that the log reaches back."""
WATCHED = ("title", *ATTRIBUTES, "hidden", "missing_since", "embedding_row")
"""What an update must change to be an entry: what decides whether a product is found, and by what."""
MOST_AHEAD = 100
"""Entries of transactions that had not all ended, beyond which it is worth remembering anew what has been seen."""
MOST_BEHIND = 10_000
"""Transactions since, beyond which it is too."""


def _sqlite() -> tuple[list[str], list[str]]:
    changed = " OR ".join(f"old.{name} IS NOT new.{name}" for name in ("id", *WATCHED))

    def entry(row: str) -> str:
        return (
            f"INSERT INTO {TABLE} (product, token) VALUES ({row}.id, random());"  # noqa: S608 - constants
            f" DELETE FROM {TABLE} WHERE version = last_insert_rowid() - {KEPT};"
        )

    create = [
        f"CREATE TABLE IF NOT EXISTS {TABLE}"
        " (version INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL, token INTEGER NOT NULL)",
        f"INSERT INTO {TABLE} (product, token) SELECT 0, random() WHERE NOT EXISTS (SELECT 1 FROM {TABLE})",  # noqa: S608
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_insert AFTER INSERT ON catalog_product BEGIN {entry('new')} END",
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_delete AFTER DELETE ON catalog_product BEGIN {entry('old')} END",
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_update AFTER UPDATE OF id, {', '.join(WATCHED)} ON catalog_product"
        f" WHEN {changed} BEGIN {entry('new')} END",
    ]
    drop = [
        *(f"DROP TRIGGER IF EXISTS {TABLE}_{event}" for event in ("insert", "delete", "update")),
        f"DROP TABLE IF EXISTS {TABLE}",
    ]
    return create, drop


def _postgresql() -> tuple[list[str], list[str]]:
    """A statement that writes many rows makes its entries with one."""
    old, new = (", ".join(f"{row}.{name}" for name in WATCHED) for row in ("old_rows", "new_rows"))
    changed = (
        "SELECT coalesce(new_rows.id, old_rows.id) FROM new_rows FULL JOIN old_rows ON new_rows.id = old_rows.id"  # noqa: S608
        f" WHERE new_rows.id IS NULL OR old_rows.id IS NULL OR ({old}) IS DISTINCT FROM ({new})"
    )
    # What others are about to remove is left to them: nobody waits for anybody on account of the log.
    prune = (
        f"DELETE FROM {TABLE} WHERE version IN (SELECT version FROM {TABLE} WHERE version <="  # noqa: S608 - constants
        f" (SELECT max(version) FROM {TABLE}) - {KEPT} FOR UPDATE SKIP LOCKED)"
    )
    reference = {
        "insert": ("REFERENCING NEW TABLE AS new_rows", "SELECT id FROM new_rows"),
        "delete": ("REFERENCING OLD TABLE AS old_rows", "SELECT id FROM old_rows"),
        "update": ("REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows", changed),
    }
    create = [
        f"CREATE TABLE IF NOT EXISTS {TABLE} (version bigserial PRIMARY KEY, product bigint NOT NULL,"
        " token bigint NOT NULL DEFAULT (random() * 9007199254740991)::bigint,"
        " transaction xid8 NOT NULL DEFAULT pg_current_xact_id())",
        f"CREATE INDEX IF NOT EXISTS {TABLE}_transaction ON {TABLE} (transaction)",
        f"INSERT INTO {TABLE} (product) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM {TABLE})",  # noqa: S608
    ]
    for event, (referencing, products) in reference.items():
        create += [
            f"CREATE OR REPLACE FUNCTION {TABLE}_{event}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" INSERT INTO {TABLE} (product) {products}; {prune}; RETURN NULL; END $$",
            f"CREATE OR REPLACE TRIGGER {TABLE}_{event} AFTER {event.upper()} ON catalog_product {referencing}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_{event}()",
        ]
    create += [  # of which no row is told: whoever has seen anything reads all anew
        f"CREATE OR REPLACE FUNCTION {TABLE}_truncate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"  # noqa: S608
        f" DELETE FROM {TABLE}; INSERT INTO {TABLE} (product) VALUES (0); RETURN NULL; END $$",
        f"CREATE OR REPLACE TRIGGER {TABLE}_truncate AFTER TRUNCATE ON catalog_product"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_truncate()",
    ]
    events = (*reference, "truncate")
    drop = [
        *(f"DROP TRIGGER IF EXISTS {TABLE}_{event} ON catalog_product" for event in events),
        *(f"DROP FUNCTION IF EXISTS {TABLE}_{event}()" for event in events),
        f"DROP TABLE IF EXISTS {TABLE}",
    ]
    return create, drop


CREATE, DROP = {}, {}
for _vendor, _statements in (("sqlite", _sqlite()), ("postgresql", _postgresql())):
    CREATE[_vendor], DROP[_vendor] = _statements


@dataclass(frozen=True)
class Seen:
    """What somebody has seen of the log: up to the entry `version`, which has this `token`.

    On PostgreSQL `version` is the newest entry of the transactions before `horizon`, all of which had ended, and
    `ahead` are the versions that were seen of other transactions.
    """

    version: int
    token: int
    horizon: int = 0
    ahead: frozenset[int] = frozenset()


@dataclass(frozen=True)
class News:
    """What stands in the log beyond what was seen: what has been seen now, and the products changed, each once."""

    seen: Seen
    products: frozenset[int]


def is_kept() -> bool:
    """Whether this database keeps a log."""
    return reading.connection().vendor in CREATE


def newest() -> Seen:
    """All that there is now. One query."""
    with reading.connection().cursor() as cursor:
        if reading.connection().vendor == "sqlite":
            cursor.execute(f"SELECT version, token FROM {TABLE} ORDER BY version DESC LIMIT 1")  # noqa: S608
            return Seen(*cursor.fetchone())
        cursor.execute(
            f"{_ENTRIES} WHERE {_YOUNG.format(_XMIN)} OR version ="  # noqa: S608
            f" (SELECT version FROM {TABLE} WHERE {_SETTLED} ORDER BY version DESC LIMIT 1) ORDER BY version"
        )
        return _seen(cursor.fetchall())


def since(seen: Seen, most: int) -> News | None:
    """What has changed since then; None where that cannot be told, or where it is more than `most` entries. One
    query."""
    if reading.connection().vendor != "sqlite":
        return _since_on_postgresql(seen, most)
    with reading.connection().cursor() as cursor:
        cursor.execute(
            f"SELECT version, token, product FROM {TABLE} WHERE version >= %s ORDER BY version LIMIT %s",  # noqa: S608
            [seen.version, most + 2],
        )
        found = cursor.fetchall()
    if not found or found[0][:2] != (seen.version, seen.token) or len(found) > most + 1:
        return None
    return News(Seen(*found[-1][:2]), frozenset(product for _version, _token, product in found[1:]))


_XMIN = "pg_snapshot_xmin(pg_current_snapshot())"
"""All transactions before this one have ended (https://www.postgresql.org/docs/current/functions-info.html)."""
_XMAX = "pg_snapshot_xmax(pg_current_snapshot())"
"""Of this one and later ones nothing is visible, but to themselves."""
_OWN = "pg_current_xact_id_if_assigned()"
_OF_OLD = f"(transaction >= {_XMAX} AND transaction IS DISTINCT FROM {_OWN} OR age(xmin) > age(transaction::xid))"
"""Whether an entry names a transaction of another server, from which it was dumped: one that is still to come here, or
that came after the one which has put the row there. An entry that is written here names its own, or the one around it.
"""
_YOUNG = f"(transaction >= {{}} AND transaction < {_XMAX} AND NOT {_OF_OLD} OR transaction = {_OWN})"
"""Entries of transactions from some one on. With both bounds, so that what is of old is not gone through each time."""
_SETTLED = f"(transaction < {_XMIN} OR {_OF_OLD})"
_ENTRIES = f"SELECT version, token, product, {_SETTLED}, {_XMIN}::text::bigint FROM {TABLE}"  # noqa: S608 - constants
_Line = tuple[int, int, int, bool, int]


def _since_on_postgresql(seen: Seen, most: int) -> News | None:
    known = {seen.version, *seen.ahead}
    with reading.connection().cursor() as cursor:
        # Of what is older than the newest that was seen, what may have been committed since; and all that is younger,
        # also where the horizon is another server's, as after a dump was restored.
        cursor.execute(
            f"{_ENTRIES} WHERE version >= %s OR {_YOUNG.format('%s::text::xid8')} ORDER BY version LIMIT %s",
            [seen.version, str(seen.horizon), len(known) + most + 1],
        )
        found: list[_Line] = cursor.fetchall()
    # Of what this very transaction had written and took back, the entries are gone too.
    lost = (seen.version, seen.token) not in {line[:2] for line in found} or not known <= {line[0] for line in found}
    if lost or len(found) > len(known) + most:
        return None
    return News(_seen(found), frozenset(line[2] for line in found if line[0] not in known))


def _seen(lines: Sequence[_Line]) -> Seen:
    """Of entries of which at least one is of a transaction that all before have ended, or which are all there are."""
    settled = [line for line in lines if line[3]] or lines[:1]
    version, token, *_ = settled[-1]
    return Seen(
        version, token, lines[-1][4], frozenset(line[0] for line in lines if not line[3] and line[0] != version)
    )
