"""How often one client may ask. The rates are those of VITRINE_THROTTLE; each process counts for itself.

In a file of its own: Django REST framework reads it while its views are still being imported.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.throttling import SimpleRateThrottle


class ClientThrottle(SimpleRateThrottle):
    """A client is a network address: of the proxies in front, VITRINE_PROXIES are believed."""

    scope: str

    def get_rate(self) -> str | None:
        rates: dict[str, str | None] = settings.THROTTLES
        return rates[self.scope]

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class ApiThrottle(ClientThrottle):
    """Everything under /api/; no rate is set unless an operator sets one."""

    scope = "api"
