"""Embedding on many machines, by Ray Data (https://docs.ray.io/en/latest/data/data.html).

The pictures that lack a vector become blocks of positions and paths; actors, each with its embedders made once, turn
them into vectors; this process takes the results as they come and appends them to the spaces. It is the spaces' only
writer, and writes each position once: whatever Ray does again after a node has died changes nothing, and whoever is
stopped goes on with what is still missing, as always. What comes faster than it is written waits in Ray's store, which
then holds the actors back.

Every node has Vitrine at the same place, reads the same pictures (MEDIA_ROOT), and makes the same embedders: one whose
weights or preprocessing differ is refused.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from similarity import pipeline, products
from similarity.embedders import Embedder, EmbedderError
from similarity.pipeline import Batch, Embedded, Work
from similarity.runners.actor import Embedding
from similarity.spaces import SpaceWriter

BLOCK = 1024
"""Pictures that are handed out together."""
SPARE_CPUS = 2
"""Logical processors that actors must leave to Ray's own reading: with none left, a job waits for ever."""
KNOCK_S = 5.0
_PASSED_ON = ("DJANGO_", "VITRINE_", "HF_", "DATABASE_")
"""Beginnings of the variables that actors are given, whatever those of their nodes are."""


def embed(
    address: str | None,
    work: Work,
    models: Mapping[str, str],
    embedders: Mapping[str, Embedder],
    writers: Mapping[str, SpaceWriter],
) -> Iterator[Batch]:
    """As `similarity.runners.base.embed`. Raises EmbedderError where an actor cannot be made."""
    if settings.SIMILARITY["RUNTIME"]["PRECISION"] == "int8":
        raise ImproperlyConfigured("int8 is fitted on the machine that embeds; with --runner ray, choose another.")
    identities = {part: vars(embedder.identity()) for part, embedder in embedders.items()}
    pictures = list(products.picture_paths(work.pictures.rows))
    written = np.ones(len(work), dtype=bool)
    written[[at for at, _path in pictures]] = False  # the others' products are gone by now
    if not pictures:
        return
    with _cluster(address):
        actors = _actors()
        dataset = ray.data.from_arrow(list(_blocks(work, pictures))).map_batches(
            Embedding,
            fn_constructor_args=(_environment(), dict(models), identities),
            batch_size=pipeline.batch_size(embedders),
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            num_cpus=1,
            num_gpus=settings.SIMILARITY["RAY"]["GPUS"] or None,
            ray_remote_args_fn=_spread,
        )
        try:
            for line in dataset.iter_rows():
                done = _unwritten(line["result"], written)
                if done.size:
                    yield pipeline.write(done, work, writers)
        except ray.exceptions.RayError as error:
            raise EmbedderError(f"Ray has given up: {_cause(error)}") from error
    if not written.all():
        raise EmbedderError(f"Ray has lost {np.count_nonzero(~written)} pictures. Run build_index again.")


def _unwritten(done: Embedded, written: np.ndarray[Any, np.dtype[np.bool_]]) -> Embedded:
    """What of it was not written before; it counts as written from now on."""
    at = set(done.unreadable).union(*(places for places, _vectors, _by in done.parts.values()))
    new = {place for place in at if not written[place]}
    written[list(new)] = True
    if len(new) == len(at):
        return done
    parts = {}
    for part, (places, vectors, by) in done.parts.items():
        kept = [line for line, place in enumerate(places) if place in new]
        parts[part] = ([places[line] for line in kept], vectors[kept], by)
    return Embedded(len(new), {place: said for place, said in done.unreadable.items() if place in new}, parts)


def _blocks(work: Work, pictures: Sequence[tuple[int, Path]]) -> Iterator[pa.Table]:
    """Positions, names below MEDIA_ROOT, and what is lacking."""
    root = Path(settings.MEDIA_ROOT)
    for start in range(0, len(pictures), BLOCK):
        some = pictures[start : start + BLOCK]
        at = np.array([place for place, _path in some], dtype=np.int64)
        columns = {"at": at, "name": [path.relative_to(root).as_posix() for _place, path in some]}
        yield pa.table({**columns, **{f"lacks_{part}": missing[at] for part, missing in work.missing.items()}})


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    logging.getLogger("ray").setLevel(logging.ERROR)  # how far it is, is told here
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    # What Ray tells of nodes that die goes where errors go: what we print may be JSON.
    with redirect_stdout(sys.stderr):
        try:
            if address:
                _knock(address)
                ray.init(address=address, **quiet)
            else:
                wanted = settings.SIMILARITY["RAY"]["ACTORS"] or 1
                cpus = max(os.cpu_count() or 1, wanted + SPARE_CPUS)
                ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise EmbedderError(f"Ray cannot be reached at {address or 'this machine'}: {error}") from error
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody answers at host:port: Ray would try for minutes. "auto" and ray://… are its own."""
    host, _, port = address.rpartition(":")
    if "/" not in address and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_S).close()


def _actors() -> int:
    """How many: as the settings say, else one for each GPU that is asked for, or for each node."""
    there = ray.cluster_resources()
    wanted: int | None = settings.SIMILARITY["RAY"]["ACTORS"]
    gpus: float = settings.SIMILARITY["RAY"]["GPUS"]
    if wanted is None:
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        wanted = int(there.get("GPU", 0) / gpus) if gpus else nodes
    most = int(there.get("CPU", 0)) - SPARE_CPUS
    if wanted < 1 or wanted > most or wanted * gpus > there.get("GPU", 0):  # Ray would wait for them
        raise ImproperlyConfigured(
            f"{wanted} actors (VITRINE_RAY_ACTORS, VITRINE_RAY_GPUS) cannot be had: the cluster has "
            f"{there.get('CPU', 0):.0f} processors, {SPARE_CPUS} of them for Ray, and {there.get('GPU', 0):.0f} GPUs."
        )
    return wanted


def _spread() -> dict[str, str]:
    """An actor a node, as long as there are nodes."""
    return {"scheduling_strategy": "SPREAD"}


def _environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**own, "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"]}


def _cause(error: BaseException) -> str:
    """What an actor said, without Ray's own frames."""
    inner = getattr(error, "cause", None) or error
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(inner).__name__
