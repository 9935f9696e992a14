"""The ten columns of a catalogue's file, and where a product keeps each."""

from __future__ import annotations

FIELD_OF = {
    "ProductId": "product_id",
    "Gender": "gender",
    "Category": "category",
    "SubCategory": "sub_category",
    "ProductType": "product_type",
    "Colour": "colour",
    "Usage": "usage",
    "ProductTitle": "title",
    "Image": "image_name",
    "ImageURL": "image_url",
}
"""Column → field of Product, in the order in which files are written."""

ATTRIBUTES = ("gender", "category", "sub_category", "product_type", "colour", "usage")
"""The fields of Product that say what a product is: facets of the site, labels of similarity."""

NEEDED = frozenset({"ProductId", "ProductTitle"})
"""Columns without which a row is no product; every other may be declared absent."""
