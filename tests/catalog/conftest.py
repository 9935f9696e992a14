"""Products made by hand, with real pictures where a test needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache

from catalog import images
from catalog.models import Product
from tests.catalog.material import picture


@pytest.fixture(autouse=True)
def fresh_menu() -> None:
    """The menu is kept for a minute; no test sees another's."""
    cache.clear()


@pytest.fixture
def add(db: None) -> Callable[..., Product]:
    """Adds a product; `shown=True` gives it a picture."""

    def make(product_id: str, *, shown: bool = False, **fields: Any) -> Product:
        product = Product.objects.create(product_id=product_id, **{"title": f"Product {product_id}", **fields})
        if shown:
            stored = images.store(images.verify(picture((len(product_id) * 20, 80, 40))))
            images.accept([images.Acceptance(product.pk, stored, "test")])
            product.refresh_from_db()
        return product

    return make
