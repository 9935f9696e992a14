"""Building the index: embed what is missing, fit the transforms, write looks, publish."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from numpy.typing import NDArray

from catalog.memory import peak_mib
from similarity import pipeline, products
from similarity.builds import (
    REPAIR,
    BuildError,
    Ingredients,
    Manifest,
    NoBuild,
    Seen,
    build_lock,
    builds_dir,
    current_manifest,
    default_name,
    give_back_begun,
    open_build,
    readable_manifests,
    remove_unfinished,
    store_build,
    stored_models,
)
from similarity.calibration import calibrate, least_alike
from similarity.cells import Cells, centres_of, in_order, nearest_centres
from similarity.echoes import echoes_of
from similarity.embedders import Embedder, EmbedderError, get_embedder
from similarity.fitting import SAMPLE, Adapter, Catalogue, fit_looks, labels_sha256
from similarity.indexes import get_engine
from similarity.indexes.base import FLAT, Kept
from similarity.looks import Layout
from similarity.products import Pictures
from similarity.publishing import check_name, is_current, publish, remove_superseded
from similarity.runners.base import Runner, embed
from similarity.spaces import Entries, Space
from similarity.tuning import chosen_factory, is_still_chosen, tuned_index
from similarity.vectors import Matrix, groups_of

Progress = Callable[[Iterator[pipeline.Batch], int], Iterator[pipeline.Batch]]
"""Wraps the batches of an embedding of so many pictures, to show how far it is."""

Indexing = Callable[[int, int], object]
"""Told how many looks of how many are in the index."""

HERE = Runner()
TOGETHER = ("category", "sub_category", "product_type")
"""The labels whose products lie side by side in an index."""
_CHUNK = 16_384
STALE_VECTORS, STALE_SHARE = 32, 0.2
"""A space is compacted when more than this many of its vectors, and more than this share, serve no picture."""


@dataclass(frozen=True)
class BuildReport:
    """What `build_index` did. `index` is the id of the build that holds what the catalogue is now; `peak_mib` is the
    most memory that the process has had.

    `built`: it was made now, and did not lie there already. `published`: it is the one that answers. `changed`: there
    is a new build, or another one answers than before.
    """

    model: str
    name: str
    products: int
    embedded: int
    reused: int
    failed: int
    index: str
    built: bool
    published: bool
    changed: bool
    looks: int
    dimension: int
    adapter: dict[str, Any]
    kind: dict[str, Any]
    seconds: float
    peak_mib: int | None
    images_per_s: float | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self)}


def chosen_model(default: str | None = None) -> str:
    """The model to build with when none is named: the settings', else the published build's, else the default.

    A published build that cannot be read is no reason to change the model: where all that can be read are of one, it is
    that, and otherwise BuildError asks for its name.
    """
    configured: str = settings.SIMILARITY["MODEL"]
    if configured:
        return configured
    try:
        return current_manifest().model
    except NoBuild:
        return default or str(settings.SIMILARITY["DEFAULT_MODEL"])
    except BuildError as error:
        models = stored_models()
        if len(models) == 1:
            return models.pop()
        raise BuildError(f"{error} --model NAME (which model it was built with can no longer be read)") from error


def chosen_name(model: str) -> str:
    """What a build of this model is called when nobody says: as the published one of it, or else as the model."""
    with suppress(BuildError):
        published = current_manifest()
        if published.model == model:
            return published.name
    return default_name(model)


def named_model(model: str) -> str:
    """The name under which the model will be found again, from whatever folder a process works in."""
    if model == "colour":
        raise ImproperlyConfigured("colour is a part of every look already; name a network as the model.")
    known = model in settings.SIMILARITY["EMBEDDERS"]
    return str(Path(model).resolve()) if not known and Path(model).is_dir() else model


def build_index(
    model: str | None = None,
    *,
    name: str | None = None,
    hold: bool = False,
    full: bool = False,
    progress: Progress = lambda batches, total: batches,
    indexing: Indexing = lambda done, total: None,
    wait_s: float = 0.0,
    runner: Runner = HERE,
) -> BuildReport:
    """Embed what has no embedding yet, then publish a build over all pictures; a no-op when nothing has changed.

    A build that lies there already and would come out the same is published as it is: one that was held back, say.
    With `hold` the build is stored and nothing is published. `full` embeds every picture anew. `runner`: where they
    are embedded.

    Raises EmbedderError where the model cannot be had, SpaceError or BuilderBusy where another process is at it (and
    still is `wait_s` later), and BuildError for a `name` that cannot be one; what was embedded until then is kept.
    """
    started = time.monotonic()
    if name is not None:
        check_name(name)
    model = named_model(model or chosen_model())
    embedders, spaces = _embedders_and_spaces(model)
    if not full:
        _refuse_altered(model, spaces)
    with build_lock(wait_s):
        remove_unfinished()
        for space in spaces.values():
            space.give_token()
        pictures = products.current_pictures()
        work = pipeline.plan_work(pictures, spaces, full=full)
        embedded, failed, embedding_s = _embed(work, model, embedders, spaces, progress, runner)
        entries = {
            part: _read_compacted(space, pictures, None if len(work) else work.held[part])
            for part, space in spaces.items()
        }
        name = name or chosen_name(model)
        same = None if full or embedded else _stored_if_same(name, model, spaces, entries, pictures)
        manifest = same or _store(name, model, embedders, spaces, entries, pictures, indexing)
        changed = same is None
        if not hold and not is_current(manifest):
            publish(manifest)
            changed = True
        remove_superseded(but=manifest.id)
        published = is_current(manifest)
    return BuildReport(
        model=model,
        name=manifest.name,
        products=products.count_products(),
        embedded=embedded,
        reused=len(pictures) - len(work),
        failed=failed,
        index=manifest.id,
        built=same is None,
        published=published,
        changed=changed,
        looks=manifest.count,
        dimension=manifest.dimension,
        adapter=manifest.fit["adapter"],
        kind=manifest.fit.get("index", {}),
        seconds=round(time.monotonic() - started, 3),
        peak_mib=peak_mib(),
        images_per_s=round(embedded / embedding_s, 2) if embedded else None,
    )


def embed_missing(*, progress: Progress = lambda batches, total: batches, wait_s: float = 0.0) -> tuple[int, int]:
    """Embed what has no embedding yet as the published build was, and build nothing; how many, and how many failed.

    What is younger than a build is compared with its transforms and answers beside it. Raises NoBuild where there is
    none that can take it in: none at all, one of nothing, or one that was embedded in another way; else as
    `build_index`.
    """
    manifest = current_manifest()
    embedders, spaces = _embedders_and_spaces(manifest.model)
    _refuse_altered(manifest.model, spaces)
    if not manifest.count or {part: space.name for part, space in spaces.items()} != manifest.spaces:
        raise NoBuild(f"Build {manifest.id} cannot take in younger pictures. {REPAIR}")
    with build_lock(wait_s):
        work = pipeline.plan_work(products.current_pictures(), spaces)
        embedded, failed, _ = _embed(work, manifest.model, embedders, spaces, progress, HERE)
    return embedded, failed


def _embedders_and_spaces(model: str) -> tuple[dict[str, Embedder], dict[str, Space]]:
    embedders = {"style": get_embedder(model), "colour": get_embedder("colour")}
    root = Path(settings.SIMILARITY["SPACES_DIR"])
    return embedders, {part: Space(root, embedder.identity()) for part, embedder in embedders.items()}


def _refuse_altered(model: str, spaces: dict[str, Space]) -> None:
    """Raises EmbedderError where the model's files are no longer those that the published build was made with, though
    it is called the same: somebody may have altered them, or a disk. Who changed them on purpose says so with `full`.
    """
    with suppress(BuildError):
        published = current_manifest()
        before, now = published.identities["style"], spaces["style"].identity
        if model == published.model and replace(before, weights_sha256=now.weights_sha256) == now != before:
            raise EmbedderError(
                f"The weights of {before.name} are not those that index {published.id} was made with (SHA-256 "
                f"{before.weights_sha256[:12]}…, now {now.weights_sha256[:12]}…). If they were altered without your "
                "knowledge, put the former files back; if the model was changed on purpose, embed every picture anew: "
                "python manage.py build_index --full"
            )


def _embed(
    work: pipeline.Work,
    model: str,
    embedders: dict[str, Embedder],
    spaces: dict[str, Space],
    progress: Progress,
    runner: Runner,
) -> tuple[int, int, float]:
    """(embedded, failed, seconds). Opens the spaces for writing only when there is something to write."""
    embedded = failed = 0
    started = time.monotonic()
    if len(work):
        models = {part: model if part == "style" else part for part in embedders}
        with ExitStack() as stack:
            writers = {part: stack.enter_context(space.writing()) for part, space in spaces.items()}
            for batch in progress(embed(runner, work, models, embedders, writers), len(work)):
                embedded += batch.embedded
                failed += batch.failed
    return embedded, failed, time.monotonic() - started


def _read_compacted(space: Space, pictures: Pictures, held: Entries | None) -> Entries:
    """What the space holds; compacted first where much of it is of pictures that are gone, or was made anew.

    `held`: what was read a moment ago, where nothing was written since.
    """
    held = held or space.read(verify=True)
    useful = np.count_nonzero(held.find(pictures.rows, pictures.digests) >= 0)
    if len(held.rows) - useful <= max(STALE_VECTORS, STALE_SHARE * len(held.rows)):
        return held
    with space.writing() as writer:
        writer.compact(keep=pictures.rows)
    return space.read(verify=True)


def default_weights() -> dict[str, float]:
    """What each part weighs where nobody asks for another mix: `SIMILARITY["MIX"]`."""
    weights: dict[str, float] = settings.SIMILARITY["MIX"]
    parts = {"style", "kind", "colour"}
    if set(weights) != parts or not all(0 < weight < float("inf") for weight in weights.values()):
        raise ImproperlyConfigured("SIMILARITY['MIX'] must give 'style', 'kind' and 'colour' a weight above 0 each.")
    return {part: float(weight) for part, weight in weights.items()}


def _indexed(entries: dict[str, Entries], pictures: Pictures) -> Pictures:
    """The pictures that have a vector of the network; a missing colour alone is no reason to stay out."""
    present = entries["style"].find(pictures.rows, pictures.digests) >= 0
    return Pictures(pictures.rows[present], pictures.digests[present])


def _stored_if_same(
    name: str, model: str, spaces: dict[str, Space], entries: dict[str, Entries], pictures: Pictures
) -> Manifest | None:
    """A stored build, if a new one would hold the same: the published one before the others, the youngest first."""
    wanted = _indexed(entries, pictures)
    labels = labels_sha256(products.labels_of(wanted.rows))
    for made in sorted(readable_manifests(), key=is_current, reverse=True):
        if (
            (made.name, made.model, made.labels_sha256) == (name, model, labels)
            and made.spaces == {part: space.name for part, space in spaces.items()}
            and made.fit["weights"] == default_weights()
            and "calibration" in made.fit
            and made.engine == get_engine().dotted_path()
            and is_still_chosen(made.fit.get("index", {}).get("chosen", FLAT), len(wanted), made.dimension)
        ):
            with suppress(BuildError):
                build = open_build(made)
                by_row = build.order
                if np.array_equal(build.rows[by_row], wanted.rows) and np.array_equal(
                    build.digests[by_row], wanted.digests
                ):
                    return made
    return None


@dataclass(frozen=True, eq=False)
class _Looks:
    """The looks of some pictures, composed as they are asked for: never all of them in memory."""

    entries: dict[str, Entries]
    positions: dict[str, NDArray[np.int64]]
    layout: Layout

    @property
    def shape(self) -> tuple[int, int]:
        return (len(next(iter(self.positions.values()))), self.layout.dimension)

    def chunks(self, start: int = 0) -> Iterator[Matrix]:
        for at in range(start, self.shape[0], _CHUNK):
            yield self.at(slice(at, at + _CHUNK))

    def at(self, some: slice | NDArray[np.int64]) -> Matrix:
        vectors = {part: held.take(self.positions[part][some]) for part, held in self.entries.items()}
        looks = self.layout.compose(vectors)
        if not np.isfinite(looks).all():
            raise BuildError("Some embeddings are no numbers. Run: python manage.py build_index --full")
        return looks

    def in_order(self, order: NDArray[np.int64]) -> _Looks:
        return _Looks(self.entries, {part: at[order] for part, at in self.positions.items()}, self.layout)


def _store(
    name: str,
    model: str,
    embedders: dict[str, Embedder],
    spaces: dict[str, Space],
    entries: dict[str, Entries],
    pictures: Pictures,
    indexing: Indexing,
) -> Manifest:
    pictures = _indexed(entries, pictures)
    positions = {part: held.find(pictures.rows, pictures.digests) for part, held in entries.items()}
    labels = products.labels_of(pictures.rows)
    layout, adapter = _fit(entries, positions, pictures, labels)
    near_duplicates = _near_duplicates(embedders, spaces, entries, layout, pictures)
    labels_of_all = labels_sha256(labels)
    del labels
    looks = _Looks(entries, positions, layout)
    order, starts = _arranged(looks, pictures)
    looks, pictures = looks.in_order(order), Pictures(pictures.rows[order], pictures.digests[order])
    count = len(pictures)
    kept = Kept(builds_dir() / "unfinished-index", _key_of(layout, pictures))
    give_back_begun(kept.folder, get_engine())
    index, tuning = tuned_index(looks, layout, lambda done: indexing(done, count), kept)
    cells = Cells.of(index, starts) if starts is not None and not index.exact else None
    calibration = calibrate(groups_of(pictures.digests), layout, index, near_duplicates, cells)
    return store_build(
        Ingredients(
            name=name,
            model=model,
            identities={part: space.identity for part, space in spaces.items()},
            spaces={part: space.name for part, space in spaces.items()},
            seen={part: _seen(spaces[part], held) for part, held in entries.items()},
            layout=layout,
            index=index,
            rows=pictures.rows,
            digests=pictures.digests,
            labels_sha256=labels_of_all,
            fit={
                "weights": default_weights(),
                "adapter": adapter.to_json(),
                "calibration": calibration.to_json(),
                "index": tuning.to_json(),
            },
            cells=cells,
        )
    )


def _key_of(layout: Layout, pictures: Pictures) -> str:
    """Stands for the looks of these pictures in their order."""
    digest = hashlib.sha256()
    for part in layout.parts:
        digest.update(f"{part.name} {part.weight} {part.dimension} {part.space}".encode())
        for array in (part.mean, part.basis):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    digest.update(pictures.rows.tobytes())
    digest.update(pictures.digests.tobytes())
    return digest.hexdigest()


def _seen(space: Space, held: Entries) -> Seen:
    note = space.note()
    return Seen(len(held.rows), held.checksum(len(held.rows)), note.token if note else "")


def _arranged(looks: _Looks, pictures: Pictures) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The order (n,) in which looks come into the index, and where its cells begin; None where it needs none.

    By label, so that what filters ask for lies together, and then by what is alike.
    """
    codes = products.label_codes(pictures.rows)
    keys = [codes[name][0] for name in TOGETHER]
    count, dimension = looks.shape
    centres = None
    if chosen_factory(count, dimension) != FLAT:
        some = np.sort(np.random.default_rng(0).permutation(count)[:SAMPLE])
        centres = centres_of(get_engine(), looks.at(some), count)
    if centres is None:
        return in_order(keys, pictures.rows)[0], None
    return in_order([*keys, nearest_centres(looks, centres)], pictures.rows)


def _near_duplicates(
    embedders: dict[str, Embedder],
    spaces: dict[str, Space],
    entries: dict[str, Entries],
    layout: Layout,
    pictures: Pictures,
) -> dict[str, float]:
    """By part, from which cosine on two looks are of nearly the same picture; {} where that cannot be told."""
    least = {}
    for part in layout.parts:
        if part.name in spaces:  # what is learned from labels says nothing of pictures
            held = entries[part.space]
            originals, echoes = echoes_of(spaces[part.space], held, embedders[part.space], pictures)
            cosine = least_alike(part.project(originals), part.project(echoes)) if len(echoes) else None
            if cosine is None:
                return {}
            least[part.name] = cosine
    return least


def _fit(
    entries: dict[str, Entries], positions: dict[str, Any], indexed: Pictures, labels: dict[str, list[str]]
) -> tuple[Layout, Adapter]:
    """The looks' transforms, fitted on a sample of the pictures where there are very many."""
    some = np.arange(len(indexed))
    if len(some) > SAMPLE:
        some = np.sort(np.random.default_rng(0).choice(some, SAMPLE, replace=False))
    catalogue = Catalogue(
        {part: held.take(positions[part][some]) for part, held in entries.items()},
        {name: [values[at] for at in some.tolist()] for name, values in labels.items()},
        groups_of(indexed.digests[some]),
    )
    return fit_looks(catalogue, default_weights())
