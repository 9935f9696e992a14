"""The first pass: read the whole file before anything is written.

It finds what is wrong with the file as such, and which ids come twice. Of every id it keeps 8 bytes, so
that a million products cost 16 MB; ids that may come twice are then looked at by name, in another pass
that a file without repeated ids does not need.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise

from catalog.importing.csvfile import CatalogueFile
from catalog.importing.rows import ColumnMap, ParsedRow, Reject, parse_row


@dataclass(frozen=True)
class Survey:
    """What the first pass learnt."""

    rows: int
    accepted: int
    first_line_of: dict[str, int]
    """Ids that come more than once → the line of the row that counts."""
    ids: array[int] = field(repr=False)
    """`hash(id)` of every row that has an id, rejected ones too."""

    @property
    def rejected(self) -> int:
        return self.rows - self.accepted


def survey(file: CatalogueFile, columns: ColumnMap, limit: int | None = None) -> Survey:
    """Read the file from end to end; only the first `limit` rows count. Raises CatalogueFileError."""
    good, named = array("q"), array("q")
    rows = 0
    records = file.records()
    for record in islice(records, limit):
        rows += 1
        row = parse_row(record, columns)
        if isinstance(row, ParsedRow):
            good.append(hash(row.product_id))
        elif row.product_id:
            named.append(hash(row.product_id))
    for _ in records:  # the rest has to be sound too
        pass
    first_line_of, repeats = _repeated(file, columns, limit, _twice(good))
    named.extend(good)
    return Survey(rows=rows, accepted=len(good) - repeats, first_line_of=first_line_of, ids=named)


def rows_of(
    file: CatalogueFile, columns: ColumnMap, surveyed: Survey, limit: int | None = None
) -> Iterator[ParsedRow | Reject]:
    """Every row in the file's order, with those rejected whose id came before."""
    first_line_of = surveyed.first_line_of
    for record in islice(file.records(), limit):
        row = parse_row(record, columns)
        if first_line_of and isinstance(row, ParsedRow):
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
        row = parse_row(record, columns)
        if isinstance(row, ParsedRow) and hash(row.product_id) in suspects:
            if row.product_id in first:
                repeats += 1
                repeated.add(row.product_id)
            first.setdefault(row.product_id, row.line)
    return {product_id: first[product_id] for product_id in repeated}, repeats
