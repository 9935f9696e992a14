"""`manage.py demo`: everything up to the server, which tests/test_end_to_end.py starts."""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.management.commands import demo
from similarity.serving import get_index
from tests.conftest import DEMO_CATALOGUE
from tests.similarity.conftest import png


@pytest.fixture
def small_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first four products of the demo, so that the test is quick."""
    folder = tmp_path / "demo"
    (folder / "images").mkdir(parents=True)
    lines = (DEMO_CATALOGUE / "fashion.csv").read_text().splitlines()[:5]
    (folder / "fashion.csv").write_text("\n".join(lines) + "\n")
    for row in csv.DictReader(lines):
        (folder / "images" / row["Image"]).write_bytes((DEMO_CATALOGUE / "images" / row["Image"]).read_bytes())
    monkeypatch.setattr(demo, "DEMO_CATALOGUE", folder)
    return folder


@pytest.fixture
def own_catalogue(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    header = "ProductId,Gender,Category,SubCategory,ProductType,Colour,Usage,ProductTitle,Image,ImageURL"
    (tmp_path / "own" / "a.png").write_bytes(png((200, 10, 10), (64, 64)))
    (tmp_path / "own" / "shop.csv").write_text(f"{header}\nX1,,,,,,,My own shirt,a.png,\nV0001,,,,,,,Mine too,,\n")
    return tmp_path / "own"


def prepare(**options: object) -> str:
    out = io.StringIO()
    call_command("demo", "--no-serve", stdout=out, **options)
    return out.getvalue()


def test_it_prepares_the_demo_and_prints_the_password_once(small_demo: Path, db: None) -> None:
    printed = prepare()
    assert Product.objects.count() == get_index().count == 4
    password = printed.split("password: ")[1].split()[0]
    assert get_user_model().objects.get(username="admin").check_password(password)
    again = prepare()
    assert "password" not in again
    assert "Nothing has changed" in again


def test_your_own_catalogue_takes_the_demos_place(small_demo: Path, own_catalogue: Path, db: None) -> None:
    prepare()
    prepare(csv=own_catalogue / "shop.csv", images=own_catalogue)
    assert sorted(Product.objects.values_list("product_id", flat=True)) == ["V0001", "X1"]
    assert "products of your own" in prepare()
    assert Product.objects.count() == 2


def test_a_catalogue_made_from_the_demos_file_stays_whole(small_demo: Path, tmp_path: Path, db: None) -> None:
    for _ in range(2):
        prepare(csv=small_demo / "fashion.csv", images=small_demo / "images")
        assert Product.objects.count() == 4
    lines = (small_demo / "fashion.csv").read_text().splitlines()
    (tmp_path / "mine.csv").write_text("\n".join([f"{lines[0]},Price", *(f"{line},5" for line in lines[1:3])]) + "\n")
    prepare(csv=tmp_path / "mine.csv", images=small_demo / "images")
    assert sorted(Product.objects.values_list("product_id", flat=True)) == ["V0001", "V0002"]


def test_a_product_of_the_demo_that_was_edited_by_hand_stays(small_demo: Path, own_catalogue: Path, db: None) -> None:
    prepare()
    Product.objects.filter(product_id="V0003").update(colour="Sand")
    prepare(csv=own_catalogue / "shop.csv", images=own_catalogue)
    assert sorted(Product.objects.values_list("product_id", flat=True)) == ["V0001", "V0003", "X1"]


def test_images_without_a_catalogue_are_refused(small_demo: Path, db: None) -> None:
    with pytest.raises(CommandError, match="CSV="):
        prepare(images=small_demo / "images")


def test_a_busy_port_is_said_in_a_sentence(db: None) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=rf"Port {port} of 127.0.0.1 cannot be used .*PORT={port + 1}"):
            call_command("demo", f"--port={port}")
