"""Pages and API read from a replica, where DATABASE_REPLICA_URL names one; what writes, and who has written, does not.

Which database a request reads from is decided when it comes: the primary for everything but GET and HEAD, for whoever
is logged in or comes with a key, and for READ_OWN_S seconds for whoever has just changed something (a cookie says so);
the replica for everybody else, as long as it answers. A request that writes reads from the primary from then on.
Commands, tasks and the admin never ask a replica.

A router as Django describes it (https://docs.djangoproject.com/en/5.2/topics/db/multi-db/).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.http import HttpRequest, HttpResponse

from catalog.reading import REPLICA

logger = logging.getLogger(__name__)

COOKIE = "vitrine_wrote"
READ_OWN_S = 15
"""How far a replica may be behind before somebody misses what they have just written."""
AWAY_S = 5.0
"""How long a replica that did not answer is not asked again."""
PATIENCE_S = 0.5
"""While somebody has waited so long for the replica, others read from the primary."""
_ALIVE = "/healthz"
"""Reads nothing, and has to answer at once, whatever is away."""


@dataclass
class _Request:
    """Where one request reads, and whether it has written."""

    alias: str
    wrote: bool = False


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


class ReplicaRouter:
    """Reads go where the request says; everything else to the database of the settings."""

    def db_for_read(self, model: type[Any], **hints: Any) -> str:
        request = _request.get()
        return request.alias if request is not None else DEFAULT_DB_ALIAS

    def db_for_write(self, model: type[Any], **hints: Any) -> str:
        if (request := _request.get()) is not None:
            request.alias, request.wrote = DEFAULT_DB_ALIAS, True
        return DEFAULT_DB_ALIAS

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True  # a replica has the same rows

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == REPLICA else None


class ReplicaMiddleware:
    """Decides for each request; there is none where there is no replica."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if REPLICA not in settings.DATABASES:
            raise MiddlewareNotUsed
        self.get_response = get_response
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._asking: dict[int, float] = {}  # since when, by thread

    def __call__(self, request: HttpRequest) -> HttpResponse:
        reads = _Request(REPLICA if _may_be_late(request) and self._answers() else DEFAULT_DB_ALIAS)
        token = _request.set(reads)
        try:
            response = self.get_response(request)
        finally:
            _request.reset(token)
        if reads.wrote and request.method not in ("GET", "HEAD"):
            response.set_cookie(
                COOKIE, "1", max_age=READ_OWN_S, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE
            )
        return response

    def _answers(self) -> bool:
        """A host that is gone says nothing, and whoever asks waits until the system gives up: one does, no other."""
        now = time.monotonic()
        with self._lock:
            if now < self._away_until or any(now - since > PATIENCE_S for since in self._asking.values()):
                return False
            if self._away_until:  # it was away: the next comes when this one knows
                self._away_until = math.inf
            self._asking[threading.get_ident()] = now
        away = "nobody heard it out"
        try:
            away = self._trouble()
        finally:
            with self._lock:
                del self._asking[threading.get_ident()]
                self._away_until = time.monotonic() + AWAY_S if away else 0.0
        if away:
            logger.warning("The replica does not answer, and the primary is read instead: %s", away)
        return not away

    def _trouble(self) -> str:
        connection = connections[REPLICA]
        try:
            if connection.connection is not None and not connection.is_usable():
                connection.close()
            connection.ensure_connection()
        except DatabaseError as error:
            return str(error).strip() or type(error).__name__
        return ""


def _may_be_late(request: HttpRequest) -> bool:
    if request.method not in ("GET", "HEAD") or request.path == _ALIVE or request.path.startswith("/admin/"):
        return False
    known = (settings.SESSION_COOKIE_NAME, COOKIE)
    return "Authorization" not in request.headers and not any(name in request.COOKIES for name in known)
