"""Searching with a picture, or with a part of one."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from catalog.models import Product
from similarity import queries
from similarity.building import build_index
from similarity.cropping import CropBox, CropError
from tests.problems import errors_of
from tests.similarity.conftest import AddProduct, png

RED, BLUE = (200, 0, 0), (0, 0, 200)
ADDRESS = "/search/picture/"


def halves() -> bytes:
    """Red on the left, blue on the right."""
    import io

    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def shown(page: bytes) -> list[str]:
    found = page.decode().split('id="found"')[-1]
    return re.findall(r'<a class="card" href="/products/([^/]+)/">', found)


@pytest.fixture
def shop(add_product: AddProduct) -> dict[str, Product]:
    products = {
        "red": add_product("red", RED, gender="Men"),
        "blue": add_product("blue", BLUE, gender="Women"),
        "grey": add_product("grey", (90, 90, 90), gender="Women"),
    }
    build_index()
    return products


def send(client: Client, data: bytes) -> Any:
    return client.post(ADDRESS, {"image": SimpleUploadedFile("a.png", data, "image/png")})


# --- the box -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "size"),
    [("", (40, 20)), ("0,0,1,1", (40, 20)), ("0.5,0,0.5,1", (20, 20)), ("0.25,0.5,0.1,0.05", (4, 1))],
)
def test_a_box_cuts_out_its_part(text: str, size: tuple[int, int]) -> None:
    assert CropBox.parse(text).of(Image.new("RGB", (40, 20))).size == size


@pytest.mark.parametrize(
    "text", ["0,0,1", "a,b,c,d", "0,0,nan,1", "0.6,0,0.6,1", "-0.1,0,0.5,0.5", "0,0,0.001,1", "0,0,inf,1"]
)
def test_a_box_that_makes_no_sense_is_refused_in_words(text: str) -> None:
    with pytest.raises(CropError, match=re.escape(text)):
        CropBox.parse(text)


def test_a_box_is_written_as_it_is_read() -> None:
    box = CropBox(0.125, 0.25, 0.5, 0.625)
    assert CropBox.parse(str(box)) == box


# --- the pages ---------------------------------------------------------------------------------
def test_a_picture_is_sent_once_and_its_page_can_be_opened_again(client: Client, shop: dict[str, Product]) -> None:
    answer = send(client, png((190, 10, 10), (30, 30)))
    assert answer.status_code == 302
    for _ in range(2):
        page = client.get(answer.headers["Location"])
        assert shown(page.content)[0] == "red"
    picture = client.get(answer.headers["Location"].rstrip("/") + ".webp")
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/webp")
    assert picture.headers["Cache-Control"].startswith("private")


def test_a_part_of_it_finds_something_else(client: Client, shop: dict[str, Product]) -> None:
    address = send(client, halves()).headers["Location"]
    assert shown(client.get(address, {"crop": "0,0,0.5,1"}).content)[0] == "red"
    assert shown(client.get(address, {"crop": "0.5,0,0.5,1"}).content)[0] == "blue"
    whole = shown(client.get(address).content)
    assert shown(client.get(address, {"crop": "nonsense"}).content) == whole


def test_filters_narrow_what_looks_like_it(client: Client, shop: dict[str, Product]) -> None:
    address = send(client, png(RED)).headers["Location"]
    page = client.get(address, {"gender": "Women"}).content
    assert set(shown(page)[:2]) == {"blue", "grey"}
    assert b"<option selected>Women</option>" in page


def test_a_part_of_a_products_picture_is_searched_with(client: Client, shop: dict[str, Product]) -> None:
    page = client.get(ADDRESS, {"product": "blue", "crop": "0,0,0.5,0.5"}).content
    assert shown(page)[0] == "blue"
    assert client.get(ADDRESS, {"product": "nowhere"}).status_code == 404
    Product.objects.filter(product_id="blue").update(hidden=True)
    assert client.get(ADDRESS, {"product": "blue"}).status_code == 404


@pytest.mark.parametrize(("data", "says"), [(b"", "Choose a picture|empty"), (b"<svg/>", "."), (b"GIF89a", ".")])
def test_what_is_no_picture_is_refused_in_words(client: Client, db: None, data: bytes, says: str) -> None:
    answer = send(client, data)
    assert answer.status_code == 400
    assert re.search(rf'role="alert">[^<]*({says})', answer.content.decode())
    assert client.post(ADDRESS).status_code == 400


def test_without_an_index_the_page_stays_whole(client: Client, add_product: AddProduct) -> None:
    add_product("red", RED)
    page = client.get(send(client, png(RED)).headers["Location"])
    assert page.status_code == 200
    assert "are being prepared" in page.content.decode()


# --- what is kept ------------------------------------------------------------------------------
def test_pictures_are_kept_for_an_hour_and_no_more_than_so_many(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MOST_KEPT", 3)
    first = queries.keep(Image.new("RGB", (2000, 100), RED))
    image = queries.kept_image(first)
    assert image is not None
    assert image.size == (queries.LONGEST_PX, 64)
    path = queries.kept_path(first)
    assert path is not None
    long_ago = time.time() - queries.KEPT_S - 1
    os.utime(path, (long_ago, long_ago))
    assert queries.kept_image(first) is None
    tokens = [queries.keep(Image.new("RGB", (8, 8), RED)) for _ in range(5)]
    assert not path.exists()
    assert len(list(path.parent.glob("*.webp"))) == 3
    assert queries.kept_image(tokens[-1]) is not None


@pytest.mark.parametrize("token", ["x" * 22, "..", "short", "a" * 23])
def test_a_token_that_nobody_was_given_finds_nothing(client: Client, db: None, token: str) -> None:
    assert queries.kept_path(token) is None
    assert client.get(f"{ADDRESS}{token}/").status_code == 404
    assert client.get(f"{ADDRESS}{token}.webp").status_code == 404


# --- the API -----------------------------------------------------------------------------------
def test_the_api_searches_with_a_part(client: Client, shop: dict[str, Product]) -> None:
    def best(**more: str) -> str:
        files = {"image": SimpleUploadedFile("a.png", halves(), "image/png"), **more}
        return str(client.post("/api/v1/search/image/", files).json()["matches"][0]["product_id"])

    assert best(crop="0,0,0.5,1") == "red"
    assert best(crop="0.5,0,0.5,1") == "blue"


def test_the_api_refuses_a_box_that_makes_no_sense(client: Client, shop: dict[str, Product]) -> None:
    files = {"image": SimpleUploadedFile("a.png", halves(), "image/png"), "crop": "0,0,2,2"}
    answer = client.post("/api/v1/search/image/", files)
    assert "beyond the picture" in errors_of(answer)["crop"][0]
