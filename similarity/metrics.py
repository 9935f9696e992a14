"""`/metrics`: requests (django-prometheus), and what only this program knows of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import REGISTRY, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from similarity.services import index_status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class StateCollector(Collector):
    """How the index stands, asked for when somebody looks."""

    def collect(self) -> Iterator[Metric]:
        status = index_status()
        looks = status.manifest.count if status.manifest else 0
        for name, said, value in (
            ("vitrine_products", "Products in the catalogue.", status.products),
            ("vitrine_pictures_waiting", "Products whose picture has no look yet.", status.waiting),
            ("vitrine_looks_young", "Looks that are younger than the build and answer beside it.", status.young),
            ("vitrine_build_ok", "Whether a build answers (1) or none can (0).", int(status.state == "ok")),
            ("vitrine_build_looks", "Looks in the build that answers.", looks),
            ("vitrine_build_age_seconds", "Since the build that answers was made.", status.age_s),
        ):
            if value is not None:
                yield GaugeMetricFamily(name, said, value=value)


def exposition() -> bytes:
    """All workers' metrics where they share a folder (gunicorn.conf.py sees to it), else this process' own."""
    registry = CollectorRegistry()
    registry.register(StateCollector())
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(registry) + generate_latest(REGISTRY)
