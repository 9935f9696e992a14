"""The API's document is true: schemathesis asks what it promises, and what it does not, and compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings

from catalog.models import ApiKey, Product
from similarity import serving
from similarity.building import build_index
from tests.similarity.conftest import give_picture, png, toy_model  # noqa: F401  (a fixture)

EXAMPLES = 12
CONFIG = {
    "seed": 20261122,
    "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none", "no-shrink": True},
    "checks": {
        # Whether there is such a product, a schema cannot know.
        "positive_data_acceptance": {"enabled": False},
    },
}


def stock() -> None:
    """The products that the document's examples name, as often as tests delete them."""
    colours = {"42419": (200, 0, 0), "34009": (200, 60, 60), "40143": (0, 0, 200)}
    for product_id, colour in colours.items():
        product, made = Product.objects.get_or_create(
            product_id=product_id, defaults={"title": "Navy dress", "colour": "Blue", "gender": "Women"}
        )
        if made:
            give_picture(product, png(colour))


api = schemathesis.openapi.from_wsgi(
    "/api/schema/?format=json", get_wsgi_application(), config=schemathesis.Config.from_dict(CONFIG)
)


@pytest.fixture
def one_transaction() -> Iterator[None]:
    """The server's end of a request closes connections, and with them the test's transaction; as Django's own client
    does, it is told not to."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def key(one_transaction: None, db: None, toy_model: None) -> str:  # noqa: F811
    """A key for everything, where there is something to ask for."""
    cache.clear()
    stock()
    build_index()
    serving.reset_index()
    key: str = ApiKey.objects.create_key(name="schemathesis", products=True, builds=True)[1]
    return key


@api.parametrize()
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_the_document_says_what_the_api_does(case: Any, key: str) -> None:
    stock()
    case.call_and_validate(headers={"Authorization": f"Api-Key {key}"})
