"""The map of this process: opened when first asked for, replaced when a new one is stored; and what visitors see of it.

A map holds pictures of hidden products and of such as are gone. So whatever leaves this module was held against the
catalogue as it is at that moment: places, products, and the tiles, of which hidden pictures are taken out.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from django.core.signals import setting_changed
from django.urls import reverse
from django.utils.translation import gettext as _
from numpy.typing import NDArray

from catalog.areas import Area, UnknownArea
from similarity import products
from similarity.maps.areas import AreaError, Polygon
from similarity.maps.cells import Cells, Grid
from similarity.maps.sheets import TileName, blanked, box_of
from similarity.maps.storage import (
    CatalogueMap,
    MapError,
    NoMap,
    current_path,
    kept_maps,
    open_map,
    read_manifest,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 30.0
"""How long a map that could not be opened is left alone, so that not every page verifies it again."""
REGIONS = 3
"""The map is told in words by so many regions in each direction."""
NAMED_VALUES = 3
"""By how many of its commonest values a region is named."""


@dataclass
class _Holder:
    """The maps that this process has opened, by key, and how its last look at CURRENT ended."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    stamp: object = "nothing yet"
    kept: dict[str, str] = field(default_factory=dict)
    opened: dict[str, CatalogueMap] = field(default_factory=dict)
    current: str = ""
    error: MapError | None = None
    retry_at: float = 0.0
    visible: VisibleMap | None = None


_holder = _Holder()


def get_map() -> CatalogueMap:
    """The map that is shown. Raises NoMap, or MapError, naming the repair, where there is none to show.

    Where a new one is damaged, the former one that this process has opened goes on.
    """
    with _holder.lock:
        _look_at_current()
        if _holder.current:
            return _holder.opened[_holder.current]
        assert _holder.error is not None
        raise _holder.error.with_traceback(None)


def find_map(key: str) -> CatalogueMap | None:
    """The map with this key, if it is the one that is shown or a former one that is kept."""
    with _holder.lock:
        _look_at_current()
        if key not in _holder.opened and key in _holder.kept:
            try:
                _holder.opened[key] = open_map(read_manifest(key, _holder.kept[key]))
            except MapError as error:
                logger.warning("A former map is left out: %s", error)
                del _holder.kept[key]
        return _holder.opened.get(key)


def has_map() -> bool:
    """Whether one was ever made; looks at one file."""
    return current_path().exists()


def _look_at_current() -> None:
    """Open what CURRENT names, where that has changed or could not be opened a while ago."""
    try:
        stat = current_path().stat()
        stamp: object = (stat.st_ino, stat.st_mtime_ns)
    except OSError:
        stamp = None
    if stamp == _holder.stamp and (_holder.error is None or time.monotonic() < _holder.retry_at):
        return
    _holder.stamp = stamp
    try:
        _holder.kept = kept_maps()
        key, sha256 = next(iter(_holder.kept.items()))
        if key not in _holder.opened:
            _holder.opened[key] = open_map(read_manifest(key, sha256))
    except NoMap as error:
        _holder.kept, _holder.opened, _holder.current, _holder.error = {}, {}, "", error
        _holder.retry_at = time.monotonic()
    except MapError as error:
        _holder.error, _holder.retry_at = error, time.monotonic() + RETRY_AFTER_S
        kept = "; the former map goes on" if _holder.current else ""
        logger.error("The map was refused%s: %s", kept, error)  # noqa: TRY400 (the sentence is enough)
    else:
        _holder.current, _holder.error = key, None
        _holder.opened = {key: opened for key, opened in _holder.opened.items() if key in _holder.kept}


def reset_maps() -> None:
    """Forget the opened maps; the next question opens them anew."""
    with _holder.lock:
        _holder.stamp, _holder.kept, _holder.opened, _holder.current = "nothing yet", {}, {}, ""
        _holder.error, _holder.visible = None, None


def _reset_on_setting(*, setting: str, **_: Any) -> None:
    if setting == "SIMILARITY":
        reset_maps()


setting_changed.connect(_reset_on_setting)


@dataclass(frozen=True)
class Label:
    """An attribute of the pictures that are shown: its values, the commonest first, and which each picture has.

    `codes` (n,): 0 for none, else the place of its value, counted from 1.
    """

    name: str
    values: list[str]
    codes: NDArray[np.uint16]


@dataclass(frozen=True)
class Region:
    """A ninth of the map in words: where it lies, what it mostly holds, and the grid narrowed to it."""

    where: str
    values: list[str]
    count: int
    url: str


@dataclass(frozen=True)
class VisibleMap:
    """What visitors may see of a map, as long as the catalogue is that `version`: cells (n, 2), and labels."""

    shown: CatalogueMap
    version: str
    cells: Cells
    labels: list[Label]

    @cached_property
    def etag(self) -> str:
        return hashlib.sha256(f"{self.shown.manifest.key} {self.version}".encode()).hexdigest()[:32]

    @cached_property
    def packed(self) -> bytes:
        """For the browser, little-endian: uint32 length of a JSON head, the head, (n, 2) uint16 cells, and (n,) uint16
        codes for each label."""
        grid = self.shown.grid
        head = {
            "map": self.shown.manifest.key,
            "columns": grid.columns,
            "rows": grid.rows,
            "count": len(self.cells),
            "labels": [{"name": label.name, "values": label.values} for label in self.labels],
        }
        text = json.dumps(head, ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        arrays = [self.cells.astype("<u2").tobytes(), *(label.codes.astype("<u2").tobytes() for label in self.labels)]
        return b"".join([len(text).to_bytes(4, "little"), text, *arrays])

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.packed, 6, mtime=0)

    def regions(self, label: str = "product_type") -> list[Region]:
        """Those that hold something, from the upper left on."""
        grid = self.shown.grid
        (named,) = [each for each in self.labels if each.name == label]
        names = region_names()
        found = []
        for place, (left, top, right, bottom) in enumerate(_ninths(grid)):
            x, y = self.cells[:, 0], self.cells[:, 1]
            inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
            if not inside.any():
                continue
            counts = Counter(named.codes[inside].tolist())
            counts.pop(0, None)
            common = [named.values[code - 1] for code, _count in counts.most_common(NAMED_VALUES)]
            polygon = Polygon.rectangle(self.shown.manifest.key, left, top, right, bottom)
            found.append(Region(names[place], common, int(inside.sum()), area_url(polygon)))
        return found


def visible_map() -> VisibleMap:
    """Of the map that is shown. One query where the catalogue has not changed, two where it has. Raises as get_map."""
    shown = get_map()
    version = products.version_of_visible()
    known = _holder.visible
    if known is None or known.shown is not shown or known.version != version:
        known = _look_at_products(shown, version)
        _holder.visible = known
    return known


def _look_at_products(shown: CatalogueMap, version: str) -> VisibleMap:
    found = products.labelled_pictures()
    order = np.searchsorted(found.rows, shown.rows)
    at = np.minimum(order, max(len(found.rows) - 1, 0))
    there = np.zeros(len(shown.rows), dtype=bool)
    if len(found.rows):
        there = (found.rows[at] == shown.rows) & (found.digests[at] == shown.digests).all(axis=1)
    # From the upper left, line by line: compresses to half.
    places = np.flatnonzero(there)
    places = places[np.lexsort((shown.cells[places, 0], shown.cells[places, 1]))]
    labels = [_label(name, [values[one] for one in at[places].tolist()]) for name, values in found.labels.items()]
    return VisibleMap(shown, version, shown.cells[places], labels)


def _label(name: str, values: Sequence[str]) -> Label:
    counts = Counter(values)
    counts.pop("", None)
    common = sorted(counts, key=lambda value: (-counts[value], value))
    code = {value: place for place, value in enumerate(common, start=1)}
    return Label(name, common, np.array([code.get(value, 0) for value in values], dtype=np.uint16))


def visible_tile(shown: CatalogueMap, name: TileName) -> bytes:
    """A tile, without the pictures that visitors may not see. Raises KeyError where there is none."""
    members = shown.members(name)
    hidden = members[~products.are_visible(shown.rows[members], shown.digests[members])]
    if not len(hidden):
        return shown.tile(name)
    boxes = tuple(box_of((column, row), name.unit) for column, row in shown.cells[hidden].tolist())
    return _blanked(shown.tile(name), boxes)


@lru_cache(maxsize=64)
def _blanked(tile: bytes, boxes: tuple[tuple[int, int, int, int], ...]) -> bytes:
    return blanked(tile, boxes)


def products_in(shown: CatalogueMap, name: TileName) -> list[tuple[int, int, products.Product]]:
    """(column, row, product) of the visible pictures in a tile. One query."""
    members = shown.members(name)
    found = products.visible_by_row(shown.rows[members].tolist())
    return [
        (int(shown.cells[at, 0]), int(shown.cells[at, 1]), product)
        for at in members.tolist()
        if (product := found.get(int(shown.rows[at])))
        and bytes.fromhex(product.image_sha256) == shown.digests[at].tobytes()
    ]


def area_of(text: str) -> Area:
    """What `?area=` names (settings.CATALOGUE_AREAS). An area of a map that is gone holds nothing and says so."""
    try:
        polygon = Polygon.parse(text)
    except AreaError as error:
        raise UnknownArea(str(error)) from error
    url = reverse("similarity:map")
    shown = find_map(polygon.key)
    if shown is None:
        return Area(text, _("area of an earlier map"), (), url)
    rows = shown.rows[polygon.holds(shown.cells)].tolist()
    return Area(text, _("area of the map"), rows, f"{url}?area={text}")


def area_url(polygon: Polygon) -> str:
    """The grid, narrowed to the area."""
    return f"{reverse('catalog:grid')}?area={polygon}"


def region_names() -> list[str]:
    return [
        _("Upper left"),
        _("Top"),
        _("Upper right"),
        _("Left"),
        _("Middle"),
        _("Right"),
        _("Lower left"),
        _("Bottom"),
        _("Lower right"),
    ]


def _ninths(grid: Grid) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) in cells; right and bottom are left out."""
    columns = [grid.columns * part // REGIONS for part in range(REGIONS + 1)]
    rows = [grid.rows * part // REGIONS for part in range(REGIONS + 1)]
    return [(columns[x], rows[y], columns[x + 1], rows[y + 1]) for y in range(REGIONS) for x in range(REGIONS)]
