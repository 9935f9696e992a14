"""How often one client may ask. The rates are those of VITRINE_THROTTLE; each process counts for itself.

In a file of its own: Django REST framework reads it while its views are still being imported.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework.throttling import SimpleRateThrottle

from catalog.metrics import refused


class ClientThrottle(SimpleRateThrottle):
    """A client is a network address: of the proxies in front, VITRINE_PROXIES are believed."""

    scope: str

    def get_rate(self) -> str | None:
        rates: dict[str, str | None] = settings.THROTTLES
        return rates[self.scope]

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


def client_address(request: HttpRequest) -> str | None:
    """Who asks, as throttles see it; None where that is no network address (a socket of this machine)."""
    try:
        return str(ip_address(str(ApiThrottle().get_ident(request))))  # type: ignore[arg-type]  # it reads META alone
    except ValueError:
        return None


def locked_out(request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
    """What somebody is told who has tried too many passwords."""
    refused("login", "locked_out")
    return render(request, "429.html", status=429)


class ApiThrottle(ClientThrottle):
    """Everything under /api/; no rate is set unless an operator sets one."""

    scope = "api"
