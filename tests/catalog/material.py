"""What the tests of imports are made of: small files and small pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from catalog.columns import FIELD_OF

COLUMNS = list(FIELD_OF)


def row(product_id: str, title: str = "A shirt", **more: str) -> dict[str, str]:
    """A row of the catalogue with everything in it."""
    return {
        "ProductId": product_id,
        "Gender": "Women",
        "Category": "Apparel",
        "SubCategory": "Topwear",
        "ProductType": "Shirts",
        "Colour": "Blue",
        "Usage": "Casual",
        "ProductTitle": title,
        "Image": f"{product_id}.png",
        "ImageURL": "",
        **more,
    }


def write_csv(path: Path, rows: Iterable[dict[str, str]], columns: Sequence[str] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (60, 80), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()
