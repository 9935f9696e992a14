"""Searching with a picture, or with a part of one."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import MULTIPART_CONTENT
from PIL import Image

from catalog.fetching import REFUSAL
from catalog.models import Product
from similarity import queries
from similarity.building import build_index
from similarity.cropping import CropBox, CropError
from similarity.picture_page import PART_PX
from similarity.services import similar_to_image
from tests.problems import errors_of
from tests.similarity.conftest import AddProduct, png

RED, BLUE = (200, 0, 0), (0, 0, 200)
ADDRESS = "/search/picture/"
API = "/api/v1/search/image/"


def halves() -> bytes:
    """Red on the left, blue on the right."""
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


@pytest.mark.parametrize(
    ("crop", "decoded"), [("", (1050, 1400)), ("0.1,0.1,0.5,0.5", (2100, 2800)), ("0.4,0.4,0.2,0.2", (4200, 5600))]
)
def test_a_large_original_is_decoded_no_finer_than_its_part_needs(
    client: Client, shop: dict[str, Product], monkeypatch: pytest.MonkeyPatch, crop: str, decoded: tuple[int, int]
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4200, 5600), BLUE).save(buffer, "JPEG")
    path = Path(shop["blue"].image.path).with_suffix(".jpg")
    path.write_bytes(buffer.getvalue())
    name = str(shop["blue"].image.name).replace(".png", ".jpg")
    Product.objects.filter(pk=shop["blue"].pk).update(image=name, image_width=4200, image_height=5600)
    sizes: list[tuple[int, int]] = []

    def noted(image: Image.Image, *args: Any, **options: Any) -> Any:
        sizes.append(image.size)
        return similar_to_image(image, *args, **options)

    monkeypatch.setattr("similarity.picture_page.similar_to_image", noted)
    page = client.get(ADDRESS, {"product": "blue", "crop": crop}).content
    assert shown(page)[0] == "blue"
    assert sizes == [CropBox.parse(crop).of(Image.new("1", decoded)).size]
    assert min(sizes[0]) >= min(PART_PX, min(CropBox.parse(crop).of(Image.new("1", (4200, 5600))).size))
    assert b'width="4200" height="5600"' in page


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
    assert answer.status_code == 400
    assert "beyond the picture" in errors_of(answer)["crop"][0]


# --- by its address ----------------------------------------------------------------------------
HELD_ELSEWHERE = {
    "/red.png": png((190, 10, 10), (30, 30)),
    "/page": b"<!doctype html><title>Printer</title>",
    "/drawing": b"<svg/>",
    "/words": b"220 mail.example ESMTP",
    "/nothing": b"",
    "/cut.png": png(RED, (30, 30))[:-20],
}


@pytest.fixture
def elsewhere(settings: Any) -> Iterator[str]:
    """Another site, on this machine, with what is held there; the rules are opened to it."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = HELD_ELSEWHERE.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: Any) -> None: ...

    settings.FETCH = "private"
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_picture_is_fetched_from_its_address(client: Client, shop: dict[str, Product], elsewhere: str) -> None:
    answer = client.post(ADDRESS, {"url": f"{elsewhere}/red.png"})
    assert answer.status_code == 302
    assert shown(client.get(answer.headers["Location"]).content)[0] == "red"
    for content_type in (MULTIPART_CONTENT, "application/json"):
        found = client.post(API, {"url": f"{elsewhere}/red.png", "k": 1}, content_type)
        assert found.json()["matches"][0]["product_id"] == "red"


def test_an_address_that_leads_nowhere_is_refused_and_stays_in_the_form(
    client: Client, shop: dict[str, Product], elsewhere: str
) -> None:
    page = client.post(ADDRESS, {"url": f"{elsewhere}/none.png", "q": "shirt"})
    assert page.status_code == 400
    assert REFUSAL in page.content.decode()
    assert f'value="{elsewhere}/none.png"' in page.content.decode()
    assert 'value="shirt"' in page.content.decode()


@pytest.mark.parametrize("path", ["/page", "/drawing", "/words", "/nothing", "/cut.png", "/none", ":1/"])
def test_nobody_learns_what_lies_at_an_address(
    client: Client, shop: dict[str, Product], elsewhere: str, path: str
) -> None:
    """A closed port, a page and a damaged picture are one answer; a file that is sent still gets its own sentence."""
    url = f"http://127.0.0.1{path}" if path.startswith(":") else f"{elsewhere}{path}"
    page = client.post(ADDRESS, {"url": url})
    assert re.findall(r'role="alert">([^<]*)', page.content.decode()) == [REFUSAL]
    assert errors_of(client.post(API, {"url": url})) == {"url": [REFUSAL]}


def test_a_file_that_is_sent_gets_its_own_sentence(client: Client, shop: dict[str, Product]) -> None:
    answer = client.post(API, {"image": SimpleUploadedFile("a.png", HELD_ELSEWHERE["/page"], "image/png")})
    assert "web page" in errors_of(answer)["image"][0]


def test_an_address_of_our_own_network_is_refused_with_the_same_words(
    client: Client, shop: dict[str, Product], elsewhere: str, settings: Any
) -> None:
    settings.FETCH = "public"
    page = client.post(ADDRESS, {"url": f"{elsewhere}/red.png"})
    assert (page.status_code, REFUSAL in page.content.decode()) == (400, True)
    answer = client.post(API, {"url": f"{elsewhere}/red.png"})
    assert answer.status_code == 400
    assert REFUSAL in answer.content.decode()


def test_an_operator_may_have_no_addresses_fetched(client: Client, db: None, settings: Any, elsewhere: str) -> None:
    assert b'name="url"' in client.get(ADDRESS).content
    settings.FETCH = "off"
    assert b'name="url"' not in client.get(ADDRESS).content
    assert client.post(ADDRESS, {"url": f"{elsewhere}/red.png"}).status_code == 400


def test_the_api_takes_one_picture(client: Client, shop: dict[str, Product], elsewhere: str) -> None:
    both = {"url": f"{elsewhere}/red.png", "image": SimpleUploadedFile("a.png", png(RED))}
    for sent in ({}, both):
        assert "either image or url" in client.post(API, sent).content.decode()


# --- in words, too -----------------------------------------------------------------------------
def test_words_picture_and_filters_narrow_together(client: Client, shop: dict[str, Product]) -> None:
    Product.objects.filter(product_id__in=["blue", "red"]).update(title="Navy scarf")
    address = send(client, png(RED)).headers["Location"]
    assert set(shown(client.get(address, {"q": "navy"}).content)) == {"red", "blue"}
    assert shown(client.get(address, {"q": "sca", "gender": "Women"}).content)[0] == "blue"
    assert shown(client.get(address, {"q": "bicycle"}).content) == []
    found = client.post(API, {"image": SimpleUploadedFile("a.png", png(RED)), "q": "scarf"}).json()
    assert {match["product_id"] for match in found["matches"]} == {"red", "blue"}


def test_words_given_with_the_picture_are_kept(client: Client, shop: dict[str, Product]) -> None:
    answer = client.post(ADDRESS, {"image": SimpleUploadedFile("a.png", png(RED)), "q": "a & b"})
    assert answer.headers["Location"].endswith("?q=a+%26+b")


# --- not too often -----------------------------------------------------------------------------
def test_a_client_that_asks_too_often_has_to_wait(
    client: Client, shop: dict[str, Product], settings: Any, elsewhere: str
) -> None:
    cache.clear()
    settings.THROTTLES = {"picture": "3/min", "fetch": "1/min", "api": None}
    assert client.post(API, {"url": f"{elsewhere}/red.png"}).status_code == 200
    page = client.post(ADDRESS, {"url": f"{elsewhere}/red.png"})
    assert page.status_code == 429
    assert 0 < int(page.headers["Retry-After"]) <= 60
    assert "try again in" in page.content.decode()
    assert send(client, png(RED)).status_code == 302
    refused = client.post(API, {"image": SimpleUploadedFile("a.png", png(RED))})
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) <= 60
    another = client.post(API, {"image": SimpleUploadedFile("a.png", png(RED))}, REMOTE_ADDR="192.0.2.7")
    assert another.status_code == 200


def test_a_client_that_has_to_wait_costs_no_decoding(client: Client, shop: dict[str, Product], settings: Any) -> None:
    """Each picture is damaged meanwhile, so that whoever decoded it would answer 404."""
    kept = send(client, png(RED)).headers["Location"]
    token = kept.strip("/").split("/")[-1]
    cache.clear()
    settings.THROTTLES = {"picture": "2/min", "fetch": None, "api": None}
    assert client.get(ADDRESS, {"product": "blue"}).status_code == 200
    assert client.get(kept).status_code == 200
    path = queries.kept_path(token)
    assert path is not None
    for damaged in (Path(shop["blue"].image.path), path):
        damaged.write_bytes(b"no picture")
    for address in (f"{ADDRESS}?product=blue", kept):
        assert client.get(address).status_code == 429
        assert client.get(address, REMOTE_ADDR="192.0.2.7").status_code == 404


def test_the_whole_api_can_be_held_back(client: Client, shop: dict[str, Product], settings: Any) -> None:
    cache.clear()
    settings.THROTTLES = {"picture": None, "fetch": None, "api": "2/min"}
    asked = [client.get("/api/v1/products/").status_code for _ in range(3)]
    assert asked == [200, 200, 429]
