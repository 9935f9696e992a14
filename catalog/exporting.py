"""Products → the catalogue's own CSV: what an import reads, in the columns' usual order, then the others.

The text is UTF-8 without byte order mark and lines end with LF: what version control, spreadsheets and
every reader of CSV take, and what gives back an imported file of that kind byte by byte.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from catalog.columns import FIELD_OF
from catalog.files import written_aside
from catalog.models import Product

_CHUNK = 2000


def export_catalogue(path: Path) -> int:
    """Write all products to a file that appears whole or not at all; how many they were."""
    with written_aside(path) as file:
        return write_catalogue(file)


def write_catalogue(file: IO[str]) -> int:
    """Write all products to an open text file (`newline=""`), a few at a time; how many they were."""
    extra_names = _extra_names()
    plain = csv.writer(file, lineterminator="\n")
    # Before Python 3.13, a carriage return is quoted only where it is part of the line's end.
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: list[str]) -> None:
        (quoted if "\r" in "".join(row) else plain).writerow(row)

    write([*FIELD_OF, *extra_names])
    count = 0
    for *values, extra in _values():
        write([*values, *(str(extra.get(name, "")) for name in extra_names)])
        count += 1
    return count


def _values() -> Iterator[tuple[Any, ...]]:
    products = Product.objects.order_by("pk").values_list(*FIELD_OF.values(), "extra")
    return products.iterator(chunk_size=_CHUNK)


def _extra_names() -> list[str]:
    """Names of all further columns, in the order in which the products bring them up."""
    names: dict[str, None] = {}
    with_extra = Product.objects.exclude(extra={}).order_by("pk").values_list("extra", flat=True)
    for extra in with_extra.iterator(chunk_size=_CHUNK):
        names.update(dict.fromkeys(extra))
    return list(names)
