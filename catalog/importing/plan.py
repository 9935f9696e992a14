"""What an import changes, gathered while it is done or tried: for people to look at, and to be held to.

The digest of a plan is that of the file and of every single change, so that two runs with the same digest do the same.
The preview keeps the first few of each kind for the page, never all of them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from catalog.importing.rows import ParsedRow
from catalog.models import Product

SHOWN = 50


class Change(NamedTuple):
    """A value that people see, before and after."""

    column: str
    before: str
    after: str


@dataclass(frozen=True)
class ChangedProduct:
    """An update of a product that people can see."""

    line: int
    product_id: str
    title: str
    changes: list[Change]
    back: bool
    """Whether it was missing in the file before, and is there again."""


@dataclass(frozen=True)
class NewProduct:
    """A row that becomes a product."""

    line: int
    columns: tuple[str, ...]
    values: tuple[str, ...]
    """One for each column."""


class Plan:
    """Told by the import of everything that it does or would do."""

    def __init__(self, sha256: str) -> None:
        """`sha256`: the file's, which says what the lines are that only their number is noted of."""
        self.created: list[NewProduct] = []
        self.changed: list[ChangedProduct] = []
        self.columns: Counter[str] = Counter()
        """Column → how many products get another value there."""
        self.missing: list[str] = []
        """The first products that the file no longer has."""
        self._digest = hashlib.sha256(sha256.encode())

    def digest(self) -> str:
        return self._digest.hexdigest()

    def note_created(self, rows: Sequence[ParsedRow]) -> None:
        self._digest.update(b"created" + array("q", [row.line for row in rows]).tobytes())
        self.created += [
            NewProduct(row.line, row.columns.names, row.fields) for row in rows[: SHOWN - len(self.created)]
        ]

    def note_changed(self, product: Product, line: int, changes: list[Change], back: bool) -> None:
        self._digest.update(f"{product.pk} {product.product_id!r} {line} {changes!r} {back}\n".encode())
        self.columns.update(change.column for change in changes)
        if len(self.changed) < SHOWN:
            self.changed.append(ChangedProduct(line, product.product_id, product.title, changes, back))

    def note_missing(self, keys: Sequence[int]) -> None:
        self._digest.update(b"missing" + array("q", keys).tobytes())
        self.missing = [str(product) for product in Product.objects.filter(pk__in=keys[:SHOWN]).order_by("pk")]
