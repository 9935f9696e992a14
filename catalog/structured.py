"""A product as search engines read it: JSON-LD in the words of https://schema.org/Product."""

from __future__ import annotations

import json

from django.utils.safestring import SafeString, mark_safe

from catalog.models import Product

_ESCAPES = {ord(character): f"\\u{ord(character):04X}" for character in "<>&"}
"""So that nothing in a title ends the script element, as in Django's `json_script`."""


def product_json(product: Product, url: str, picture_url: str) -> SafeString:
    """The content of a `<script type="application/ld+json">`. `url`, `picture_url`: absolute; the latter may be empty.

    There is no offer: the catalogue's file has no price that could be told from other columns.
    """
    known = {
        "@context": "https://schema.org",
        "@type": "Product",
        "name": product.title,
        "sku": product.product_id,
        "url": url,
        "image": picture_url,
        "category": " > ".join(filter(None, (product.category, product.sub_category, product.product_type))),
        "color": product.colour,
        "audience": {"@type": "PeopleAudience", "suggestedGender": product.gender} if product.gender else "",
    }
    text = json.dumps({name: value for name, value in known.items() if value}, ensure_ascii=False)
    return mark_safe(text.translate(_ESCAPES))  # noqa: S308 - escaped just now
