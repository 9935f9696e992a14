"""A name for every request, in its answer and on every line that is logged while it is answered."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("vitrine.requests")

HEADER = "X-Request-ID"
_META = "vitrine.request_id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{8,64}")
_current: ContextVar[str] = ContextVar("request_id", default="-")


class RequestIdMiddleware:
    """Takes the name that a proxy gave, where it looks like one, or makes one; and notes how each request went."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        name = given if _WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        request.META[_META] = name
        token = _current.set(name)
        began = time.perf_counter()
        try:
            response = self.get_response(request)
            response[HEADER] = name
            if logger.isEnabledFor(logging.INFO):
                took_ms = round(1000 * (time.perf_counter() - began), 1)
                about = {"method": request.method, "path": request.path, "status": response.status_code, "ms": took_ms}
                logger.info("%(method)s %(path)s %(status)s", about, extra=about)
            return response
        finally:
            _current.reset(token)


class RequestIdFilter(logging.Filter):
    """Adds `request_id` to records; "-" outside of a request. Django's lines on answers of 4xx come when all middleware
    has ended, and bring the request themselves.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        answered = getattr(record, "request", None)
        record.request_id = answered.META.get(_META, "-") if isinstance(answered, HttpRequest) else _current.get()
        return True


class WithoutTraceback(logging.Filter):
    """For what any stranger can cause, as often as he likes: the sentence is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True
