"""Making a map: the published build's looks, laid out, drawn and stored."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from similarity import products
from similarity.builds import Build, BuildError, open_current
from similarity.builds import current_manifest as published_manifest
from similarity.indexes import get_engine
from similarity.maps import storage
from similarity.maps.cells import Grid, snap
from similarity.maps.measuring import measure
from similarity.maps.sheets import Drawn, draw_sheets
from similarity.maps.storage import Layout, MapError, MapManifest


@dataclass(frozen=True)
class MapReport:
    """What `build_map` did. `built`: it was made now, and did not lie there already."""

    map: str
    build: str
    built: bool
    products: int
    columns: int
    rows: int
    tiles: int
    size: int
    quality: dict[str, float | int | None]
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self)}


def build_map(*, full: bool = False, drawn: Drawn = lambda count: None) -> MapReport:
    """Lay out the published build's looks and show that map; a no-op where the map that is shown is of that build.

    All pictures of the build have their place, those of hidden products too: who may see which is asked when the map
    is shown. `full` makes it anew in any case. `drawn` hears of how many pictures were drawn.

    Raises BuildError where no build can be opened, MapError where it has no looks or another process is at it.
    """
    with storage.map_lock():
        build = open_current()
        if not full and (stands := _shown_of(build.manifest.id)):
            return _report(stands, built=False, seconds={})
        clock = _Clock()
        layout = _lay_out(build, clock)
        paths: list[Path | None] = [None] * len(layout.rows)
        for at, path in products.thumbnail_paths(layout.rows):
            paths[at] = path
        manifest = storage.store_map(layout, draw_sheets(layout.cells, paths, drawn))
        clock.note("drawing")
    return _report(manifest, built=True, seconds=clock.seconds)


def map_is_behind() -> bool:
    """Whether there is a map, and it is not of the published build. Opens neither."""
    try:
        return storage.current_manifest().build != published_manifest().id
    except (MapError, BuildError):
        return False


class _Clock:
    """How long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def note(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step] = round(now - self._last, 3)
        self._last = now


def _lay_out(build: Build, clock: _Clock) -> Layout:
    index = build.index
    looks = index.reconstruct(np.arange(index.count))
    known = looks.any(axis=1)  # a picture of which nothing is known is near to nothing
    if not known.any():
        raise MapError(
            f"Index {build.manifest.id} holds no looks, so there is nothing to lay out. Import products with pictures "
            "(python manage.py import_fashion), then run: python manage.py build_index"
        )
    if not known.all():
        looks = looks[known]
        index = get_engine().build(looks)
    from similarity.maps.projection import project  # scipy and scikit-learn take seconds: only here

    clock.note("opening")
    points = project(looks, index)
    clock.note("projection")
    grid = Grid.for_count(len(looks))
    cells = snap(points, grid)
    clock.note("cells")
    quality = measure(looks, cells).to_json()
    clock.note("measuring")
    return Layout(build.manifest.id, build.rows[known], build.digests[known], cells, grid, quality)


def _shown_of(build_id: str) -> MapManifest | None:
    """The map that is shown, where it is of that build and intact."""
    with suppress(MapError):
        manifest = storage.current_manifest()
        if manifest.build == build_id:
            storage.open_map(manifest)
            return manifest
    return None


def _report(manifest: MapManifest, *, built: bool, seconds: dict[str, float]) -> MapReport:
    return MapReport(
        map=manifest.key,
        build=manifest.build,
        built=built,
        products=manifest.count,
        columns=manifest.columns,
        rows=manifest.rows,
        tiles=manifest.tiles,
        size=manifest.size,
        quality=manifest.quality,
        seconds=seconds,
    )
