"""Where what is only shown is read: the database of the settings, or a replica for those who may be a little late.

The router (`config.replica`) decides for each request; SQL that goes past the ORM asks here.
"""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

REPLICA = "replica"
"""Its name in DATABASES."""


def database() -> str:
    """The name, in DATABASES, of the database that products are read from now."""
    return router.db_for_read(apps.get_model("catalog", "Product"))


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to it."""
    return connections[database()]


def primary_trouble() -> str:
    """What is wrong with the database of the settings; "" where nothing is."""
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM (SELECT 1 FROM catalog_product LIMIT 1) AS one")
    except DatabaseError:
        connections[DEFAULT_DB_ALIAS].close()
        return "It does not answer."
    return ""


def replica_trouble() -> str:
    """What is wrong with the replica, "" where nothing is, or where there is none."""
    if REPLICA not in settings.DATABASES:
        return ""
    try:
        with connections[REPLICA].cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_wal_receiver)")
            follows, streams = cursor.fetchone()
    except DatabaseError:
        connections[REPLICA].close()
        return "It does not answer; the primary is read instead."
    if not follows:
        return "It is a database of its own, and follows none."
    return "" if streams else "It has lost the primary, and shows what was."
