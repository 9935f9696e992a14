"""What runs on the nodes of a cluster. Ray imports this before Django is set up, so that everything else of Vitrine is
imported where it is needed.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings

if TYPE_CHECKING:
    from similarity import pipeline


class Embedding:
    """An actor: embedders made once, batches of pictures turned into vectors."""

    def __init__(
        self, environment: dict[str, str], models: dict[str, str], identities: dict[str, dict[str, Any]]
    ) -> None:
        os.environ.update(environment)
        import django

        django.setup()
        from similarity import pipeline
        from similarity.embedders import EmbedderError, get_embedder

        self._embedders = {part: get_embedder(name) for part, name in models.items()}
        for part, embedder in self._embedders.items():
            if vars(embedder.identity()) != identities[part]:
                raise EmbedderError(
                    f"{models[part]} on the node {_node()} is not what it is where build_index runs (its weights, its "
                    "preprocessing or an option differ)."
                )
        if not Path(settings.MEDIA_ROOT).is_dir():
            raise EmbedderError(f"The node {_node()} does not see the pictures in {settings.MEDIA_ROOT}.")
        self._root = Path(settings.MEDIA_ROOT)
        self._px = pipeline.decoded_px(self._embedders)
        self._pool = ThreadPoolExecutor(pipeline.DECODERS, thread_name_prefix="decode")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Columns at (n,), name (n,) and, for each part, whether it is lacking (n,) → one line, an `Embedded`."""
        from similarity import pipeline

        def prepare(line: int) -> pipeline.Prepared:
            lacking = {part: embedder for part, embedder in self._embedders.items() if batch[f"lacks_{part}"][line]}
            return pipeline.prepare(int(batch["at"][line]), self._root / batch["name"][line], lacking, self._px)

        done = list(self._pool.map(prepare, range(len(batch["at"]))))
        parts = {}
        for part, embedder in self._embedders.items():
            there = [item for item in done if part in item.arrays]
            if there:
                vectors = embedder.vectors(embedder.submit(np.stack([item.arrays[part] for item in there])).result())
                parts[part] = ([item.at for item in there], vectors, embedder.computed_by)
        unreadable = {item.at: item.trouble for item in done if item.trouble}
        return {"result": np.array([pipeline.Embedded(len(done), unreadable, parts)], dtype=object)}


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())
