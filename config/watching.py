"""`/healthz`, `/readyz` and `/metrics` answer whoever asks this machine by its address, whatever the shop is called.

A health check, a balancer and Prometheus ask 127.0.0.1:8000 or 10.0.0.5:8000, which nobody puts into
DJANGO_ALLOWED_HOSTS. Were such names allowed everywhere, a stranger could have pages, and what a cache keeps of them,
name addresses of his choice; these three answers name none. Another *name* than the shop's is refused here too: a
stranger's page could have its own point at the visitor's machine (DNS rebinding) and read the metrics there. An address
cannot be turned so.
"""

from __future__ import annotations

from ipaddress import ip_address

from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.http.request import split_domain_port
from django.middleware.common import CommonMiddleware

WATCHED = ("/healthz", "/readyz", "/metrics")


class HostMiddleware(CommonMiddleware):
    """Django's, which asks whether the host is allowed, but for watchers."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info in WATCHED and _is_address(request.META.get("HTTP_HOST", "")):
            return None
        return super().process_request(request)


def _is_address(host: str) -> bool:
    domain, _ = split_domain_port(host)
    try:
        ip_address(domain.strip("[]"))
    except ValueError:
        return domain == "localhost"
    return True
