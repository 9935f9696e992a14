"""Maps on disk: immutable folders, named by what is in them.

    maps/
      CURRENT                  a line for each map that is kept, the one that is shown first: key, manifest's SHA-256
      3f9c0a1b22d4/
        manifest.json          which build it shows, and size and SHA-256 of every file
        rows.npy, digests.npy  (n,) int64 and (n, 32) uint8: whose picture stands at each position
        cells.npy              (n, 2) uint16: column and row of its cell
        tiles.npy              (m, 5) int64: unit, x, y of each tile, where it begins in sheets.bin, its bytes
        sheets.bin             the tiles, one WebP after the other: thousands of files would take minutes to flush

A map holds all that is needed to show it, so that it goes on when its build is gone. It is written under a name that
nobody reads, flushed, renamed, and only then named by CURRENT, which is renamed into place too. Former maps stay for
pages that are open and for links to their areas.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from catalog.files import fsync, replace_file
from similarity.embedders.base import file_sha256
from similarity.maps.cells import Cells, Grid
from similarity.maps.sheets import TileName, cells_across
from similarity.vectors import Digests, Rows

FORMAT = 1
KEPT_FORMER = 3
REPAIR = "Run: python manage.py build_map"
SHEETS = "sheets.bin"


class MapError(Exception):
    """There is no map to show, or it cannot be trusted. The message names the repair."""


class NoMap(MapError):
    """None has been made yet."""


class MapBusy(MapError):
    """Another process is making one."""


@dataclass(frozen=True)
class MapManifest:
    """What a map is made of. `build` is the id of the index build whose looks it lays out."""

    key: str
    build: str
    created_at: datetime
    count: int
    columns: int
    rows: int
    tiles: int
    quality: dict[str, float | int | None]
    files: dict[str, dict[str, Any]]
    versions: dict[str, str]
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "created_at": self.created_at.isoformat()}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> MapManifest:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise ValueError("it was written by another version of Vitrine")
        content["created_at"] = datetime.fromisoformat(content["created_at"])
        return cls(**content)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(int(file["size"]) for file in self.files.values())


@dataclass(frozen=True)
class CatalogueMap:
    """An opened map. Line i of `rows` (n,), `digests` (n, 32) and `cells` (n, 2) belongs to the same picture."""

    manifest: MapManifest
    rows: Rows
    digests: Digests
    cells: Cells
    tile_at: dict[TileName, tuple[int, int]]
    """Where a tile begins in the sheets, and its bytes."""

    @cached_property
    def grid(self) -> Grid:
        return Grid(self.manifest.columns, self.manifest.rows)

    def tile(self, name: TileName) -> bytes:
        """Raises KeyError where there is none, MapError where it can no longer be read."""
        start, size = self.tile_at[name]
        try:
            with (folder_of(self.manifest.key) / SHEETS).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise MapError(f"The sheets of map {self.manifest.key} cannot be read ({error}). {REPAIR}") from error

    def members(self, name: TileName) -> NDArray[np.int64]:
        """Positions of the pictures in a tile."""
        across = cells_across(name.unit)
        at: NDArray[np.int64] = np.flatnonzero((self.cells // across == [name.x, name.y]).all(axis=1))
        return at


@dataclass(frozen=True)
class Layout:
    """What a map is to be stored with: its build, and a line for each picture."""

    build: str
    rows: Rows
    digests: Digests
    cells: Cells
    grid: Grid
    quality: dict[str, float | int | None]

    @property
    def key(self) -> str:
        """The same for the same pictures of the same build in the same places."""
        digest = hashlib.sha256(f"{FORMAT} {self.build} {self.grid}".encode())
        for array in (self.rows, self.digests, self.cells):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]


def maps_dir() -> Path:
    return Path(settings.SIMILARITY["MAPS_DIR"])


def current_path() -> Path:
    return maps_dir() / "CURRENT"


def folder_of(key: str) -> Path:
    return maps_dir() / key


def kept_maps() -> dict[str, str]:
    """Key → the SHA-256 of its manifest, the current map first. Raises NoMap, or MapError where CURRENT is damaged."""
    try:
        lines = [line.split() for line in current_path().read_text().splitlines()]
    except FileNotFoundError:
        raise NoMap(f"There is no map of the catalogue yet. {REPAIR}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MapError(f"{current_path()} cannot be read ({error}). {REPAIR}") from error
    if not lines or any(len(line) != 2 or not re.fullmatch("[0-9a-f]{12}", line[0]) for line in lines):
        raise MapError(f"{current_path()} is damaged. {REPAIR}")
    return {line[0]: line[1] for line in lines}


def current_manifest() -> MapManifest:
    """That of the map which is shown. Raises NoMap, or MapError where it is not the one that was stored."""
    key, sha256 = next(iter(kept_maps().items()))
    return read_manifest(key, sha256)


def read_manifest(key: str, sha256: str) -> MapManifest:
    path = folder_of(key) / "manifest.json"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise MapError(f"{path} is not the manifest that was stored. {REPAIR}")
        return MapManifest.from_json(content.decode())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MapError(f"{path} cannot be used ({error}). {REPAIR}") from error


def open_map(manifest: MapManifest) -> CatalogueMap:
    """The map, once every file of it is what its manifest says. Raises MapError otherwise."""
    folder = folder_of(manifest.key)
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            intact = path.stat().st_size == expected["size"] and file_sha256(path) == expected["sha256"]
        except OSError as error:
            raise MapError(f"{path} is missing from the map. {REPAIR}") from error
        if not intact:
            raise MapError(f"{path} is not the file that its manifest describes. {REPAIR}")
    try:
        rows, digests, cells, tiles = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("rows", "digests", "cells", "tiles")
        )
    except (OSError, ValueError) as error:
        raise MapError(f"The map in {folder} cannot be opened ({error}). {REPAIR}") from error
    if (len(rows), len(digests), len(cells), len(tiles)) != (*(manifest.count,) * 3, manifest.tiles):
        raise MapError(f"The files of the map in {folder} do not belong together. {REPAIR}")
    tile_at = {TileName(unit, x, y): (start, size) for unit, x, y, start, size in tiles.tolist()}
    return CatalogueMap(manifest, rows, digests, cells, tile_at)


@contextmanager
def map_lock() -> Iterator[None]:
    """Held by the one process that makes a map; raises MapBusy, naming it, in a second one."""
    maps_dir().mkdir(parents=True, exist_ok=True)
    holder = maps_dir() / "lock.holder"
    try:
        with FileLock(maps_dir() / "lock", timeout=0):
            replace_file(holder, f"process {os.getpid()} on {platform.node()}".encode())
            yield
    except Timeout:
        who = holder.read_text() if holder.is_file() else "another process"
        raise MapBusy(f"A map is being made already, by {who}; wait until it has ended.") from None


def store_map(layout: Layout, tiles: Iterable[tuple[TileName, bytes]]) -> MapManifest:
    """Write a map, all of it or nothing, and let it be the one that is shown. Call it with the map's lock held."""
    root, key = maps_dir(), layout.key
    for path in root.glob(".unfinished-*"):  # what a killed process left
        shutil.rmtree(path, ignore_errors=True)
    aside = root / f".unfinished-{key}"
    aside.mkdir(parents=True)
    try:
        manifest = _write(aside, key, layout, tiles)
        if folder_of(key).exists():  # made again because it was damaged
            folder_of(key).rename(root / f".unfinished-{key}-former")
        aside.rename(folder_of(key))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync(root)
    _make_current(manifest)
    return manifest


def _write(aside: Path, key: str, layout: Layout, tiles: Iterable[tuple[TileName, bytes]]) -> MapManifest:
    """All files of a map into a folder that nobody reads yet, on the disk when this returns."""
    places, end = [], 0
    with (aside / SHEETS).open("wb") as file:
        for tile, content in tiles:
            file.write(content)
            places.append((*tile, end, len(content)))
            end += len(content)
    np.save(aside / "rows.npy", layout.rows, allow_pickle=False)
    np.save(aside / "digests.npy", layout.digests, allow_pickle=False)
    np.save(aside / "cells.npy", layout.cells, allow_pickle=False)
    np.save(aside / "tiles.npy", np.array(places, dtype=np.int64).reshape(-1, 5), allow_pickle=False)
    manifest = MapManifest(
        key=key,
        build=layout.build,
        created_at=datetime.now(UTC),
        count=len(layout.rows),
        columns=layout.grid.columns,
        rows=layout.grid.rows,
        tiles=len(places),
        quality=layout.quality,
        files={
            path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(aside.iterdir())
        },
        versions={name: version(name) for name in ("openTSNE", "numpy")} | {"python": platform.python_version()},
    )
    (aside / "manifest.json").write_text(manifest.to_json())
    for path in aside.iterdir():
        fsync(path)
    fsync(aside)
    return manifest


def _make_current(manifest: MapManifest) -> None:
    """This map first, then those before it, each once; what is kept no longer is removed."""
    before: dict[str, str] = {}
    with suppress(MapError):  # the first one, or a damaged file: it is mended, and its order is lost
        before = kept_maps()
    order = {manifest.key: file_sha256(folder_of(manifest.key) / "manifest.json")}
    order |= {key: sha256 for key, sha256 in before.items() if key not in order and folder_of(key).is_dir()}
    kept = dict(list(order.items())[: 1 + KEPT_FORMER])
    replace_file(current_path(), "".join(f"{key} {sha256}\n" for key, sha256 in kept.items()).encode())
    for path in maps_dir().iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
