"""`export_index`: the index for people who come from the plain recipe, or go on in a notebook."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catalog.files import fsync, replace_file
from similarity import products
from similarity.builds import BuildError
from similarity.indexes import VectorIndexError, get_engine
from similarity.services import SimilarityUnavailable
from similarity.serving import get_index
from similarity.vectors import digest_matrix

PLAIN_ENGINE = "similarity.indexes.faiss.FaissIndex"


@dataclass(frozen=True)
class ExportReport:
    folder: Path
    products: int
    dimension: int


def export_index(folder: Path) -> ExportReport:
    """Write `vector.index`, `image_ids.json` and `product_ids.json`, in one order, into the folder.

    `vector.index` is a FAISS IndexFlatIP over the looks of the visible products under the default mix, scaled to
    unit length, so that the inner product of two of them is the score that Vitrine shows. `image_ids.json` has
    each product's ImageURL, or where its picture lies on the site, as `/get_similar` takes it.
    """
    try:
        live = get_index()
    except BuildError as error:
        raise SimilarityUnavailable(str(error)) from error
    rows, digests, images, ids = [], [], [], []
    for product in products.visible_products().iterator(chunk_size=2000):
        if product.embedding_row is not None:
            rows.append(product.embedding_row)
            digests.append(product.image_sha256)
            images.append(product.image_url or product.image.url)
            ids.append(product.product_id)
    looks, there = live.looks_of(np.array(rows, dtype=np.int64), digest_matrix(digests))
    images, ids = ([each for each, known in zip(some, there, strict=True) if known] for some in (images, ids))
    dimension = live.build.layout.dimension
    scale = np.sqrt(np.float32(sum(live.build.layout.default_mix.values())))
    matrix = looks[there] / scale
    engine = get_engine(PLAIN_ENGINE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as aside:
            engine.build(matrix).save(Path(aside))
            written = Path(aside) / engine.file_name
            fsync(written)
            written.replace(folder / "vector.index")
        replace_file(folder / "image_ids.json", json.dumps(images, indent=0).encode())
        replace_file(folder / "product_ids.json", json.dumps(ids, indent=0).encode())
    except OSError as error:
        raise VectorIndexError(f"The index cannot be written to {folder}: {error}") from error
    return ExportReport(folder, len(ids), dimension)
