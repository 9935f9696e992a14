"""The one module that knows the product model: what similarity needs to know of products, and no more."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from numpy.typing import NDArray

from catalog.columnar import Columns, get_columns
from catalog.columns import ATTRIBUTES, FIELD_OF
from catalog.models import Product, ProductQuerySet, RowCounter
from similarity.models import DistinctPair
from similarity.vectors import Digests, Rows, digest_matrix, find_rows

__all__ = ["Columns", "Product"]

LABELS = ATTRIBUTES
_SQL_BATCH = 500
_READ_BATCH = 20_000
_SPARSE = 8
"""Rows per product from which on a table of all rows would be mostly holes."""


@dataclass(frozen=True)
class Pictures:
    """The pictures that should be embedded: `rows` (n,) int64 ascending, `digests` (n, 32) uint8."""

    rows: Rows
    digests: Digests

    def __len__(self) -> int:
        return len(self.rows)


def current_pictures() -> Pictures:
    """Those of all products that have one, hidden products included: showing them again needs no new build."""
    keys = Product.objects.with_image().order_by("embedding_row").values_list("embedding_row", "image_sha256")
    rows, digests = [np.empty(0, np.int64)], [np.empty((0, 32), np.uint8)]
    reading = keys.iterator(chunk_size=_READ_BATCH)
    while some := list(islice(reading, _READ_BATCH)):
        rows.append(np.array([row for row, _ in some], dtype=np.int64))
        digests.append(digest_matrix([digest for _, digest in some]))
    return Pictures(np.concatenate(rows), np.concatenate(digests))


def labels_of(rows: Rows) -> dict[str, list[str]]:
    """Label → its value for each of the rows (n,), "" where the product has none or is gone. One small query."""
    return {name: [values[code] for code in codes.tolist()] for name, (codes, values) in label_codes(rows).items()}


def label_codes(rows: Rows) -> dict[str, tuple[NDArray[np.int64], list[str]]]:
    """Label → for each of the rows (n,) the position of its value, and the values in their order. One small query."""
    columns = get_columns()
    at = places_of_rows(columns.rows)(rows)
    found = {}
    for name in LABELS:
        values = list(columns.values[name])
        order = sorted(range(len(values)), key=values.__getitem__)
        rank = np.empty(len(values) + 1, dtype=np.int64)
        rank[order] = np.arange(len(values))
        rank[-1] = rank[values.index("")]  # of products that are gone
        codes = columns.codes[name][at].astype(np.int64) if len(columns) else np.zeros(len(at), np.int64)
        codes[at < 0] = -1
        found[name] = (rank[codes], [values[place] for place in order])
    return found


def places_of_rows(present: Rows) -> Callable[[Rows], NDArray[np.int32]]:
    """Answers where rows (m,) stand in `present` (n,), which has -1 wherever there is none; -1 where they do not."""
    there = np.flatnonzero(present >= 0)
    most = int(present.max(initial=-1))
    if most > _SPARSE * (len(there) + 1_000_000):  # a counter that has run far ahead of its products
        return lambda rows: find_rows(rows, np.where(present < 0, -2, present)).astype(np.int32)
    table = np.full(most + 2, -1, dtype=np.int32)  # the last one for whatever lies beyond
    table[present[there]] = there
    return lambda rows: table[np.where((rows < 0) | (rows > most), most + 1, rows)]


def picture_paths(rows: Rows) -> Iterator[tuple[int, Path]]:
    """(position in `rows`, file) of each of the rows (n,) whose product still has it, in their order."""
    return _paths(rows, "image")


def thumbnail_paths(rows: Rows) -> Iterator[tuple[int, Path]]:
    """As `picture_paths`, of the thumbnails."""
    return _paths(rows, "thumbnail")


def _paths(rows: Rows, of: str) -> Iterator[tuple[int, Path]]:
    root = Path(settings.MEDIA_ROOT)
    for start in range(0, len(rows), _SQL_BATCH):
        wanted = rows[start : start + _SQL_BATCH].tolist()
        names = dict(Product.objects.filter(embedding_row__in=wanted).values_list("embedding_row", of))
        yield from ((start + at, root / names[row]) for at, row in enumerate(wanted) if row in names)


def note_unreadable(reasons: dict[int, str]) -> None:
    """Let the admin see, and the next import mend, that pictures on disk cannot be read: row → why."""
    for row, reason in reasons.items():
        Product.objects.filter(embedding_row=row).update(image_error=reason[:500])


@dataclass(frozen=True)
class LabelledPictures:
    """Visible products' pictures, `rows` (n,) ascending, `digests` (n, 32), and each label's values."""

    rows: Rows
    digests: Digests
    labels: dict[str, list[str]]


def labelled_pictures() -> LabelledPictures:
    """Of all visible products that have a picture. One query."""
    found = list(visible_products().values_list("embedding_row", "image_sha256", *LABELS))
    columns: list[tuple[Any, ...]] = list(zip(*found, strict=True)) or [()] * (2 + len(LABELS))
    rows, digests, *labels = columns
    return LabelledPictures(
        np.array(rows, dtype=np.int64),
        digest_matrix(list(digests)),
        {name: list(values) for name, values in zip(LABELS, labels, strict=True)},
    )


def version_of_visible() -> str:
    """Another text whenever other products are visible, or one of them is found by something else. One small query."""
    return str(get_columns().seen)


def are_visible(rows: Rows, digests: Digests) -> NDArray[np.bool_]:
    """(n,) whether a visible product shows the picture with each row (n,) and digest (n, 32)."""
    shown = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), _SQL_BATCH):
        wanted = rows[start : start + _SQL_BATCH].tolist()
        visible = Product.objects.visible().filter(embedding_row__in=wanted)
        found = dict(visible.values_list("embedding_row", "image_sha256"))
        for at, row in enumerate(wanted, start=start):
            shown[at] = found.get(row) == digests[at].tobytes().hex()
    return shown


def label_name(label: str) -> str:
    """What people call one of LABELS, in their language."""
    return str(Product._meta.get_field(label).verbose_name)  # type: ignore[union-attr]


def count_products() -> int:
    return Product.objects.count()


def count_embedded() -> int:
    """Products that have a picture with a row."""
    return Product.objects.with_image().count()


def visible_by_row(rows: Sequence[int]) -> dict[int, Product]:
    """The visible products whose picture has one of the rows, by row. One query.

    They carry `told_apart`: whether somebody said of one that it is no duplicate of another.
    """
    found = _shown().filter(embedding_row__in=rows)
    return {product.embedding_row: product for product in found if product.embedding_row is not None}


_UNSHOWN = ("extra", "source", "image_name", "image_source", "image_error", "created_at", "updated_at")
"""What no list of products shows."""


@cache  # making it takes as long as a third of the query
def _shown() -> QuerySet[Product]:
    """Visible products with what lists show of them; never evaluated itself."""
    pairs = DistinctPair.objects.filter(Q(one=OuterRef("pk")) | Q(other=OuterRef("pk")))
    return Product.objects.visible().annotate(told_apart=Exists(pairs)).defer(*_UNSHOWN).order_by()


def by_key(keys: Sequence[int]) -> dict[int, Product]:
    """Products by their primary keys, visible or not. One query."""
    return Product.objects.defer("extra", "source").in_bulk(keys)


def columns() -> Columns:
    """The catalogue's columns as they are now. One small query."""
    return get_columns()


@dataclass(frozen=True, eq=False)
class Allowed:
    """Which products may answer: `places` (n,) of the catalogue's columns. `key` names the wish where it has a name."""

    columns: Columns
    places: NDArray[np.bool_]
    key: Hashable


def allowed(wishes: Mapping[str, Sequence[str]], words: str = "", among: QuerySet[Any] | None = None) -> Allowed:
    """Visible products that have one of the values given for each label, that a search for the words finds, and that
    are `among` some. One query, and one more for words and for `among` each."""
    columns = get_columns()
    found = columns.found(wishes, words)
    if among is None:
        return Allowed(columns, found.mask, ("allowed", _named(wishes), words))
    places = columns.places(np.fromiter(among.order_by().values_list("pk", flat=True), dtype=np.int64))
    there = np.zeros(len(columns), dtype=bool)
    there[places[places >= 0]] = True
    return Allowed(columns, found.mask & there, None)


def _named(wishes: Mapping[str, Sequence[str]]) -> Hashable:
    return tuple(sorted((label, tuple(sorted(set(values)))) for label, values in wishes.items()))


def related_values(label: str, values: Sequence[str]) -> tuple[str, ...]:
    """The values of visible products that share a word with one of these: "Navy Blue" and "Blue", "Casual Shoes" and
    "Sports Shoes". One query."""
    words = {word for value in values for word in value.casefold().split()}
    return tuple(value for value in values_of(label) if words & set(value.casefold().split()))


def other_values(label: str, values: Sequence[str]) -> tuple[str, ...]:
    """The values of visible products but these. One query."""
    return tuple(value for value in values_of(label) if value not in values)


def values_of(label: str) -> list[str]:
    """The values that visible products have, in order. One query."""
    columns = get_columns()
    return sorted(columns.kept(("values", label), lambda: columns.counts(label, columns.found({}))))


def visible_products() -> ProductQuerySet:
    """Visible products that have a picture, by row."""
    return Product.objects.visible().with_image().order_by("embedding_row")


def unreadable_ids() -> set[str]:
    """Ids of the products whose picture, or a later one, is known to be of no use."""
    return set(Product.objects.exclude(image_error="").values_list("product_id", flat=True))


def copies_of(rows: Mapping[str, Mapping[str, str]]) -> QuerySet[Product]:
    """Products that are still just as a file's rows (by product id) have them, and were not edited since."""
    candidates = Product.objects.filter(product_id__in=rows)
    same = [
        product.pk
        for product in candidates
        if product.source == rows[product.product_id]
        and all(getattr(product, name) == rows[product.product_id][column] for column, name in FIELD_OF.items())
    ]
    return Product.objects.filter(pk__in=same)


def remove(keys: Sequence[int], but: Set[str]) -> int:
    """Delete the products with these primary keys, except those with these product ids; how many went."""
    ids = Product.objects.filter(pk__in=keys).values_list("pk", "product_id")
    gone = Product.objects.filter(pk__in=[key for key, product_id in ids if product_id not in but])
    return gone.delete()[1].get(Product._meta.label, 0)


def any_besides(some: QuerySet[Product]) -> bool:
    """Whether the catalogue holds other products than these."""
    return Product.objects.exclude(pk__in=some).exists()


@dataclass(frozen=True)
class Picture:
    """The picture that a visible product shows; `key` is the product's primary key."""

    key: int
    product_id: str
    row: int
    sha256: str


def pictures_shown(most: int, *, shared: bool) -> list[Picture]:
    """The pictures of visible products, in their order; `shared`: only those that several products show. One query."""
    shown = Product.objects.visible().with_image()
    if shared:
        several = shown.order_by().values("image_sha256").annotate(count=Count("pk")).filter(count__gt=1)
        shown = shown.filter(image_sha256__in=several.values("image_sha256"))
    values = shown.order_by("pk").values_list("pk", "product_id", "embedding_row", "image_sha256")[:most]
    return [Picture(key, product_id, row or 0, sha256) for key, product_id, row, sha256 in values]


def told_apart(among: Sequence[int] | None = None) -> list[tuple[int, int]]:
    """Pairs of primary keys that somebody said are no duplicates: all, or those between some products. One query."""
    pairs = DistinctPair.objects.all()
    if among is not None:
        pairs = pairs.filter(one__in=among, other__in=among)
    return list(pairs.values_list("one", "other"))


def hide(some: Sequence[Product]) -> None:
    """Let visitors see these products no more."""
    keys = [product.pk for product in some]
    Product.objects.filter(pk__in=keys).update(hidden=True, updated_at=timezone.now())


def get_product(product_id: str) -> Product | None:
    return Product.objects.filter(product_id=product_id).first()


def relabel(product_id: str, label: str, former: str, value: str) -> Product | None:
    """Give a product another value of one of LABELS, and return it.

    None, and nothing is changed, where it no longer bears the former value or no product bears the new one.
    """
    if not Product.objects.filter(**{label: value}).exists():
        return None
    bearing = Product.objects.filter(product_id=product_id, **{label: former})
    return get_product(product_id) if bearing.update(**{label: value}, updated_at=timezone.now()) else None


def visible_by_id(product_ids: Sequence[str]) -> dict[str, Product]:
    """The visible products with these ids. One query."""
    return {product.product_id: product for product in Product.objects.visible().filter(product_id__in=product_ids)}


def find_by_picture_address(address: str, media_name: str | None) -> Product | None:
    """The visible product that the CSV gave this address, or that has the picture stored under this name."""
    visible = Product.objects.visible().with_image()
    found = visible.filter(image_url=address).first()
    if found is None and media_name:
        found = visible.filter(image=media_name).first()
    return found


# --- invented products, for trials -------------------------------------------------------------
_INVENTED = "invented-"


def is_invented(seed: int) -> bool:
    """Whether products were invented with this seed."""
    return Product.objects.filter(product_id=f"{_INVENTED}{seed}-0").exists()


def remove_invented() -> None:
    """All that were ever invented."""
    Product.objects.filter(product_id__startswith=_INVENTED)._raw_delete(Product.objects.db)


def real_rows(rows: Rows) -> Rows:
    """Those of the rows (n,) whose products were not invented."""
    invented = Product.objects.with_image().filter(product_id__startswith=_INVENTED)
    of_invented = np.fromiter(invented.values_list("embedding_row", flat=True).iterator(), dtype=np.int64)
    return rows[~np.isin(rows, of_invented)]


def titles_of(rows: Rows) -> list[str]:
    """The titles of the products with the rows (n,), "" where one is gone. One query."""
    known = dict(Product.objects.with_rows(rows.tolist()).values_list("embedding_row", "title"))
    return [known.get(row, "") for row in rows.tolist()]


def draw_rows(count: int) -> Rows:
    """So many rows that no picture has or will have."""
    with transaction.atomic():
        drawn = RowCounter.draw(count)
    return np.arange(drawn.start, drawn.stop, dtype=np.int64)


def add_invented(seed: int, first: int, rows: Rows, digests: Digests, labels: Mapping[str, Sequence[str]]) -> None:
    """Add products without picture files, with the titles and labels given, numbered from `first` on."""
    with transaction.atomic():
        Product.objects.bulk_create(
            [
                Product(
                    product_id=f"{_INVENTED}{seed}-{first + at}",
                    image_sha256=digests[at].tobytes().hex(),
                    embedding_row=row,
                    **{name: values[at] for name, values in labels.items()},
                )
                for at, row in enumerate(rows.tolist())
            ],
            batch_size=_SQL_BATCH,
        )
