"""Where pictures are embedded: on this machine, or on many. `manage.py build_index --runner NAME`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

from similarity import pipeline
from similarity.embedders import Embedder
from similarity.spaces import SpaceWriter

RUNNERS = ("local", "ray")


@dataclass(frozen=True)
class Runner:
    """`name` is one of RUNNERS; `address` is Ray's, None for a cluster of this machine alone."""

    name: str = "local"
    address: str | None = None


def embed(
    runner: Runner,
    work: pipeline.Work,
    models: Mapping[str, str],
    embedders: Mapping[str, Embedder],
    writers: Mapping[str, SpaceWriter],
) -> Iterator[pipeline.Batch]:
    """Do the work, a batch at a time; each batch is on this machine's disk when it is yielded.

    `models` says, by part, under which names the embedders are made anew elsewhere. Raises EmbedderError where they
    cannot be had, and ImproperlyConfigured where the runner cannot.
    """
    if runner.name == "local":
        pipeline.calibrate(work, embedders)
        return pipeline.embed(work, embedders, writers)
    try:
        from similarity.runners import distributed
    except ImportError as error:
        raise ImproperlyConfigured(
            f"--runner {runner.name}: {error}. Run: pip install -r requirements-ray.txt"
        ) from error
    return distributed.embed(runner.address, work, models, embedders, writers)
