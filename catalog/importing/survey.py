"""The first pass: read the whole file before anything is written.

It finds what is wrong with the file as such, which ids come twice, and which rows the catalogue has already,
just as they are: what an import writes is what is left. Of every id it keeps 8 bytes, so that a million
products cost 16 MB; ids that may come twice are then looked at by name, in another pass that a file without
repeated ids does not need.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise, repeat

from catalog.importing.csvfile import CatalogueFile
from catalog.importing.rows import ColumnMap, ParsedRow, Reject, fields_of, id_in, judge, parse_row, sound_row


@dataclass(frozen=True)
class Survey:
    """What the first pass learnt."""

    rows: int
    accepted: int
    first_line_of: dict[str, int]
    """Ids that come more than once → the line of the row that counts."""
    ids: array[int] = field(repr=False)
    """`hash(id)` of every row that has an id, rejected ones too."""
    bad_lines: array[int] = field(repr=False)
    """Lines of the rows that are rejected for themselves, ascending: the others need not be judged again."""
    same: bytearray = field(repr=False)
    """1 for every row, in order, that the catalogue has just as it is; empty where that is not known."""

    @property
    def rejected(self) -> int:
        return self.rows - self.accepted

    @property
    def unchanged(self) -> int:
        return self.same.count(1)


def survey(
    file: CatalogueFile, columns: ColumnMap, limit: int | None = None, known: Container[int] = frozenset()
) -> Survey:
    """Read the file from end to end; only the first `limit` rows count. Raises CatalogueFileError.

    `known`: `row_key` of what the catalogue has.
    """
    good, named, bad_lines, same = array("q"), array("q"), array("q"), bytearray()
    rows, width = 0, len(columns.names)
    records = file.records()
    for record in islice(records, limit):
        rows += 1
        fields = fields_of(record)
        product_id = id_in(fields, columns)
        # What the catalogue has was judged when it came in.
        is_same = bool(known) and len(fields) == width and row_key(product_id, columns.as_text(fields)) in known
        if known:
            same.append(is_same)
        if is_same or not judge(fields, columns):
            good.append(hash(product_id))
            continue
        bad_lines.append(record.line)
        if product_id:
            named.append(hash(product_id))
    for _ in records:  # the rest has to be sound too
        pass
    first_line_of, repeats = _repeated(file, columns, limit, _twice(good))
    if repeats:
        same.clear()  # a row that the catalogue has may be the one that is rejected
    named.extend(good)
    return Survey(
        rows=rows, accepted=len(good) - repeats, first_line_of=first_line_of, ids=named, bad_lines=bad_lines, same=same
    )


def row_key(product_id: str, text: str) -> int:
    """A row in 64 bits, by which a file's are held against the catalogue's: that a changed row is taken for one of a
    million others has a chance of one in 10¹³. Means nothing outside this process."""
    return hash((product_id, text))


def rows_of(
    file: CatalogueFile, columns: ColumnMap, surveyed: Survey, limit: int | None = None
) -> Iterator[ParsedRow | Reject]:
    """The rows in the file's order, less those that the catalogue has; those whose id came before are rejected."""
    first_line_of, width = surveyed.first_line_of, len(columns.names)
    bad_lines = iter(surveyed.bad_lines)
    next_bad = next(bad_lines, 0)
    if surveyed.unchanged == surveyed.rows:
        return
    same = surveyed.same or repeat(0)
    for record, is_same in zip(islice(file.records(), limit), same, strict=False):
        if is_same:
            continue
        # A file that is written to meanwhile is noticed a little later: until then, rows may be short.
        if record.line == next_bad or len(record.values) < width:
            next_bad = next(bad_lines, 0)
            yield parse_row(record, columns)
            continue
        row = sound_row(record, columns)
        if first_line_of:
            first = first_line_of.get(row.product_id, row.line)
            if first != row.line:
                why = f"{columns.header[columns.id_at]} {row.product_id} stands in line {first} already."
                yield Reject(row.line, row.product_id, why, record.values)
                continue
        yield row


def absent(ids: array[int], candidates: Iterable[tuple[int, str]]) -> Iterator[int]:
    """The keys of those (key, product id) whose id the file does not name."""
    ordered = array("q", sorted(ids))
    for key, product_id in candidates:
        wanted = hash(product_id)
        at = bisect_left(ordered, wanted)
        if at == len(ordered) or ordered[at] != wanted:
            yield key


def _twice(hashes: array[int]) -> set[int]:
    """The values that come more than once."""
    ordered = sorted(hashes)
    return {value for value, following in pairwise(ordered) if value == following}


def _repeated(
    file: CatalogueFile, columns: ColumnMap, limit: int | None, suspects: set[int]
) -> tuple[dict[str, int], int]:
    """(repeated id → its first line, how many rows repeat one), by name: two ids may share a hash."""
    if not suspects:
        return {}, 0
    first: dict[str, int] = {}
    repeated: set[str] = set()
    repeats = 0
    for record in islice(file.records(), limit):
        fields = fields_of(record)
        product_id = id_in(fields, columns)
        if hash(product_id) in suspects and not judge(fields, columns):
            if product_id in first:
                repeats += 1
                repeated.add(product_id)
            first.setdefault(product_id, record.line)
    return {product_id: first[product_id] for product_id in repeated}, repeats
