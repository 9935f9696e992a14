"""What may be kept of the API's answers, and how it is asked whether it still holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from catalog.models import Product

Add = Callable[..., Product]
ASKED_EACH_TIME = ["/api/v1/products/", "/api/v1/products/1/"]
KEPT_A_MINUTE = ["/api/v1/suggest/?q=sh", "/api/v1/facets/"]


@pytest.mark.parametrize("path", [*ASKED_EACH_TIME, *KEPT_A_MINUTE])
def test_what_is_known_is_not_sent_again(client: Client, add: Add, path: str) -> None:
    add("1", title="Shirt", colour="Blue")
    first = client.get(path)
    again = client.get(path, headers={"if-none-match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("ETag", "Cache-Control", "Vary"):
        assert again.headers[name] == first.headers[name]
    Product.objects.update(title="Shirt of silk", colour="Red")
    assert client.get(path, headers={"if-none-match": first.headers["ETag"]}).status_code == 200


def test_for_how_long_nobody_has_to_ask(client: Client, add: Add) -> None:
    add("1", title="Shirt")
    for path in ASKED_EACH_TIME:
        assert client.get(path).headers["Cache-Control"] == "public, no-cache"
    for path in KEPT_A_MINUTE:
        assert client.get(path).headers["Cache-Control"] == "public, max-age=60"


def test_an_answer_says_what_it_depends_on(client: Client, add: Add, settings: object) -> None:
    add("1")
    assert "Accept-Language" in client.get("/api/v1/products/1/").headers["Vary"]
    assert "origin" in client.get("/api/v1/products/1/").headers["Vary"]
    assert not client.get("/api/v1/products/1/").cookies


def test_other_pages_may_see_what_they_need_of_an_answer(client: Client, add: Add, settings: object) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://blog.example"]  # type: ignore[attr-defined]
    add("1")
    answer = client.get("/api/v1/products/1/", headers={"origin": "https://blog.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://blog.example"
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
