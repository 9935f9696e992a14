"""How often one client may have a network look at a picture, and have us fetch one.

The rates are DRF's DEFAULT_THROTTLE_RATES; each process counts for itself, in Django's cache.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle


class _ClientThrottle(SimpleRateThrottle):
    def get_rate(self) -> str | None:
        rate: str | None = api_settings.DEFAULT_THROTTLE_RATES[self.scope]
        return rate

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class PictureThrottle(_ClientThrottle):
    scope = "picture"


class FetchThrottle(_ClientThrottle):
    """Counts only what has an address to fetch."""

    scope = "fetch"

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        given = request.data if isinstance(request, Request) else request.POST
        return super().get_cache_key(request, view) if given.get("url") else None


def wait_s(request: HttpRequest) -> float | None:
    """How long the client of a page has to wait; None where it need not."""
    for throttle in (PictureThrottle(), FetchThrottle()):
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # a page has no view class
            return throttle.wait() or 1.0
    return None
