"""The catalogue in columns: what facets, counts, pages and filters ask of every product, in memory.

One array for each attribute, a byte or two a product, beside the primary keys, the rows of embeddings and whether
visitors see it: 25 MB for a million products. Counting by such columns takes milliseconds where a database groups for
seconds. They are read once, brought up to date from the log of changes (`catalog.changes`) before every use, by one
small query, and never written to: the database is the truth.

Of large catalogues the columns are also kept on disk, so that a process that begins maps what another one has read:

    columns/<version>-<token>/   ids.npy, rows.npy, visible.npy, codes-<attribute>.npy, values.json

On databases without that log they are read anew whenever the number, the sum of the keys or the latest change differ.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.db.models import Count, Max, Sum
from numpy.typing import NDArray

from catalog import changes, reading, words
from catalog.changes import Seen
from catalog.columns import ATTRIBUTES
from catalog.files import fsync
from catalog.models import Product

logger = logging.getLogger(__name__)

Places = NDArray[np.int32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.unsignedinteger[Any]]

MOST_NEWS = 20_000
"""Of more changes than that, reading everything anew is faster."""
KEPT_FOUND = 24
"""What was found lately stays at hand, one to nine bytes a product each."""
STORED_FROM = 50_000
"""Columns of fewer products are read faster than they are looked for on disk."""
_BATCH = 20_000
_FORMAT = 2


@dataclass(frozen=True, eq=False)
class Found:
    """Products that some question finds, as a mask (n,) over the columns. `counts`, by attribute, and `orders`, by
    name, fill as they are asked for."""

    mask: Mask
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    orders: dict[str, Places] = field(default_factory=dict)

    @cached_property
    def places(self) -> Places:
        """Ascending, and so in the catalogue's own order."""
        return np.flatnonzero(self.mask).astype(np.int32)

    @cached_property
    def count(self) -> int:
        return int(np.count_nonzero(self.mask))

    def in_order(self, name: str, order: Callable[[], Places]) -> Places:
        """The places in another order: `order()` gives those of all products in it."""
        if name not in self.orders:
            everything = order()
            self.orders[name] = everything[self.mask[everything]]
        return self.orders[name]


@dataclass(frozen=True, eq=False)
class Columns:
    """The catalogue as it was at one moment. Line by line of the same products:

    `ids` (n,) int64, ascending primary keys; `rows` (n,) int64, the embedding row, -1 where there is none; `visible`
    (n,) whether visitors see it; `codes`, by attribute, (n,) positions in `values`. A product that was deleted since
    keeps its line, as one that nobody sees and that has no row: no line ever moves within a process. `seen` is the
    newest entry of the log that this has in it. Arrays must not be written to.
    """

    seen: Hashable
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    visible: Mask
    codes: Mapping[str, Codes]
    values: Mapping[str, Sequence[str]]
    _kept: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the primary keys (m,) stand, -1 where they do not."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, at, -1)

    def matching(self, wishes: Mapping[str, Sequence[str]]) -> Mask:
        """(n,) visible products that have one of the values for each attribute that is wished for."""
        return self.found(wishes).mask

    def found(self, wishes: Mapping[str, Sequence[str]], text: str = "", rows: Sequence[int] | None = None) -> Found:
        """Visible products that have one of the values given for each attribute, that a search for the text finds, and
        that have one of the `rows`. Kept under what is asked, rows apart."""
        asked = {name: tuple(sorted(set(values))) for name, values in wishes.items() if values}
        key = (tuple(sorted(asked.items())), text)
        found: Found = self.kept(key, lambda: Found(self._mask(asked, text)))
        return found if rows is None else Found(found.mask & self._of_rows(rows))

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made under this key, for as long as the catalogue does not change."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > KEPT_FOUND:
                self._kept.popitem(last=False)
        return made

    def counts(self, name: str, found: Found) -> dict[str, int]:
        """Value of the attribute → how many of the products found have it; those without a value are left out."""
        if name not in found.counts:
            codes, values = self.codes[name], self.values[name]
            among = codes if found.count == len(self) else codes.take(found.places)
            counted = np.bincount(among, minlength=len(values)).tolist()
            found.counts[name] = {value: count for value, count in zip(values, counted, strict=True) if count and value}
        return found.counts[name]

    def _mask(self, wishes: Mapping[str, tuple[str, ...]], text: str) -> Mask:
        mask = self.visible
        for name, wanted in wishes.items():
            held = np.zeros(max(1, len(self.values[name])), dtype=bool)
            code_of = {value: code for code, value in enumerate(self.values[name])}
            held[[code_of[value] for value in wanted if value in code_of]] = True
            mask = mask & held.take(self.codes[name])
        if text:
            mask = mask & self.kept(("words", text), lambda: self._with_words(text))
        mask.flags.writeable = False
        return mask

    def _with_words(self, text: str) -> Mask:
        found = np.zeros(len(self), dtype=bool)
        places = self.places(_ids_with(text))
        found[places[places >= 0]] = True
        return found

    def _of_rows(self, rows: Sequence[int]) -> Mask:
        wanted = np.asarray(rows, dtype=np.int64)
        of: Mask = np.isin(self.rows, wanted[wanted >= 0])
        return of


def get_columns() -> Columns:
    """The columns of this process, as the catalogue is now. One small query; more where something has changed."""
    holder = _holders.setdefault(reading.database(), _Holder())
    columns = holder.columns
    if columns is None or (newer := _brought_up_to_date(columns)) is None:
        with holder.lock:
            columns = holder.columns
            newer = None if columns is None else _brought_up_to_date(columns)
            if newer is None:
                newer = _opened()
    holder.columns = newer
    return newer


def forget_columns() -> None:
    """The next question reads them anew."""
    for holder in _holders.values():
        holder.columns = None


@dataclass
class _Holder:
    lock: threading.Lock = field(default_factory=threading.Lock)
    columns: Columns | None = None


_holders: dict[str, _Holder] = {}
"""By database: a replica may be behind, and what was read of one says nothing of the other."""


# --- reading -----------------------------------------------------------------------------------
_FIELDS = ("id", "embedding_row", "hidden", "missing_since", *ATTRIBUTES)
_SELECT = (
    "SELECT id, coalesce(embedding_row, -1), NOT hidden AND missing_since IS NULL, "  # noqa: S608 - constants
    f"{', '.join(ATTRIBUTES)} FROM catalog_product"
)


def _opened() -> Columns:
    """From disk, where what lies there can be brought up to date, or else from the database."""
    stored = _stored() if changes.is_kept() else None
    if stored is not None:
        return stored
    columns = _read()
    if changes.is_kept() and len(columns) >= STORED_FROM:
        _store(columns)
    return columns


def _read() -> Columns:
    seen = (
        changes.newest() if changes.is_kept() else _state()
    )  # before the products: what comes meanwhile is read again
    numbers: list[NDArray[np.int64]] = []
    codes: dict[str, list[NDArray[np.int64]]] = {name: [] for name in ATTRIBUTES}
    tables: dict[str, dict[str, int]] = {name: {"": 0} for name in ATTRIBUTES}
    with reading.connection().cursor() as cursor:
        after = -1
        while True:
            # In the order of the key, a batch after another: nothing is held open meanwhile.
            cursor.execute(f"{_SELECT} WHERE id > %s ORDER BY id LIMIT %s", [after, _BATCH])
            lines = cursor.fetchall()
            if not lines:
                break
            ids, rows, visible, *attributes = zip(*lines, strict=True)
            after = ids[-1]
            numbers.append(np.array([ids, rows, visible], dtype=np.int64))
            for name, values in zip(ATTRIBUTES, attributes, strict=True):
                table = tables[name]
                for value in set(values).difference(table):
                    table[value] = len(table)
                codes[name].append(np.fromiter(map(table.__getitem__, values), np.int64, len(values)))
    ids, rows, visible = np.concatenate(numbers, axis=1) if numbers else np.empty((3, 0), np.int64)
    return Columns(
        seen,
        np.ascontiguousarray(ids),
        np.ascontiguousarray(rows),
        visible.astype(bool),
        {name: _narrow(pieces, len(tables[name])) for name, pieces in codes.items()},
        {name: list(table) for name, table in tables.items()},
    )


def _narrow(pieces: Sequence[NDArray[np.int64]], values: int) -> Codes:
    dtype = np.min_scalar_type(max(0, values - 1))
    return np.concatenate([piece.astype(dtype) for piece in pieces]) if pieces else np.empty(0, dtype)


def _state() -> Hashable:
    found = Product.objects.aggregate(count=Count("pk"), ids=Sum("pk"), latest=Max("updated_at"))
    return (found["count"], found["ids"], found["latest"])


def _ids_with(text: str) -> NDArray[np.int64]:
    """The primary keys of products that a search for the text finds, ascending."""
    if not changes.is_kept():
        return np.sort(np.fromiter(Product.objects.search(text).values_list("pk", flat=True), dtype=np.int64))
    if not (asked := words.split(text)):
        return np.empty(0, np.int64)
    with reading.connection().cursor() as cursor:
        # One string of numbers: as objects of Python, a common word's half a million would take three times as long.
        cursor.execute(words.MATCHING_LISTED[reading.connection().vendor], [words.match_expression(asked)])
        listed: str | None = cursor.fetchone()[0]
    return np.sort(np.fromstring(listed, dtype=np.int64, sep=",")) if listed else np.empty(0, np.int64)


# --- changes -----------------------------------------------------------------------------------
def _brought_up_to_date(columns: Columns) -> Columns | None:
    """None where everything has to be read anew."""
    if not isinstance(columns.seen, Seen):
        return columns if columns.seen == _state() else None
    if not changes.is_kept():
        return None
    news = changes.since(columns.seen, MOST_NEWS)
    if news is None:
        return None
    if news.products:
        return _changed(columns, news)
    behind = abs(news.seen.horizon - columns.seen.horizon) > changes.MOST_BEHIND
    if (behind or len(columns.seen.ahead) > changes.MOST_AHEAD) and news.seen != columns.seen:
        return replace(columns, seen=news.seen)  # nothing new, and less to ask for
    return columns


def _changed(columns: Columns, news: changes.News) -> Columns | None:
    with reading.connection().cursor() as cursor:
        listed = sorted(news.products)
        if reading.connection().vendor == "sqlite":  # has a limit of parameters; a list in JSON is one
            some, parameter = "IN (SELECT value FROM json_each(%s))", json.dumps(listed)
        else:
            some, parameter = "= ANY(%s::bigint[])", "{" + ",".join(map(str, listed)) + "}"
        cursor.execute(f"{_SELECT} WHERE id {some} ORDER BY id", [parameter])
        lines = cursor.fetchall()
    ids = np.array([line[0] for line in lines], dtype=np.int64)
    at = columns.places(ids)
    if len(columns) and (ids[at < 0] < columns.ids[-1]).any():
        return None  # a key that was given by hand, between others
    new = int(np.count_nonzero(at < 0))
    at[at < 0] = np.arange(len(columns), len(columns) + new)
    gone = columns.places(np.array(sorted(news.products.difference(ids.tolist())), dtype=np.int64))
    gone = gone[gone >= 0]
    values = {name: list(columns.values[name]) for name in ATTRIBUTES}
    codes = {}
    for number, name in enumerate(ATTRIBUTES, start=3):
        places = {value: code for code, value in enumerate(values[name])}
        given = [places.setdefault(line[number], len(places)) for line in lines]
        values[name] += list(places)[len(values[name]) :]
        codes[name] = _with(columns.codes[name], new, at, np.array(given, dtype=np.int64), len(places))
    visible = _with(columns.visible, new, at, np.array([bool(line[2]) for line in lines]))
    rows = _with(columns.rows, new, at, np.array([line[1] for line in lines], dtype=np.int64), gone=(gone, -1))
    if len(gone):
        visible = visible.copy() if visible is columns.visible else visible
        visible[gone] = False
    grown = np.concatenate([columns.ids, ids[len(ids) - new :]]) if new else columns.ids
    return Columns(news.seen, grown, rows, visible, codes, values)


def _with(
    column: NDArray[Any],
    new: int,
    at: NDArray[np.int64],
    given: NDArray[Any],
    values: int = 0,
    gone: tuple[NDArray[np.int64], int] | None = None,
) -> NDArray[Any]:
    """The column with other values at some places; itself where they stand there already."""
    dtype = np.promote_types(column.dtype, np.min_scalar_type(max(0, values - 1))) if values else column.dtype
    at_gone, instead = gone if gone is not None else (np.empty(0, np.int64), 0)
    if not new and dtype == column.dtype and (column[at] == given).all() and (column[at_gone] == instead).all():
        return column
    changed = np.zeros(len(column) + new, dtype=dtype)
    changed[: len(column)] = column
    changed[at] = given
    changed[at_gone] = instead
    return changed


# --- on disk -----------------------------------------------------------------------------------
def _root() -> Path:
    return Path(settings.DATA_DIR) / "columns"


def _stored() -> Columns | None:
    """What another process has left, brought up to date; None where that is of another state of the database."""
    for folder in sorted(_root().glob("[0-9]*"), key=lambda path: path.name, reverse=True):
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads((folder / "values.json").read_text())
            if known["format"] != _FORMAT:
                continue
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ("ids", "rows", "visible", *(f"codes-{name}" for name in ATTRIBUTES))
            }
            columns = Columns(
                Seen(known["version"], known["token"], known["horizon"], frozenset(known["ahead"])),
                arrays["ids"],
                arrays["rows"],
                arrays["visible"],
                {name: arrays[f"codes-{name}"] for name in ATTRIBUTES},
                {name: known["values"][name] for name in ATTRIBUTES},
            )
            if (newer := _brought_up_to_date(columns)) is not None:
                return newer
    return None


def _store(columns: Columns) -> None:
    """For the processes that come; where it cannot be written, they read the database."""
    assert isinstance(columns.seen, Seen)
    name = f"{columns.seen.version:020d}-{columns.seen.token & (2**64 - 1):016x}"
    aside = _root() / f".unfinished-{name}"
    try:
        _root().mkdir(parents=True, exist_ok=True)
        aside.mkdir(exist_ok=True)
        arrays: Iterable[tuple[str, NDArray[Any]]] = (
            ("ids", columns.ids),
            ("rows", columns.rows),
            ("visible", columns.visible),
            *((f"codes-{name}", codes) for name, codes in columns.codes.items()),
        )
        for file, array in arrays:
            np.save(aside / f"{file}.npy", array, allow_pickle=False)
        seen = columns.seen
        known = {"format": _FORMAT, **vars(seen), "ahead": sorted(seen.ahead), "values": dict(columns.values)}
        (aside / "values.json").write_text(json.dumps(known))
        for path in aside.iterdir():
            fsync(path)
        aside.rename(_root() / name)
        fsync(_root())
        for former in _root().glob("[0-9]*"):
            if former.name != name:
                shutil.rmtree(former, ignore_errors=True)  # whoever has mapped it keeps it
    except OSError as error:
        logger.warning("The catalogue's columns cannot be kept on disk, and every process reads them anew: %s", error)
        shutil.rmtree(aside, ignore_errors=True)
