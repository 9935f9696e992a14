"""The file: bytes on disk → records with their true line numbers, or one sentence that says what is wrong.

The standard `csv` reader in its strict mode does the parsing. It reads from lines that we cut and decode
ourselves, so that every error can name its line and column, and so that no file, however broken, takes
more memory than a record may have. (pandas can do neither: it counts records instead of lines, and puts
a row that is too long into other columns without a word.)
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from catalog.formulas import restored

MAX_FIELD_CHARS = 1024 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024
REJECT_COLUMNS = ["line", "product_id", "reason"]
"""What a file of rejected rows has before the original columns: passed over, so that it can be imported as it is when
its rows have been put right."""

_BOM = b"\xef\xbb\xbf"
_NOT_CSV = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
}


class CatalogueFileError(Exception):
    """Why a file cannot be imported as a whole: one sentence that names file, line and column."""


class Record(NamedTuple):
    """One row as it stands in the file; a named tuple, because a million are made per second or two."""

    line: int
    """Where the record begins, counted as an editor does, from 1."""
    values: list[str]


class CatalogueFile:
    """A CSV file, opened once and read as often as needed: the header, then the records."""

    def __init__(self, path: Path, name: str = "") -> None:
        """`name`: what people call it, where that is not the path's."""
        self.path = path
        self.name = name or path.name
        self._file = _open(path)
        try:
            self._state = self._fingerprint()
            self._refuse_other_formats()
            self._columns = self._read_header()
            self._passed_over = len(REJECT_COLUMNS) if self._columns[: len(REJECT_COLUMNS)] == REJECT_COLUMNS else 0
            self.header = self._columns[self._passed_over :]
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def records(self) -> Iterator[Record]:
        """Every record after the header that is not blank. Raises CatalogueFileError.

        A record may have fewer values than the header has names, never more.
        """
        width, passed_over = len(self._columns), self._passed_over
        records = self._parse(self._columns)
        next(records)
        for record in records:
            values = record.values
            if len(values) > width:
                raise self.error(
                    f"the row has {len(values)} fields, but the header names {width}",
                    record.line,
                    f"column {width + 1}",
                )
            yield Record(record.line, values[passed_over:]) if passed_over else record

    def check_unchanged(self) -> None:
        """Refuse to go on with a file that somebody writes to while we read it."""
        if self._fingerprint() != self._state:
            raise self.error("the file changed while it was being read; import it again")

    def error(self, what: str, line: int | None = None, column: str | None = None) -> CatalogueFileError:
        place = self.name
        if line is not None:
            place += f", line {line}"
        if column is not None:
            place += f", {column}"
        return CatalogueFileError(f"{place}: {what}.")

    # --- reading ------------------------------------------------------------------------------
    def _fingerprint(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns

    def _refuse_other_formats(self) -> None:
        start = self._file.read(4096)
        if not start:
            raise self.error("the file is empty")
        for magic, name in _NOT_CSV.items():
            if start.startswith(magic):
                raise self.error(f"this is {name}, not a CSV file; save the table as CSV in UTF-8", 1, "column 1")
        if start.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(start):
            raise self.error("the file is UTF-16; save it as UTF-8", 1, "column 1")

    def _read_header(self) -> list[str]:
        record = next(self._parse(None), None)
        if record is None:
            raise self.error("the file has nothing but blank lines", 1)
        names = [restored(name.strip()) for name in record.values]
        first_at: dict[str, int] = {}
        for position, name in enumerate(names, 1):
            if not name:
                raise self.error("the header has a column without a name", record.line, f"column {position}")
            if name in first_at:
                raise self.error(
                    f"the header names {name} twice (columns {first_at[name]} and {position})",
                    record.line,
                    f"column {name}",
                )
            first_at[name] = position
        return names

    def _parse(self, header: list[str] | None) -> Iterator[Record]:
        """Records from the file's beginning, the header among them; blank lines are left out."""
        csv.field_size_limit(MAX_FIELD_CHARS)
        self._file.seek(0)
        lines = _Lines(self, header)
        reader = csv.reader(lines.read(), strict=True)
        opened = lines.opened
        while True:
            opened.clear()
            line = lines.number + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._explained(error, line, "".join(opened), header) from error
            if len(values) > 1 or (values and (header is None or len(header) == 1 or values[0].strip())):
                yield Record(line, values)

    def _explained(self, error: csv.Error, line: int, text: str, header: list[str] | None) -> CatalogueFileError:
        """The csv module's complaint about a record, with the column it does not know."""
        found = _walk(text)
        column = _column_name(header, found.column)
        if found.trouble == "text after quote":
            what = "text follows a closing quote; a quote inside a quoted value is written twice"
        elif found.trouble == "bare CR":
            what = "a carriage return stands alone; save the file with LF or CRLF line ends"
        elif found.quoted and "limit" in str(error):
            what = f"a quote opens here and is not closed within {MAX_FIELD_CHARS:,} characters"
        elif found.quoted:
            what = "a quote opens here and is never closed"
        elif "limit" in str(error):
            what = f"the value is longer than {MAX_FIELD_CHARS:,} characters"
        else:
            what = f"the row cannot be read ({error})"
        return self.error(what, line, column)


class _Lines:
    """Decoded lines for the csv reader; `opened` are those of the record that is being read."""

    def __init__(self, file: CatalogueFile, header: list[str] | None) -> None:
        self.number = 0
        self.opened: list[str] = []
        self._file = file
        self._header = header

    def read(self) -> Iterator[str]:
        readline, opened, size = self._file._file.readline, self.opened, 0
        while raw := readline(MAX_LINE_BYTES + 1):
            self.number += 1
            if b"\0" in raw:
                raise self._error("a NUL byte; the file is damaged or not text", raw[: raw.index(b"\0")])
            if len(raw) > MAX_LINE_BYTES:
                raise self._error(self._why_so_long(raw), b"")
            if self.number == 1 and raw.startswith(_BOM):
                raw = raw[len(_BOM) :]
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                raise self._error(
                    f"the byte 0x{raw[error.start]:02X} is not UTF-8; save the file as UTF-8",
                    raw[: error.start],
                ) from error
            size = size + len(raw) if opened else len(raw)
            if size > MAX_RECORD_BYTES:
                raise self._error(f"the row is longer than {MAX_RECORD_BYTES // 2**20} MiB", b"")
            opened.append(line)
            yield line

    def _why_so_long(self, raw: bytes) -> str:
        if b"\r" in raw[:4096] and b"\n" not in raw[:4096]:
            return "lines end with a bare carriage return; save the file with LF or CRLF line ends"
        return f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB"

    def _error(self, what: str, before: bytes) -> CatalogueFileError:
        """An error in this line, in the column reached after `before`."""
        text = "".join(self.opened) + before.decode(errors="replace")
        return self._file.error(what, self.number, _column_name(self._header, _walk(text).column))


class _Place(NamedTuple):
    column: int
    """From 0."""
    quoted: bool
    """Whether the text ends inside quotes."""
    trouble: str = ""


def _walk(text: str) -> _Place:
    """Where in a record the text's end is, or the first thing that strict CSV does not allow.

    Only looked at when something is wrong: slow and plain.
    """
    column, position, end = 0, 0, len(text)
    while True:
        if text.startswith('"', position):
            close = position + 1
            while True:
                close = text.find('"', close)
                if close < 0:
                    return _Place(column, quoted=True)
                if not text.startswith('"', close + 1):
                    break
                close += 2
            position = close + 1
            if position < end and text[position] not in ",\r\n":
                return _Place(column, quoted=False, trouble="text after quote")
        stop = position
        while stop < end and text[stop] not in ",\r\n":
            stop += 1
        if stop >= end:
            return _Place(column, quoted=False)
        if text[stop] == "\r" and stop + 1 < end and text[stop + 1] != "\n":
            return _Place(column, quoted=False, trouble="bare CR")
        if text[stop] == ",":
            column += 1
        position = stop + 1


def _column_name(header: list[str] | None, position: int) -> str:
    if header and position < len(header):
        return f"column {header[position]}"
    return f"column {position + 1}"


def _looks_like_utf16(start: bytes) -> bool:
    """Latin text in UTF-16 without byte order mark: every other byte is NUL."""
    half = len(start) // 2
    return half >= 4 and max(start[::2].count(0), start[1::2].count(0)) > half * 0.7


def _open(path: Path) -> BinaryIO:
    try:
        # A named pipe would block here and could not be read twice: look before opening.
        if not stat.S_ISREG(path.stat().st_mode):
            raise CatalogueFileError(f"{path}: this is not a file.")
        return path.open("rb", buffering=256 * 1024)
    except FileNotFoundError as error:
        raise CatalogueFileError(f"{path}: there is no such file.") from error
    except OSError as error:
        raise CatalogueFileError(f"{path}: the file cannot be read ({error.strerror}).") from error
