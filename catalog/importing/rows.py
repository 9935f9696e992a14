"""One record → one product's values, or the reason why not. Pure: no database, no disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import gt
from typing import NamedTuple

from catalog.columns import FIELD_OF, NEEDED
from catalog.fields import RowWriter
from catalog.formulas import restored
from catalog.importing.csvfile import CatalogueFileError, Record
from catalog.models import Product

MAX_EXTRA_CHARS = 10_000
"""Longest value in a column that Vitrine does not know."""
MAX_EXTRA_NAME_CHARS = 100

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters; tabs and line ends are text, except in an id, a file's name or an address."""
_ONE_LINE = ("ProductId", "Image", "ImageURL")


class ParsedRow(NamedTuple):
    """A row that can become a product. A named tuple, and its values only put together by name where somebody asks:
    there may be millions, and most are only written or found unchanged."""

    line: int
    product_id: str
    fields: tuple[str, ...]
    """Its values, in the order of the file."""
    columns: ColumnMap

    @property
    def values(self) -> dict[str, str]:
        """Column → value, known columns under our names."""
        return dict(zip(self.columns.names, self.fields, strict=True))

    @property
    def text(self) -> str:
        """What `Product.source` keeps of it in the database."""
        return self.columns.as_text(self.fields)


@dataclass(frozen=True)
class Reject:
    """A row that cannot, and why."""

    line: int
    product_id: str
    reason: str
    values: list[str]
    """The row as it stands in the file."""


@dataclass(frozen=True)
class ColumnMap:
    """Which column of one file is which of ours."""

    header: tuple[str, ...]
    """The file's names."""
    names: tuple[str, ...]
    """What we call each: one of the ten, or the file's own name for a column that we do not know."""
    limits: tuple[int, ...]
    """Most characters of each."""
    id_at: int
    title_at: int
    one_line_at: tuple[int, ...]
    as_text: RowWriter


def map_columns(file_name: str, header: Sequence[str], renamed: Mapping[str, str]) -> ColumnMap:
    """Find the ten columns in the header. `renamed`: our name → the file's, or "" where the file has none.

    Raises CatalogueFileError with a sentence that says how to call the command instead.
    """
    for ours, theirs in renamed.items():
        if ours not in FIELD_OF:
            raise CatalogueFileError(f"--map {ours}={theirs}: the columns are {', '.join(FIELD_OF)}.")
        if theirs and theirs not in header:
            raise CatalogueFileError(
                f"--map {ours}={theirs}: {file_name} has no column {theirs}{_near(theirs, header)}."
            )
        if not theirs and ours in NEEDED:
            raise CatalogueFileError(f"--map {ours}=: no product without {ours}.")
        if ours in header and theirs != ours:
            raise CatalogueFileError(f"--map {ours}={theirs}: {file_name} has a column {ours} as well.")
    ours_of: dict[str, str] = {}
    for ours in FIELD_OF:
        theirs = renamed.get(ours, ours)
        if not theirs:
            continue
        if theirs not in header:
            raise CatalogueFileError(_missing(file_name, ours, header))
        if theirs in ours_of:
            raise CatalogueFileError(f"--map {ours}={theirs}: {theirs} is {ours_of[theirs]} already.")
        ours_of[theirs] = ours
    for position, name in enumerate(header, 1):
        if len(name) > MAX_EXTRA_NAME_CHARS or CONTROL.search(name):
            raise CatalogueFileError(
                f"{file_name}, line 1, column {position}: "
                f"a column's name has at most {MAX_EXTRA_NAME_CHARS} characters and no control character."
            )
    names = tuple(ours_of.get(name, name) for name in header)
    return ColumnMap(
        header=tuple(header),
        names=names,
        limits=tuple(_limit(name) for name in names),
        id_at=names.index("ProductId"),
        title_at=names.index("ProductTitle"),
        one_line_at=tuple(at for at, name in enumerate(names) if name in _ONE_LINE),
        as_text=RowWriter(names),
    )


def _missing(file_name: str, ours: str, header: Sequence[str]) -> str:
    if len(header) == 1 and (separator := next((s for s in ";\t|" if s in header[0]), "")):
        name = "a tab" if separator == "\t" else repr(separator)
        return f"{file_name}, line 1, column 1: values are separated by {name}; save the file with commas."
    others = [name for name in header if name not in FIELD_OF]
    near = get_close_matches(ours.lower(), [name.lower() for name in others], n=1, cutoff=0.6)
    like = next((name for name in others if near and name.lower() == near[0]), "")
    example = f"--map {ours}={like or 'NAME'}"
    absent = "" if ours in NEEDED else f", or --map {ours}= if it has none"
    return f"{file_name}, line 1: there is no column {ours}; say which one it is with {example}{absent}."


def _near(name: str, header: Sequence[str]) -> str:
    near = get_close_matches(name, header, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(header)}"


def _limit(name: str) -> int:
    if name not in FIELD_OF:
        return MAX_EXTRA_CHARS
    return getattr(Product._meta.get_field(FIELD_OF[name]), "max_length", None) or MAX_EXTRA_CHARS


def parse_row(record: Record, columns: ColumnMap) -> ParsedRow | Reject:
    """What the record says of a product, or why it says nothing we can keep."""
    fields = fields_of(record)
    if reason := judge(fields, columns):
        return Reject(record.line, id_in(fields, columns), reason, record.values)
    return sound_row(record, columns)


def fields_of(record: Record) -> tuple[str, ...]:
    """The record's values without white space around them, and without the apostrophes that an export put before
    formulas."""
    values = record.values
    if "'" in "".join(values):
        values = [restored(value.strip()) for value in values]
    return tuple(map(str.strip, values))


def judge(fields: Sequence[str], columns: ColumnMap) -> str:
    """The first reason against a row, "" when there is none."""
    if len(fields) < len(columns.names):
        return f"The row has {len(fields)} of {len(columns.names)} fields."
    return _trouble(fields, columns)


def sound_row(record: Record, columns: ColumnMap) -> ParsedRow:
    """The row of a record that has been judged before and found good."""
    fields = fields_of(record)
    return ParsedRow(record.line, fields[columns.id_at], fields, columns)


def id_in(fields: Sequence[str], columns: ColumnMap) -> str:
    """The product's id; "" in a row that ends before it."""
    return fields[columns.id_at] if columns.id_at < len(fields) else ""


def _trouble(values: Sequence[str], columns: ColumnMap) -> str:
    """The first reason against a row, "" when there is none. Runs for every row: the usual case is short."""
    product_id = values[columns.id_at]
    if not product_id:
        return f"{columns.header[columns.id_at]} is empty."
    if not values[columns.title_at]:
        return f"{columns.header[columns.title_at]} is empty."
    if ("/" in product_id or product_id in (".", "..")) and not is_address(product_id):
        name = columns.header[columns.id_at]
        return f"{name} cannot be part of an address: '/' at an end, '//', '.' or '..' between slashes."
    if any(map(gt, map(len, values), columns.limits)):
        return _too_long(values, columns)
    if not "".join(values).isprintable():
        return _control_characters(values, columns)
    return ""


def is_address(product_id: str) -> bool:
    return all(segment not in ("", ".", "..") for segment in product_id.split("/"))


def _too_long(values: Sequence[str], columns: ColumnMap) -> str:
    at = next(at for at, value in enumerate(values) if len(value) > columns.limits[at])
    return f"{columns.header[at]} has {len(values[at]):,} characters; {columns.limits[at]:,} are allowed."


def _control_characters(values: Sequence[str], columns: ColumnMap) -> str:
    for at, value in enumerate(values):
        found = CONTROL.search(value)
        if found:
            return f"{columns.header[at]} has a control character (U+{ord(found[0]):04X})."
        if at in columns.one_line_at and any(character in value for character in "\t\r\n"):
            return f"{columns.header[at]} has a tab or a line break."
    return ""
