"""How a product's id stands in an address: `<product_id:product_id>`, once this is imported."""

from __future__ import annotations

from django.urls import register_converter
from django.urls.converters import PathConverter


class ProductIdConverter(PathConverter):
    """Everything a product's id may contain, slashes included.

    Wider than Django's `path`, which refuses a line break: one product with such an id would break every page
    that links to it. NUL stays out, because PostgreSQL refuses to look it up.
    """

    regex = r"[^\x00]+"


register_converter(ProductIdConverter, "product_id")
