"""Builds: immutable folders with an index over looks and all that answering needs.

    builds/
      CURRENT                      a line for each publication, the latest first: id and manifest's SHA-256
      20261122T101500-174305/
        manifest.json              what it is made of, and size and SHA-256 of every file
        faiss.index                the engine's file
        rows.npy, digests.npy      (n,) int64 and (n, 32) uint8: whose look stands at each position
        order.npy                  (n,) int64: the positions in ascending order of their rows
        cells-starts.npy, …        where looks that are alike lie (`similarity.cells`); approximate indexes only
        style-mean.npy, …          the transforms of the parts that have them
      reports/                     how good each was found to be (`similarity.reports`)

Beside them lies verified/, with a note for each build whose files were found to be what its manifest says.

A build is written under a name that nobody reads, flushed, renamed, and only then named by CURRENT, which is renamed
into place too. Several builds lie side by side; `similarity.publishing` decides which answers and which are kept.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from catalog.files import fsync, replace_file
from similarity.calibration import Calibration
from similarity.cells import Cells
from similarity.embedders import Identity
from similarity.embedders.base import file_sha256
from similarity.indexes import VectorIndex, VectorIndexError, get_engine
from similarity.looks import Layout, Part
from similarity.vectors import Digests, Rows

logger = logging.getLogger(__name__)

FORMAT = 3
MAX_NAME = 64
CELLS = ("starts", "centroids", "spreads")
TRANSFORMS = ("mean", "basis")
"""The arrays of a part, each in a file of its own."""
TICK_NS = 50_000_000
REPAIR = "Run: python manage.py build_index"
FETCH = "Run: python manage.py fetch_builds"


class BuildError(Exception):
    """There is no build to answer from, or it cannot be trusted. The message names the repair."""


class NoBuild(BuildError):
    """None has been published yet."""


class BuilderBusy(BuildError):
    """Another process is building."""


@dataclass(frozen=True)
class Seen:
    """How many entries a space held when a build was made, a checksum of which (`Entries.checksum`), and the token of
    its files (`spaces.Note`)."""

    count: int
    checksum: int
    token: str


@dataclass(frozen=True)
class Manifest:
    """What a build is made of. `identities`, `spaces` (names of folders) and `seen` are by space.

    `fit` is what fitting the looks found out; `labels_sha256` stands for the labels they were fitted on.
    """

    id: str
    name: str
    created_at: datetime
    model: str
    identities: dict[str, Identity]
    spaces: dict[str, str]
    seen: dict[str, Seen]
    engine: str
    count: int
    dimension: int
    parts: list[dict[str, Any]]
    files: dict[str, dict[str, Any]]
    versions: dict[str, str]
    labels_sha256: str
    fit: dict[str, Any]
    format: int = FORMAT

    def to_json(self) -> str:
        content = asdict(self)
        content["created_at"] = self.created_at.isoformat()
        content["metric"] = "inner product"
        content["dtype"] = "float32"
        return json.dumps(content, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise ValueError("it was written by another version of Vitrine")
        del content["metric"], content["dtype"]
        content["created_at"] = datetime.fromisoformat(content["created_at"])
        content.setdefault("name", default_name(content["model"]))  # builds made before they had names
        content["seen"] = {part: Seen(**values) for part, values in content["seen"].items()}
        content["identities"] = {part: Identity(**values) for part, values in content["identities"].items()}
        return cls(**content)


@dataclass(frozen=True)
class Publication:
    """A line of CURRENT: a build, and the SHA-256 of its manifest when it was published."""

    build_id: str
    manifest_sha256: str


@dataclass(frozen=True)
class Build:
    """An opened build. Line i of `rows` (n,) and `digests` (n, 32) belongs to position i of the index; `order` (n,) are
    the positions by ascending row. All of it is mapped, and its pages are shared with other processes.
    """

    manifest: Manifest
    layout: Layout
    index: VectorIndex
    rows: Rows
    digests: Digests
    order: NDArray[np.int64]
    cells: Cells | None = None

    def position_of(self, row: int) -> int:
        """Where the look of that row stands, -1 where it does not."""
        at = int(np.searchsorted(self.rows, row, sorter=self.order))
        if at == len(self.rows):
            return -1
        position = int(self.order[at])
        return position if self.rows[position] == row else -1

    def positions_of(self, rows: Rows) -> NDArray[np.int64]:
        """Where the looks of these rows (m,) stand, -1 where they do not. (m,) int64."""
        if not len(self.rows):
            return np.full(len(rows), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.rows, rows, sorter=self.order), len(self.rows) - 1)
        positions: NDArray[np.int64] = self.order[at]
        return np.where(self.rows[positions] == rows, positions, -1)

    @cached_property
    def calibration(self) -> Calibration:
        """What it has found out about itself; nothing where it is older than that."""
        return Calibration.from_json(self.manifest.fit.get("calibration", {}))


def builds_dir() -> Path:
    return Path(settings.SIMILARITY["BUILDS_DIR"])


def current_path() -> Path:
    return _current_path(settings.SIMILARITY["BUILDS_DIR"])


@lru_cache(maxsize=8)
def _current_path(folder: Path) -> Path:
    """Kept: it is asked after at every question."""
    return Path(folder) / "CURRENT"


def fetched_path() -> Path:
    """There where this machine fetches its builds (`similarity.sharing`), and has made none since."""
    return builds_dir() / "fetched"


def repair() -> str:
    """What mends a damaged build here."""
    return FETCH if fetched_path().exists() else REPAIR


def default_name(model: str) -> str:
    """What builds of a model are called where nobody names them: the end of its name, "dinov2-small"."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip("._-")[:MAX_NAME] or "index"


def publications() -> list[Publication]:
    """The current build, then those that were current before it and are still there, the latest first.

    Raises NoBuild before the first publication, BuildError where CURRENT is damaged. Opens no build.
    """
    try:
        lines = [line.split() for line in current_path().read_text().splitlines()]
    except FileNotFoundError:
        raise NoBuild(f"No index has been built yet. {REPAIR} --model efficientnet-lite0 (or another)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{current_path()} cannot be read ({error}). {repair()}") from error
    if not lines or any(len(line) != 2 for line in lines):
        raise BuildError(f"{current_path()} is damaged. {repair()}")
    current, *former = (Publication(*line) for line in lines)
    return [current, *(each for each in former if (builds_dir() / each.build_id).is_dir())]


def former_manifests() -> Iterator[Manifest]:
    """Of the builds that CURRENT names rightly, the latest first: one may answer where the current one cannot. Each was
    published; a damaged line names none.
    """
    with suppress(OSError):
        for line in current_path().read_text(errors="replace").splitlines():
            if len(fields := line.split()) == 2:
                with suppress(BuildError, OSError, ValueError):
                    yield published_manifest(Publication(*fields))


def current_manifest() -> Manifest:
    """That of the published build. Raises NoBuild before the first, BuildError where it cannot be trusted."""
    return published_manifest(publications()[0])


def published_manifest(publication: Publication) -> Manifest:
    """Raises BuildError where it is not the one that was published."""
    manifest = read_manifest(publication.build_id)
    if file_sha256(manifest_path(publication.build_id)) != publication.manifest_sha256:
        raise BuildError(f"The manifest of build {manifest.id} is not the one that was published. {repair()}")
    return manifest


def manifest_path(build_id: str) -> Path:
    return builds_dir() / build_id / "manifest.json"


def read_manifest(build_id: str) -> Manifest:
    """Raises BuildError where it is missing or makes no sense."""
    path = manifest_path(build_id)
    try:
        return Manifest.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{path} cannot be used ({error}). {repair()}") from error


def readable_manifests() -> Iterator[Manifest]:
    """Of the builds that are kept, the youngest first; those that cannot be read are passed over."""
    for path in sorted(builds_dir().glob("[0-9]*/manifest.json"), reverse=True):
        with suppress(BuildError):
            yield read_manifest(path.parent.name)


def stored_models() -> set[str]:
    """The models of the builds that are kept, also of those that another version of Vitrine has written."""
    models = set()
    for path in builds_dir().glob("[0-9]*/manifest.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            models.add(str(json.loads(path.read_text())["model"]))
    return models


@contextmanager
def build_lock(wait_s: float = 0.0) -> Iterator[None]:
    """Held by the one process that embeds and builds; a second one waits for it, then BuilderBusy names the first."""
    builds_dir().mkdir(parents=True, exist_ok=True)
    holder = builds_dir() / "lock.holder"
    try:
        with FileLock(builds_dir() / "lock", timeout=wait_s):
            replace_file(holder, f"process {os.getpid()} on {platform.node()}".encode())
            yield
    except Timeout:
        who = holder.read_text() if holder.is_file() else "another process"
        raise BuilderBusy(f"An index is being built already, by {who}; wait until it has ended.") from None


@dataclass(frozen=True)
class Ingredients:
    """What a build is made of, under its name; the fields are those of the manifest."""

    name: str
    model: str
    identities: dict[str, Identity]
    spaces: dict[str, str]
    seen: dict[str, Seen]
    layout: Layout
    index: VectorIndex
    rows: Rows
    digests: Digests
    labels_sha256: str
    fit: dict[str, Any]
    cells: Cells | None = None


def store_build(made: Ingredients) -> Manifest:
    """Write a build, all of it or nothing; nobody answers from it yet. Returns its manifest."""
    now = datetime.now(UTC)
    build_id = f"{now:%Y%m%dT%H%M%S}-{now.microsecond:06d}"  # sorts by age
    root = builds_dir()
    aside = root / f".unfinished-{build_id}"
    aside.mkdir(parents=True)
    try:
        manifest, written_ns = _write_build(aside, build_id, now, made)
        aside.rename(root / build_id)
    except BaseException:
        remove_aside(aside)
        raise
    fetched_path().unlink(missing_ok=True)
    fsync(root)
    _note_verified(manifest, {name: _state_of(root / build_id / name) for name in manifest.files}, written_ns)
    return manifest


def _write_build(aside: Path, build_id: str, now: datetime, made: Ingredients) -> tuple[Manifest, int]:
    """All files of a build into a folder that nobody reads yet, on the disk when this returns.

    Its manifest, and when (ns) its files were there and their digests not yet taken.
    """
    layout, index = made.layout, made.index
    index.save(aside)
    np.save(aside / "rows.npy", made.rows, allow_pickle=False)
    np.save(aside / "digests.npy", made.digests, allow_pickle=False)
    np.save(aside / "order.npy", np.argsort(made.rows), allow_pickle=False)
    if made.cells is not None:
        for name in CELLS:
            np.save(aside / f"cells-{name}.npy", getattr(made.cells, name), allow_pickle=False)
    for part in layout.parts:
        for name in TRANSFORMS:
            if (array := getattr(part, name)) is not None:
                np.save(aside / f"{part.name}-{name}.npy", array, allow_pickle=False)
    written_ns = time.time_ns()
    manifest = Manifest(
        id=build_id,
        name=made.name,
        created_at=now,
        model=made.model,
        identities=made.identities,
        spaces=made.spaces,
        seen=made.seen,
        engine=index.dotted_path(),
        count=len(made.rows),
        dimension=layout.dimension,
        parts=[
            {
                "name": part.name,
                "weight": part.weight,
                "dimension": part.dimension,
                "space": part.space,
                "transforms": [name for name in TRANSFORMS if getattr(part, name) is not None],
            }
            for part in layout.parts
        ],
        files={
            path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(aside.iterdir())
        },
        versions={name: version(name) for name in ("faiss-cpu", "numpy")} | {"python": platform.python_version()},
        labels_sha256=made.labels_sha256,
        fit=made.fit,
    )
    (aside / "manifest.json").write_text(manifest.to_json())
    for path in aside.iterdir():
        fsync(path)
    fsync(aside)
    return manifest, written_ns


def open_current() -> Build:
    """The published build, opened as `open_build` does."""
    return open_build(current_manifest())


def open_build(manifest: Manifest) -> Build:
    """A stored build, once every file of it is what its manifest says. Raises BuildError otherwise."""
    verify(manifest)
    folder = builds_dir() / manifest.id
    try:
        rows, digests, order = (_mapped(folder / f"{name}.npy") for name in ("rows", "digests", "order"))
        cells = None
        if f"cells-{CELLS[0]}.npy" in manifest.files:
            cells = Cells(*(_mapped(folder / f"cells-{name}.npy") for name in CELLS))
        layout = Layout(
            tuple(
                Part(
                    name=part["name"],
                    weight=part["weight"],
                    dimension=part["dimension"],
                    space=part["space"],
                    **{
                        name: np.load(folder / f"{part['name']}-{name}.npy", allow_pickle=False)
                        for name in part["transforms"]
                        if name in TRANSFORMS
                    },
                )
                for part in manifest.parts
            )
        )
        index = get_engine(manifest.engine).load(folder)
    except (OSError, ValueError, KeyError, VectorIndexError, ImproperlyConfigured) as error:
        raise BuildError(f"The build in {folder} cannot be opened ({error}). {repair()}") from error
    shapes = (len(rows), len(digests), len(order), index.count, index.dimension, layout.dimension)
    if shapes != (manifest.count,) * 4 + (manifest.dimension,) * 2:
        raise BuildError(f"The files of the build in {folder} do not belong together. {repair()}")
    return Build(manifest, layout, index, rows, digests, order, cells)


def _mapped(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def verify(manifest: Manifest, *, anew: bool = False) -> None:
    """Raises BuildError where a file of the build is not what its manifest says.

    Reading all of a large build takes seconds, and every process of a machine would: what one has found is noted, with
    what the system says of each file (size, times, inode), and holds for as long as it says the same. Whoever writes to
    a file, or puts another in its place, changes that. A disk that forgets does not: with `anew`, all is read again.
    """
    folder = builds_dir() / manifest.id
    at_ns = time.time_ns()
    state = {name: _state_of(folder / name) for name in manifest.files}
    noted = {} if anew else _noted(manifest)
    left = [name for name in manifest.files if state[name] is None or noted.get(name) != state[name]]
    for name in left:
        _verify_file(folder / name, manifest.files[name]["size"], manifest.files[name]["sha256"])
    if left:
        _note_verified(manifest, state, at_ns)


def _state_of(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _note_path(build_id: str) -> Path:
    return builds_dir() / "verified" / f"{build_id}.json"


def _noted(manifest: Manifest) -> dict[str, list[int]]:
    """The states in which files of this very manifest were found to be right.

    The system's clock for files ticks a hundred times a second or so: what was written just before it was looked at may
    have been written again since, with the same times, so that nothing is noted of it.
    """
    try:
        note = json.loads(_note_path(manifest.id).read_text())
        if note["manifest_sha256"] != _manifest_sha256(manifest.id):
            return {}
        sure_ns = note["at_ns"] - TICK_NS
        return {name: times for name, times in note["files"].items() if times[1] < sure_ns and times[2] < sure_ns}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}


def _note_verified(manifest: Manifest, state: dict[str, list[int] | None], at_ns: int) -> None:
    with suppress(OSError):  # where nothing can be written, every process verifies for itself
        note = {"manifest_sha256": _manifest_sha256(manifest.id), "files": state, "at_ns": at_ns}
        _note_path(manifest.id).parent.mkdir(exist_ok=True)
        replace_file(_note_path(manifest.id), json.dumps(note).encode())


def _manifest_sha256(build_id: str) -> str:
    return file_sha256(manifest_path(build_id))


def _verify_file(path: Path, size: int, sha256: str) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise BuildError(f"{path} is missing from the build. {repair()}") from error
    if found != size or file_sha256(path) != sha256:
        raise BuildError(f"{path} is not the file that its manifest describes. {repair()}")


def remove_unfinished() -> None:
    """What a killed builder left. Only the holder of the build lock comes here."""
    for path in builds_dir().glob(".unfinished-*"):
        remove_aside(path)
    for path in builds_dir().glob("verified/*.json"):
        if not (builds_dir() / path.stem).is_dir():
            path.unlink(missing_ok=True)


def remove_aside(folder: Path) -> None:
    """A folder that nobody reads, and what its index holds elsewhere. Where that cannot be given back, as its server is
    away, the folder stays: the next builder comes here again.
    """
    try:
        for engine in {_engine_of(folder), settings.SIMILARITY["INDEX"]["BACKEND"]}:
            get_engine(engine).discard(folder)
    except (VectorIndexError, ImproperlyConfigured) as error:
        logger.warning("%s is left for the next build to remove: %s", folder.name, error)
        return
    shutil.rmtree(folder, ignore_errors=True)


def give_back_begun(folder: Path, engine: type[VectorIndex]) -> None:
    """What another engine than this has begun in the folder of an unfinished index, and will not go on with."""
    for note in folder.glob("*.json"):
        if note.stem in settings.ENGINES and get_engine(note.stem) is not engine:
            get_engine(note.stem).discard(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _engine_of(folder: Path) -> str:
    """By the manifest, where it can be read; else that of the settings."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((folder / "manifest.json").read_text())["engine"])
    return str(settings.SIMILARITY["INDEX"]["BACKEND"])
