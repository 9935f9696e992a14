"""System checks: what an operator can get wrong with the site, said before a visitor or an attacker finds it."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, connection, connections

from catalog.files import free_bytes, nearest
from catalog.reading import REPLICA

LEAST_FREE_BYTES = 2**30
OLDEST_SQLITE = (3, 37, 0)


@register(Tags.files)
def check_data_folder(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Everything is written there."""
    folder = settings.DATA_DIR
    if not os.access(nearest(folder), os.W_OK | os.X_OK):
        hint = f"Make it for the user that runs Vitrine: install -d -o USER {folder}"
        return [Error(f"The data folder {folder} cannot be written to.", hint=hint, id="catalog.E001")]
    free = free_bytes(folder)
    if free < LEAST_FREE_BYTES:
        hint = "Make room, or let VITRINE_DATA_DIR name a folder on a larger disk."
        return [Warning(f"The disk of {folder} has {free >> 20} MiB left.", hint=hint, id="catalog.W001")]
    return []


@register(Tags.database)
def check_sqlite(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Searching in words needs FTS5, and a change log tables that are read while they are written."""
    if connection.vendor != "sqlite":
        return []
    messages: list[CheckMessage] = []
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        said = f"SQLite is {sqlite3.sqlite_version}; Vitrine needs {'.'.join(map(str, OLDEST_SQLITE))} or younger."
        messages.append(Error(said, hint="Install a younger Python or libsqlite3.", id="catalog.E002"))
    with sqlite3.connect(":memory:") as probe:
        options = {name for (name,) in probe.execute("PRAGMA compile_options")}
    if "ENABLE_FTS5" not in options:
        said = "This SQLite was built without FTS5, which searches in words."
        messages.append(Error(said, hint="Install a Python whose sqlite3 has it.", id="catalog.E003"))
    return messages


@register("catalog")
def check_replica(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Visitors read from it what is written to the database of the catalogue, which has to come there by itself."""
    if REPLICA not in settings.DATABASES:
        return []
    for setting, alias in (("DATABASE_REPLICA_URL", REPLICA), ("DATABASE_URL", DEFAULT_DB_ALIAS)):
        if (vendor := connections[alias].vendor) != "postgresql":
            said = f"{setting} names {vendor}, which no replica follows: visitors would see another catalogue."
            hint = "Let DATABASE_REPLICA_URL name a streaming replica of the PostgreSQL of DATABASE_URL, or unset it."
            return [Error(said, hint=hint, id="catalog.E005")]
    return []


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Settings that are right for a trial and wrong for a site that others reach."""
    messages: list[CheckMessage] = []

    def warn(number: int, said: str, hint: str) -> None:
        messages.append(Warning(said, hint=hint, id=f"catalog.W{number:03}"))

    for name in settings.NOT_SET:
        said = f"{name} is not set, and no server starts without it."
        messages.append(Error(said, hint="README.md says how, under Settings.", id="catalog.E004"))
    if "*" in settings.ALLOWED_HOSTS:
        warn(2, "DJANGO_ALLOWED_HOSTS=* lets a stranger choose the addresses that pages name.", "Name your hosts.")
    if settings.FETCH == "private":
        warn(
            3,
            "VITRINE_FETCH=private lets visitors have this machine ask its neighbours.",
            "Leave it at public, or off.",
        )
    if not any(settings.THROTTLES.values()):
        warn(4, "VITRINE_THROTTLE=off lets one client keep all cores busy.", "Leave it unset.")
    if settings.METRICS == "open":
        warn(5, "VITRINE_METRICS=open shows everybody how busy the shop is.", "Let Prometheus ask on this machine.")
    if settings.HTTPS and not settings.PROXIES:
        said = "VITRINE_HTTPS is on with VITRINE_PROXIES=0: gunicorn speaks no https, so every request is redirected."
        warn(6, said, "Set VITRINE_PROXIES to the number of proxies in front (1 for one nginx).")
    if settings.CORS_ALLOW_ALL_ORIGINS:
        warn(7, "VITRINE_CORS_ORIGINS=* lets every page of the web use the API from its visitors.", "Name the pages.")
    return messages
