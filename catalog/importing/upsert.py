"""Rows → products, in batches: what is new is created, what changed in the file is updated, the rest is left.

`Product.source` keeps the row as the file last had it. A field is overwritten only where the file's value
differs from that, so that what somebody corrected by hand in the admin stays corrected.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from django.db import OperationalError, transaction
from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils import timezone

from catalog.columns import FIELD_OF
from catalog.importing.plan import Change, Plan
from catalog.importing.rows import ParsedRow
from catalog.importing.statements import insert_products, rows_named, update_products
from catalog.importing.survey import row_key
from catalog.models import Product

BATCH_ROWS = 10_000
"""Rows of a transaction: others wait for the write lock about 0.2 s. Ids come in no order, so that a commit writes
most pages of their index, and smaller transactions write them more often."""

_WRITTEN_FIELDS = [
    *list(FIELD_OF.values())[1:],
    "extra",
    "source",
    "missing_since",
    "image_source",
    "updated_at",
]
_TRIES = 10
_PICTURE_COLUMNS = ("Image", "ImageURL")


class Status(enum.Enum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Placed:
    """A product after its row was written, as far as its picture is concerned."""

    key: int
    product_id: str
    status: Status
    image_name: str
    image_url: str
    image: str
    thumbnail: str
    image_source: str
    image_error: str


@dataclass
class Batch:
    """What became of some rows."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    placed: list[Placed] = field(default_factory=list)


def known_rows() -> frozenset[int]:
    """`row_key` of the row that each product had in the file, less those that the file had no more."""
    products = Product.objects.filter(missing_since=None).order_by()
    texts = products.values_list("product_id", Cast("source", TextField()))  # as it is, not decoded
    return frozenset(row_key(product_id, text) for product_id, text in texts.iterator())


class _OvertakenError(Exception):
    """Somebody has created or deleted some of a batch's products since we looked."""


def upsert(
    rows: Sequence[ParsedRow],
    *,
    with_pictures: bool,
    dry_run: bool = False,
    all_new: bool = False,
    plan: Plan | None = None,
) -> Batch:
    """Write what is new or changed, in one transaction. `placed` is filled for a run with pictures only.

    `all_new`: none of the products is likely to be there, so that looking for them first does not pay.
    `plan` is told of every change.
    """
    if all_new:
        with suppress(_OvertakenError):
            return _write(_Compared(new=[*rows]), with_pictures, dry_run, plan)
    for _ in range(_TRIES):
        with suppress(_OvertakenError):
            return _write(_compare(rows, with_pictures), with_pictures, dry_run, plan)
    raise OperationalError("others keep creating or deleting the same products")


def _write(found: _Compared, with_pictures: bool, dry_run: bool, plan: Plan | None) -> Batch:
    names, values = _values(found.new)  # made before others have to wait for the lock
    changed: list[tuple[Product, Status]] = []
    merged: list[tuple[Product, ParsedRow, _Merged]] = []
    if found.new or found.touched:
        with transaction.atomic():
            # Read again under the lock: the admin may have written since `_compare` looked.
            products = Product.objects.select_for_update().in_bulk(
                [row.product_id for row in found.touched], field_name="product_id"
            )
            if len(products) < len(found.touched):
                raise _OvertakenError
            for row in found.touched:
                what = _merge(product := products[row.product_id], row)
                changed.append((product, Status.UPDATED if what.visible else Status.UNCHANGED))
                merged.append((product, row, what))
            if not dry_run:
                now = timezone.now()
                for product, _ in changed:
                    product.updated_at = now
                update_products([product for product, _ in changed], _WRITTEN_FIELDS)
                if insert_products(names, values) < len(found.new):
                    raise _OvertakenError
    if plan is not None:
        plan.note_created(found.new)
        for product, row, what in merged:
            if what.visible:
                plan.note_changed(product, row.line, what.changes, what.back)
    batch = Batch(created=len(found.new), placed=found.kept)
    batch.updated = sum(status is Status.UPDATED for _, status in changed)
    batch.unchanged = found.unchanged + len(changed) - batch.updated
    if with_pictures:
        batch.placed += [_placed(product, status) for product, status in changed]
        batch.placed += _placed_new(found.new)
    return batch


@dataclass
class _Compared:
    """A batch held against the database."""

    new: list[ParsedRow] = field(default_factory=list)
    touched: list[ParsedRow] = field(default_factory=list)
    """Rows that are not the same as last time, or whose product was missing."""
    unchanged: int = 0
    kept: list[Placed] = field(default_factory=list)
    """The unchanged products, in a run with pictures."""


def _compare(rows: Sequence[ParsedRow], with_pictures: bool) -> _Compared:
    """Reads few columns and makes no model instances: in most imports most rows are the same."""
    names = ["product_id", "source", "missing_since"]
    if with_pictures:
        names += ["id", "image_name", "image_url", "image", "thumbnail", "image_source", "image_error"]
    known = {values[0]: values for values in rows_named(names, [row.product_id for row in rows])}
    result = _Compared()
    for row in rows:
        values = known.get(row.product_id)
        if values is None:
            result.new.append(row)
        elif values[1] != row.text or values[2] is not None:
            result.touched.append(row)
        else:
            result.unchanged += 1
            if with_pictures:
                key, name, url, image, thumbnail, source, error = values[3:]
                placed = Placed(key, row.product_id, Status.UNCHANGED, name, url, image, thumbnail, source, error)
                result.kept.append(placed)
    return result


def _values(rows: Sequence[ParsedRow]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(fields, their values for each of the new products)."""
    if not rows:
        return [], []
    columns = rows[0].columns.names
    known = [column for column in FIELD_OF if column in columns]
    pick = itemgetter(*map(columns.index, known))
    names = [*map(FIELD_OF.__getitem__, known), "source"]
    if len(known) == len(columns):
        return names, [(*pick(row.fields), row.text) for row in rows]
    return [*names, "extra"], [(*pick(row.fields), row.text, _extra_of(row)) for row in rows]


def _extra_of(row: ParsedRow) -> dict[str, str]:
    """Values of columns that we do not know; an empty one is as good as none."""
    return {name: value for name, value in row.values.items() if value and name not in FIELD_OF}


@dataclass(slots=True)
class _Merged:
    """What people can see of a merge."""

    back: bool
    """Whether the product was missing before."""
    changes: list[Change] = field(default_factory=list)

    @property
    def visible(self) -> bool:
        return self.back or bool(self.changes)


def _merge(product: Product, row: ParsedRow) -> _Merged:
    """Bring a product up to its row."""
    before, after = product.source, row.values
    merged = _Merged(back=product.missing_since is not None)
    product.missing_since = None
    for column, attribute in FIELD_OF.items():
        value = after.get(column)
        if value is None or value == before.get(column):
            continue
        if (former := getattr(product, attribute)) != value:
            setattr(product, attribute, value)
            merged.changes.append(Change(column, former, value))
        if column in _PICTURE_COLUMNS:
            # The file names another picture: whatever the product has is to be looked for again,
            # an uploaded one too.
            product.image_source = ""
    extra = _merged_extra(product.extra, before, after)
    if extra != product.extra:
        merged.changes += [
            Change(name, str(product.extra.get(name, "")), str(extra.get(name, "")))
            for name in {**product.extra, **extra}
            if product.extra.get(name) != extra.get(name)
        ]
        product.extra = extra
    product.source = after
    return merged


def _merged_extra(extra: dict[str, str], before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    merged = dict(extra)
    for name in before.keys() - after.keys() - FIELD_OF.keys():
        merged.pop(name, None)  # the file has this column no more
    for name, value in after.items():
        if name in FIELD_OF or value == before.get(name):
            continue
        if value:
            merged[name] = value
        else:
            merged.pop(name, None)
    return merged


def _placed(product: Product, status: Status) -> Placed:
    return Placed(
        key=product.pk,
        product_id=product.product_id,
        status=status,
        image_name=product.image_name,
        image_url=product.image_url,
        image=product.image.name or "",
        thumbnail=product.thumbnail.name or "",
        image_source=product.image_source,
        image_error=product.image_error,
    )


def _placed_new(rows: Sequence[ParsedRow]) -> list[Placed]:
    """The products just created; in a dry run, which created none, with a key that no product has."""
    keys: dict[str, int] = dict(rows_named(["product_id", "id"], [row.product_id for row in rows]))
    return [
        Placed(
            key=keys.get(row.product_id, 0),
            product_id=row.product_id,
            status=Status.CREATED,
            image_name=row.values.get("Image", ""),
            image_url=row.values.get("ImageURL", ""),
            image="",
            thumbnail="",
            image_source="",
            image_error="",
        )
        for row in rows
    ]
