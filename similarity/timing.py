"""How long searching and embedding take, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Histogram

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SEARCH_S = Histogram("vitrine_search_seconds", "Finding similar items, without the page around.", buckets=_BOUNDS)
EMBED_S = Histogram("vitrine_embed_seconds", "Making the look of one picture that somebody sent.", buckets=_BOUNDS)
