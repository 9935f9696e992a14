"""Rows → products, in batches: what is new is created, what changed in the file is updated, the rest is left.

`Product.source` keeps the row as the file last had it. A field is overwritten only where the file's value
differs from that, so that what somebody corrected by hand in the admin stays corrected.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import transaction
from django.utils import timezone

from catalog.columns import FIELD_OF
from catalog.importing.rows import ParsedRow
from catalog.importing.statements import insert_products, update_products
from catalog.models import Product

BATCH_ROWS = 2000
"""Rows of a transaction: others wait for the write lock about 0.1 s. Every commit writes the pages of eleven
indexes that it touched, so smaller ones write more (measured: 900 rows, 2.8 GB for 200,000 products; 2,000
rows, 2.0 GB)."""

_WRITTEN_FIELDS = [
    *list(FIELD_OF.values())[1:],
    "extra",
    "source",
    "missing_since",
    "image_source",
    "updated_at",
]
_PICTURE_COLUMNS = ("Image", "ImageURL")
UPLOADED = "upload:"
"""How the source of a picture begins that somebody gave a product by hand."""


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


def upsert(rows: Sequence[ParsedRow], *, with_pictures: bool, dry_run: bool = False) -> Batch:
    """Write what is new or changed, in one transaction. `placed` is filled for a run with pictures only."""
    batch = Batch()
    kept, touched = _compare(rows, with_pictures)
    batch.unchanged = len(rows) - len(touched)
    batch.placed = kept
    if not touched:
        return batch
    new: list[ParsedRow] = []
    changed: list[tuple[Product, Status]] = []
    with transaction.atomic():
        # Read again under the lock: the admin may have written since `_compare` looked.
        found = Product.objects.select_for_update().in_bulk(
            [row.product_id for row in touched], field_name="product_id"
        )
        for row in touched:
            product = found.get(row.product_id)
            if product is None:
                new.append(row)
            else:
                visible = _merge(product, row)
                changed.append((product, Status.UPDATED if visible else Status.UNCHANGED))
        if not dry_run:
            now = timezone.now()
            for product, _ in changed:
                product.updated_at = now
            update_products([product for product, _ in changed], _WRITTEN_FIELDS)
            insert_products(map(_values, new), _WRITTEN_FIELDS)
    batch.created = len(new)
    batch.updated = sum(status is Status.UPDATED for _, status in changed)
    batch.unchanged += len(changed) - batch.updated
    if with_pictures:
        batch.placed += [_placed(product, status) for product, status in changed]
        batch.placed += _placed_new(new)
    return batch


def _compare(rows: Sequence[ParsedRow], with_pictures: bool) -> tuple[list[Placed], list[ParsedRow]]:
    """(products whose row is the same as last time, rows that are new or not the same).

    Reads few columns and makes no model instances: in most imports most rows are the same.
    """
    columns = ["product_id", "source", "missing_since"]
    if with_pictures:
        columns += ["pk", "image_name", "image_url", "image", "thumbnail", "image_source", "image_error"]
    known = {
        values[0]: values
        for values in Product.objects.filter(product_id__in=[row.product_id for row in rows])
        .order_by()
        .values_list(*columns)
    }
    kept: list[Placed] = []
    touched: list[ParsedRow] = []
    for row in rows:
        values = known.get(row.product_id)
        if values is None or values[1] != row.values or values[2] is not None:
            touched.append(row)
        elif with_pictures:
            key, name, url, image, thumbnail, source, error = values[3:]
            kept.append(Placed(key, row.product_id, Status.UNCHANGED, name, url, image, thumbnail, source, error))
    return kept, touched


def _values(row: ParsedRow) -> dict[str, object]:
    """A new product's fields."""
    values = row.values
    fields: dict[str, object] = {
        attribute: values[column] for column, attribute in FIELD_OF.items() if column in values
    }
    fields["source"] = values
    if extra := _extra_of(row):
        fields["extra"] = extra
    return fields


def _extra_of(row: ParsedRow) -> dict[str, str]:
    """Values of columns that we do not know; an empty one is as good as none."""
    return {name: value for name, value in row.values.items() if value and name not in FIELD_OF}


def _merge(product: Product, row: ParsedRow) -> bool:
    """Bring a product up to its row; whether people can see a difference."""
    before = product.source
    visible: bool = product.missing_since is not None
    product.missing_since = None
    for column, attribute in FIELD_OF.items():
        value = row.values.get(column)
        if value is None or value == before.get(column):
            continue
        if getattr(product, attribute) != value:
            setattr(product, attribute, value)
            visible = True
        if column in _PICTURE_COLUMNS:
            # The file names another picture: whatever the product has is to be looked for again,
            # an uploaded one too.
            product.image_source = ""
    extra = _merged_extra(product.extra, before, row)
    visible = visible or extra != product.extra
    product.extra = extra
    product.source = row.values
    return visible


def _merged_extra(extra: dict[str, str], before: dict[str, str], row: ParsedRow) -> dict[str, str]:
    merged = dict(extra)
    for name in before.keys() - row.values.keys() - FIELD_OF.keys():
        merged.pop(name, None)  # the file has this column no more
    for name, value in row.values.items():
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
    keys = dict(
        Product.objects.filter(product_id__in=[row.product_id for row in rows])
        .order_by()
        .values_list("product_id", "pk")
    )
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
