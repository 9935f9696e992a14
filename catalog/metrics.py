"""What is counted for whoever watches the server (Prometheus). `/metrics` shows it (`similarity.metrics`)."""

from __future__ import annotations

from prometheus_client import Counter

REFUSALS = Counter("vitrine_refusals", "Requests and pictures that were refused.", ["what", "reason"])
"""`what`: picture, address, request, login. `reason`: one word of few."""


def refused(what: str, reason: str) -> None:
    REFUSALS.labels(what, reason).inc()
