"""Creating, changing and deleting products over HTTP, with a key."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalog.api_writing import NewProductSerializer
from catalog.formulas import kept
from catalog.importing.csvfile import Record
from catalog.importing.rows import ParsedRow, map_columns, parse_row
from catalog.models import ApiKey, Product
from tests.catalog.material import COLUMNS, picture, row, write_csv
from tests.problems import errors_of, problem_of

Add = Callable[..., Product]
LIST = "/api/v1/products/"


class Writer:
    """A client with a key."""

    def __init__(self, key: str) -> None:
        self.client = Client(enforce_csrf_checks=True, headers={"authorization": f"Api-Key {key}"})

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """`headers` with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.generic(method, path, json.dumps(body), "application/json", headers=named)


def make_key(**options: Any) -> str:
    return ApiKey.objects.create_key(**{"name": "Warehouse", **options})[1]


@pytest.fixture
def writer(db: None) -> Writer:
    return Writer(make_key())


# --- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", LIST),
        ("PUT", f"{LIST}1/"),
        ("PATCH", f"{LIST}1/"),
        ("DELETE", f"{LIST}1/"),
        ("PUT", f"{LIST}1/image/"),
        ("DELETE", f"{LIST}1/image/"),
    ],
)
def test_nothing_is_written_without_a_key_that_allows_it(add: Add, method: str, path: str) -> None:
    add("1", shown=True)
    before = list(Product.objects.values())
    refused = {
        None: 401,
        "": 401,
        "nonsense": 401,
        "aaaaaaaa.bbbb": 401,
        "\0.x": 401,
        make_key()[:-1] + "!": 401,
        make_key(revoked=True): 403,
        make_key(expiry_date=timezone.now() - timedelta(seconds=1)): 403,
        make_key(products=False, builds=True): 403,
    }
    for key, status in refused.items():
        headers = {} if key is None else {"authorization": f"Api-Key {key}"}
        answer = Client().generic(method, path, '{"title": "x"}', "application/json", headers=headers)
        problem_of(answer, status)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert list(Product.objects.values()) == before


def test_a_staff_member_without_key_is_nobody_here(admin_client: Client) -> None:
    problem_of(admin_client.post(LIST, "{}", "application/json"), 401)


def test_reading_needs_no_key_and_opens_no_session(add: Add) -> None:
    add("1")
    for headers in ({}, {"authorization": "Basic abc"}):
        answer = Client(headers=headers).get(f"{LIST}1/")
        assert (answer.status_code, list(answer.cookies)) == (200, [])
    assert Client(headers={"authorization": "Api-Key nonsense"}).get(LIST).status_code == 200


def test_a_key_is_kept_as_a_hash_and_never_logged(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    key = make_key(name="Till")
    prefix, secret = key.split(".")
    with caplog.at_level(logging.DEBUG):
        Writer(key).send("POST", LIST, {"product_id": "1", "title": "One"})
        Writer(key + "x").send("POST", LIST, {"product_id": "1", "title": "One"})
        Writer(key).send("POST", LIST, {})
    assert f"API key Till ({prefix}): created 1" in caplog.text
    assert secret not in caplog.text
    assert secret not in str(list(ApiKey.objects.values()))


def test_the_admin_makes_a_key_shows_it_once_and_revokes_it(admin_client: Client) -> None:
    page = admin_client.post("/admin/catalog/apikey/add/", {"name": "Shop <app>", "products": "on"}, follow=True)
    made = ApiKey.objects.get()
    text = page.content.decode()
    key = next(word for word in text.split() if word.startswith(f"{made.prefix}.")).rstrip(".")
    assert "it is not shown again" in text
    assert Writer(key).send("POST", LIST, {"product_id": "1", "title": "One"}).status_code == 201
    page = admin_client.get(f"/admin/catalog/apikey/{made.pk}/change/")
    assert key not in page.content.decode()
    admin_client.post(f"/admin/catalog/apikey/{made.pk}/change/", {"name": "Shop", "products": "on", "revoked": "on"})
    problem_of(Writer(key).send("DELETE", f"{LIST}1/"), 403)
    assert key not in str(list(LogEntry.objects.values()))


# --- making ------------------------------------------------------------------------------------


def test_a_product_is_made_and_shown(writer: Writer, client: Client) -> None:
    given = {"product_id": "a/b c", "title": " Silk scarf ", "colour": "Red", "extra": {"Price": "9", "Old": ""}}
    answer = writer.send("POST", LIST, given)
    assert answer.status_code == 201
    assert answer.headers["Location"] == "http://testserver/api/v1/products/a/b%20c/"
    assert answer.headers["Cache-Control"] == "no-store"
    got = client.get(answer.headers["Location"])
    assert got.json() == answer.json()
    assert got.headers["ETag"] == answer.headers["ETag"]
    assert {name: got.json()[name] for name in ("title", "colour", "extra")} == {
        "title": "Silk scarf",
        "colour": "Red",
        "extra": {"Price": "9"},
    }
    assert client.get(got.json()["url"]).status_code == 200


def test_a_product_comes_with_its_picture_in_a_form(writer: Writer) -> None:
    image = SimpleUploadedFile("x.png", picture(), "image/png")
    form = {"product_id": "1", "title": "One", "extra": '{"Price": "9"}', "hidden": "false", "image": image}
    answer = writer.client.post(LIST, form)
    assert answer.status_code == 201
    product = Product.objects.get()
    assert (product.embedding_row, product.image_width, product.extra) == (1, 60, {"Price": "9"})
    assert answer.json()["image"] == f"http://testserver{product.image.url}"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"extra": "{"}, "extra"),
        ({"extra": "[1]"}, "extra"),
        ({"image": "x"}, "image"),
        ({"hidden": "maybe"}, "hidden"),
    ],
)
def test_a_form_that_makes_no_sense_makes_nothing(writer: Writer, form: dict[str, str], field: str) -> None:
    assert list(errors_of(writer.client.post(LIST, {"product_id": "1", "title": "One", **form}))) == [field]
    assert not Product.objects.exists()


def test_a_form_whose_picture_is_none_makes_nothing(writer: Writer) -> None:
    image = SimpleUploadedFile("x.png", b"<html>", "image/png")
    answer = writer.client.post(LIST, {"product_id": "1", "title": "One", "image": image})
    assert errors_of(answer) == {"image": ["This is a web page, not a picture."]}
    assert not Product.objects.exists()


def test_an_id_that_is_taken_is_409_and_nothing_changes(writer: Writer, add: Add) -> None:
    add("1", title="Former", hidden=True)
    problem = problem_of(writer.send("POST", LIST, {"product_id": "1", "title": "New"}), 409)
    assert problem["detail"] == "There is a product 1 already."
    assert Product.objects.get().title == "Former"


texts = st.text(st.sampled_from("ab/. \t\n\r\0\x1f\x7f\x9f\u2028é😀"), max_size=6) | st.text(max_size=3)


@settings(max_examples=300)
@given(product_id=texts, title=texts, address=texts, extra=texts)
@example("x" * 64, "x" * 300, "x" * 2000, "x" * 10_000)
@example("x" * 65, "x", "", "")
@example("x", "x" * 301, "", "")
@example("x", "x", "x" * 2001, "")
@example("x", "x", "", "x" * 10_001)
def test_a_product_is_taken_when_its_row_would_be(product_id: str, title: str, address: str, extra: str) -> None:
    """What an import would take is taken, with the same values, and what it would reject is refused."""
    values = dict.fromkeys(COLUMNS, "") | {"ProductId": product_id, "ProductTitle": title, "ImageURL": address}
    columns = map_columns("file.csv", [*values, "Note"], {})
    # An apostrophe before a formula is taken away from a file's values; over HTTP nobody puts one there.
    parsed = parse_row(Record(2, [kept(value.strip()) for value in (*values.values(), extra)]), columns)
    asked = NewProductSerializer(
        data={"product_id": product_id, "title": title, "image_url": address, "extra": {"Note": extra}}
    )
    assert asked.is_valid() == isinstance(parsed, ParsedRow), (parsed, asked.errors)
    if isinstance(parsed, ParsedRow):
        taken = asked.validated_data
        assert [taken["product_id"], taken["title"], taken["image_url"], taken["extra"].get("Note", "")] == [
            parsed.values[name] for name in ("ProductId", "ProductTitle", "ImageURL", "Note")
        ]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"title": 5}, "title"),
        ({"title": None}, "title"),
        ({"title": ""}, "title"),
        ({"colour": "x" * 101}, "colour"),
        ({"colour": ["Blue"]}, "colour"),
        ({"hidden": "yes"}, "hidden"),
        ({"hidden": 1}, "hidden"),
        ({"extra": []}, "extra"),
        ({"extra": {"Colour": "x"}}, "extra"),
        ({"extra": {"": "x"}}, "extra"),
        ({"extra": {"x" * 101: "x"}}, "extra"),
        ({"extra": {"a/b~c": 5}}, "extra/a~1b~0c"),
        ({"product_id": "2"}, "product_id"),
    ],
    ids=str,
)
def test_nonsense_is_refused_with_its_place(writer: Writer, add: Add, content: dict[str, Any], field: str) -> None:
    add("1")
    for method in ("PUT", "PATCH"):
        assert list(errors_of(writer.send(method, f"{LIST}1/", {"title": "One", **content}))) == [field]
    assert Product.objects.get().title == "Product 1"


@pytest.mark.parametrize("body", [[], "text", 5, None, True])
def test_a_body_that_is_no_object_is_refused(writer: Writer, add: Add, body: Any) -> None:
    add("1")
    for method, path in (("POST", LIST), ("PUT", f"{LIST}1/"), ("PATCH", f"{LIST}1/")):
        problem_of(writer.send(method, path, body), 400)


# --- changing ----------------------------------------------------------------------------------


def test_some_of_a_product_is_changed_and_the_rest_stays(writer: Writer, add: Add) -> None:
    add("1", title="Shirt", colour="Blue", extra={"Price": "9", "Size": "M"})
    answer = writer.send("PATCH", f"{LIST}1/", {"colour": "Red", "extra": {"Price": "8"}})
    assert answer.status_code == 200
    product = Product.objects.get()
    assert (product.title, product.colour, product.extra) == ("Shirt", "Red", {"Price": "8"})


def test_replacing_empties_what_is_left_out_and_may_be_done_twice(writer: Writer, add: Add) -> None:
    product = add("1", shown=True, colour="Blue", extra={"Price": "9"}, hidden=True)
    answers = [writer.send("PUT", f"{LIST}1/", {"title": "Shirt"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    product.refresh_from_db()
    assert (product.title, product.colour, product.extra, product.hidden) == ("Shirt", "", {}, False)
    assert product.image  # pictures have an address of their own


def test_what_was_got_can_be_sent_back(writer: Writer, add: Add, client: Client) -> None:
    add("1", shown=True, colour="Blue", extra={"Price": "9"})
    got = client.get(f"{LIST}1/").json()
    assert writer.send("PUT", f"{LIST}1/", got).json() == got


def test_replacing_what_is_not_there_makes_it(writer: Writer) -> None:
    answer = writer.send("PUT", f"{LIST}new/", {"title": "New"})
    assert (answer.status_code, answer.headers["Location"]) == (201, "http://testserver/api/v1/products/new/")
    problem_of(writer.send("PUT", f"{LIST}" + "x" * 65 + "/", {"title": "New"}), 400)
    problem_of(writer.send("PUT", f"{LIST}a/../b/", {"title": "New"}), 400)
    assert Product.objects.count() == 1


def test_a_writer_sees_and_changes_hidden_products(writer: Writer, add: Add, client: Client) -> None:
    add("1", hidden=True)
    problem_of(client.get(f"{LIST}1/"), 404)
    problem_of(Writer(make_key(products=False)).client.get(f"{LIST}1/"), 404)
    seen = writer.client.get(f"{LIST}1/")
    assert seen.json()["hidden"] is True
    assert seen.headers["Cache-Control"] == "private, no-cache"
    assert writer.send("PATCH", f"{LIST}1/", {"hidden": False}).status_code == 200
    assert client.get(f"{LIST}1/").status_code == 200


def test_deleting_is_for_good(writer: Writer, add: Add) -> None:
    add("1")
    answer = writer.send("DELETE", f"{LIST}1/")
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(writer.send("DELETE", f"{LIST}1/"), 404)
    problem_of(writer.send("PATCH", f"{LIST}1/", {}), 404)


def test_a_write_can_be_bound_to_what_was_seen(writer: Writer, add: Add, client: Client) -> None:
    add("1", colour="Blue")
    seen = client.get(f"{LIST}1/").headers["ETag"]
    first = writer.send("PATCH", f"{LIST}1/", {"colour": "Red"}, if_match=seen)
    assert first.status_code == 200
    for method in ("PATCH", "PUT", "DELETE"):
        problem_of(writer.send(method, f"{LIST}1/", {"title": "x"}, if_match=seen), 412)
    assert Product.objects.get().colour == "Red"
    assert writer.send("DELETE", f"{LIST}1/", if_match=first.headers["ETag"]).status_code == 204
    problem_of(writer.send("PUT", f"{LIST}1/", {"title": "x"}, if_match="*"), 412)
    assert writer.send("PUT", f"{LIST}1/", {"title": "x"}, if_none_match="*").status_code == 201
    problem_of(writer.send("PUT", f"{LIST}1/", {"title": "y"}, if_none_match="*"), 412)


# --- pictures ----------------------------------------------------------------------------------


def send_picture(writer: Writer, data: bytes, kind: str = "image/png", path: str = f"{LIST}1/image/") -> Any:
    return writer.client.put(path, data, kind)


def test_another_picture_draws_another_row_and_the_same_keeps_its_own(writer: Writer, add: Add) -> None:
    product = add("1", shown=True)
    rows = []
    for data in (picture((1, 2, 3)), picture((1, 2, 3)), picture((9, 9, 9))):
        answer = send_picture(writer, data)
        assert answer.status_code == 200
        product.refresh_from_db()
        assert answer.json()["image"] == f"http://testserver{product.image.url}"
        rows.append(product.embedding_row)
    assert rows == [2, 2, 3]


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"", "image/png", 400),
        (b"<html>", "image/png", 400),
        (picture()[:-20], "image/png", 400),
        (b"x" * (10 * 2**20 + 1), "image/jpeg", 413),
        (picture(), "text/plain", 415),
        (picture(), "application/json", 415),
    ],
    ids=["empty", "page", "cut off", "large", "text", "json"],
)
def test_what_is_no_picture_is_refused_and_the_former_stays(
    writer: Writer, add: Add, data: bytes, kind: str, status: int
) -> None:
    product = add("1", shown=True)
    problem_of(send_picture(writer, data, kind), status)
    assert Product.objects.get().image_sha256 == product.image_sha256


def test_a_picture_needs_a_product(writer: Writer) -> None:
    problem_of(send_picture(writer, picture()), 404)
    problem_of(writer.send("DELETE", f"{LIST}1/image/"), 404)


# --- and imports -------------------------------------------------------------------------------


def imported(folder: Path, *rows: dict[str, str]) -> None:
    path = write_csv(folder / "file.csv", rows)
    call_command("import_fashion", str(path), images=folder, json=True)


def test_imports_leave_alone_what_was_written(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture((9, 0, 0)))
    imported(tmp_path, row("1", Colour="Blue"))
    writer.send("PATCH", f"{LIST}1/", {"colour": "Navy", "hidden": True})
    send_picture(writer, picture((0, 9, 0)))
    sha256 = Product.objects.get().image_sha256
    imported(tmp_path, row("1", Colour="Blue", ProductTitle="Changed in the file"))
    product = Product.objects.get()
    assert (product.colour, product.hidden, product.title) == ("Navy", True, "Changed in the file")
    assert product.image_sha256 == sha256


def test_a_picture_taken_away_stays_away_until_the_file_names_another(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture((9, 0, 0)))
    (tmp_path / "2.png").write_bytes(picture((0, 9, 0)))
    imported(tmp_path, row("1"))
    assert Product.objects.get().image
    answer = writer.send("DELETE", f"{LIST}1/image/")
    assert (answer.status_code, answer.json()["image"], answer.json()["image_width"]) == (200, None, 0)
    imported(tmp_path, row("1"))
    product = Product.objects.get()
    assert (product.image.name, product.embedding_row) == ("", None)
    imported(tmp_path, row("1", Image="2.png"))
    assert Product.objects.get().embedding_row is not None
