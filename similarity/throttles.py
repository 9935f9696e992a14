"""How often one client may have a network look at a picture, and have us fetch one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request

from catalog.throttles import ClientThrottle


class PictureThrottle(ClientThrottle):
    scope = "picture"


class FetchThrottle(ClientThrottle):
    """Counts only what has an address to fetch."""

    scope = "fetch"

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        given = request.data if isinstance(request, Request) else request.POST
        if not isinstance(given, Mapping) or not given.get("url"):
            return None
        return super().get_cache_key(request, view)


def wait_s(request: HttpRequest) -> int | None:
    """How many seconds the client of a page has to wait; None where it need not."""
    for throttle in (PictureThrottle(), FetchThrottle()):
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # a page is no view of the framework
            return math.ceil(throttle.wait() or 1)
    return None
