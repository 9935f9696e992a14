"""Products → the catalogue's own CSV: what an import reads, in the columns' usual order, then the others.

The text is UTF-8 without byte order mark and lines end with LF: what version control, spreadsheets and
every reader of CSV take, and what gives back an imported file of that kind byte by byte.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from django.db.models import QuerySet

from catalog.columns import FIELD_OF
from catalog.files import written_aside
from catalog.formulas import kept, neutralised
from catalog.models import Product

_CHUNK = 2000
BOM = "\ufeff"
"""Without it, Excel takes UTF-8 for something else. Imports pass over it."""


def export_catalogue(path: Path, *, spreadsheet: bool = False) -> int:
    """Write all products to a file that appears whole or not at all; how many they were."""
    with written_aside(path) as file:
        return write_catalogue(file, spreadsheet=spreadsheet)


def write_catalogue(file: IO[str], *, spreadsheet: bool = False) -> int:
    """Write all products to an open text file (`newline=""`), a few at a time; how many they were."""
    count = -1  # the header
    for line in catalogue_lines(Product.objects.all(), spreadsheet=spreadsheet):
        file.write(line)
        count += 1
    return count


def catalogue_lines(products: QuerySet[Product], *, spreadsheet: bool = False) -> Iterator[str]:
    """The header's row and then each product's, with their line ends; only a few products are in memory at a time.

    `spreadsheet`: for opening in one. Formulas are neutralised (`catalog.formulas`) and a byte order mark comes first.
    Imports read both kinds alike.
    """
    products = products.order_by("pk")
    extra_names = _extra_names(products)
    to_text = neutralised if spreadsheet else kept
    line = _Line()
    header = line.of(map(to_text, [*FIELD_OF, *extra_names]))
    yield BOM + header if spreadsheet else header
    for *values, extra in products.values_list(*FIELD_OF.values(), "extra").iterator(chunk_size=_CHUNK):
        yield line.of(map(to_text, [*values, *(str(extra.get(name, "")) for name in extra_names)]))


class _Line:
    """One row as CSV."""

    def __init__(self) -> None:
        self._text = ""
        self._plain = csv.writer(self, lineterminator="\n")
        # Before Python 3.13, a carriage return is quoted only where it is part of the line's end.
        self._quoted = csv.writer(self, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def of(self, values: Iterable[str]) -> str:
        row = list(values)
        (self._quoted if "\r" in "".join(row) else self._plain).writerow(row)
        return self._text

    def write(self, text: str) -> None:
        """What the writers write to."""
        self._text = text


def _extra_names(products: QuerySet[Product]) -> list[str]:
    """Names of all further columns, in the order in which the products bring them up."""
    names: dict[str, None] = {}
    for extra in products.exclude(extra={}).values_list("extra", flat=True).iterator(chunk_size=_CHUNK):
        names.update(dict.fromkeys(extra))
    return list(names)
