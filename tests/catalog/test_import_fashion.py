"""`import_fashion`: a file and its pictures become products, and coming again changes nothing."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from catalog import images
from catalog.importing import service
from catalog.importing.service import ImportOptions, import_catalogue
from catalog.models import Product
from tests.catalog.material import COLUMNS, picture, row, write_csv
from tests.processes import environment, run_python

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of the products 1, 2 and 3, each of another colour."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"{number}.png").write_bytes(picture((80 * number, 0, 0)))
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "shop.csv", [row("1"), row("2"), row("3")])


def run(path: Path, *arguments: Any) -> dict[str, Any]:
    """The command's JSON, less what changes from run to run."""
    out = io.StringIO()
    call_command("import_fashion", str(path), *map(str, arguments), "--json", stdout=out, stderr=io.StringIO())
    result: dict[str, Any] = json.loads(out.getvalue())
    assert result.pop("seconds") >= 0
    return result


def said(path: Path, *arguments: Any) -> str:
    out = io.StringIO()
    call_command("import_fashion", str(path), *map(str, arguments), stdout=out)
    return out.getvalue()


def counts(result: dict[str, Any], *names: str) -> tuple[int, ...]:
    return tuple(result[name] for name in names or ("created", "updated", "unchanged", "rejected"))


def test_it_works(shop: Path, folder: Path) -> None:
    assert run(shop, "--images", folder) == {
        "rows": 3,
        "created": 3,
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
        "images_ok": 3,
        "images_failed": 0,
        "images_reused": 0,
        "images_to_take": 0,
        "missing": 0,
        "dry_run": False,
    }
    product = Product.objects.get(product_id="2")
    assert (product.title, product.colour, product.product_type) == ("A shirt", "Blue", "Shirts")
    assert (product.image_width, product.image_height) == (60, 80)
    assert images.are_stored(str(product.image.name), str(product.thumbnail.name))
    assert set(Product.objects.values_list("embedding_row", flat=True)) == {1, 2, 3}


def test_the_same_file_again_changes_nothing_and_reads_no_picture(
    shop: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shop, "--images", folder)
    before = list(Product.objects.order_by("pk").values())

    def never(data: bytes) -> images.VerifiedImage:
        raise AssertionError("a picture was decoded again")

    monkeypatch.setattr(images, "verify", never)
    result = run(shop, "--images", folder)
    assert counts(result) == (0, 0, 3, 0)
    assert counts(result, "images_ok", "images_reused") == (3, 3)
    assert list(Product.objects.order_by("pk").values()) == before


def test_texts_survive_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    write_csv(path, [row("0042", 'A "shirt",\ntwo lines', Colour="NA", Usage="null")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    run(path)
    product = Product.objects.get()
    assert (product.product_id, product.colour, product.usage) == ("0042", "NA", "null")
    assert product.title == 'A "shirt",\ntwo lines'


def test_bad_rows_are_rejected_with_their_lines_and_the_others_imported(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "shop.csv",
        [row("1", "two\nlines"), row(""), row("1"), row("2", " "), row("3", "x" * 301), row("4")],
    )
    report = tmp_path / "rejects.csv"
    text = said(path, "--report", report)
    assert "6 rows: 2 created, 0 updated, 0 unchanged, 4 rejected." in text
    assert "line 4: ProductId is empty." in text
    assert "line 5: ProductId 1 stands in line 2 already." in text
    assert "line 7: ProductTitle has 301 characters; 300 are allowed." in text
    with report.open(encoding="utf-8", newline="") as file:
        rejects = list(csv.DictReader(file))
    assert [(reject["line"], reject["product_id"]) for reject in rejects] == [
        ("4", ""),
        ("5", "1"),
        ("6", "2"),
        ("7", "3"),
    ]
    assert rejects[2]["reason"] == "ProductTitle is empty."
    assert rejects[2]["Colour"] == "Blue"
    assert set(Product.objects.values_list("product_id", flat=True)) == {"1", "4"}


def test_an_id_counts_where_its_row_is_good(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", [row("1", ""), row("1", "good"), row("1", "late")])
    assert "line 4: ProductId 1 stands in line 3 already." in said(path)
    assert Product.objects.get().title == "good"


def test_strict_imports_all_or_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", [row("1"), row("2", "")])
    report = tmp_path / "rejects.csv"
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 2 rows cannot be imported, so --strict imported nothing"):
        call_command("import_fashion", str(path), "--strict", "--report", str(report), stdout=out)
    assert "line 3: ProductTitle is empty." in out.getvalue()
    assert report.read_text().count("\n") == 2
    assert not Product.objects.exists()
    write_csv(path, [row("1")])
    assert run(path, "--strict")["created"] == 1


def test_a_broken_file_writes_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", [row(str(number)) for number in range(50)])
    path.write_bytes(path.read_bytes() + b'51,"Women\n')
    report = tmp_path / "rejects.csv"
    with pytest.raises(CommandError, match=r"shop.csv, line 52, column Gender: a quote opens here"):
        run(path, "--report", report)
    assert not Product.objects.exists()
    assert not report.exists()


def test_a_dry_run_says_what_would_happen_and_writes_nothing(tmp_path: Path, shop: Path, folder: Path) -> None:
    run(shop)
    before = list(Product.objects.order_by("pk").values())
    write_csv(shop, [row("1"), row("2", "Another title"), row("9"), row("")])
    result = run(shop, "--dry-run", "--missing", "delete", "--images", folder)
    assert counts(result) == (1, 1, 1, 1)
    assert counts(result, "missing", "images_to_take", "images_failed") == (1, 2, 1)
    assert list(Product.objects.order_by("pk").values()) == before
    assert not (tmp_path / "var" / "media").exists()


# --- what people changed by hand ----------------------------------------------------------------
def test_a_hand_edit_is_overwritten_only_by_a_value_that_changed_in_the_file(shop: Path) -> None:
    run(shop)
    Product.objects.filter(product_id="1").update(title="By hand", colour="Teal")
    assert counts(run(shop)) == (0, 0, 3, 0)
    write_csv(shop, [row("1", Colour="Green"), row("2"), row("3")])
    assert counts(run(shop)) == (0, 1, 2, 0)
    product = Product.objects.get(product_id="1")
    assert (product.title, product.colour) == ("By hand", "Green")


def test_a_file_that_agrees_with_the_hand_changes_nothing_people_see(shop: Path) -> None:
    run(shop)
    Product.objects.filter(product_id="1").update(title="By hand")
    write_csv(shop, [row("1", "By hand"), row("2"), row("3")])
    assert counts(run(shop)) == (0, 0, 3, 0)
    write_csv(shop, [row("1", "From the file"), row("2"), row("3")])
    run(shop)
    assert Product.objects.get(product_id="1").title == "From the file"


def test_an_uploaded_picture_stays_until_the_file_names_another(shop: Path, folder: Path) -> None:
    run(shop, "--images", folder)
    product = Product.objects.get(product_id="1")
    uploaded = images.store(images.verify(picture((1, 200, 1))))
    images.accept([images.Acceptance(product.pk, uploaded, "upload:x")])
    assert counts(run(shop, "--images", folder), "unchanged", "images_reused") == (3, 3)
    product.refresh_from_db()
    assert product.image_sha256 == uploaded.sha256
    write_csv(shop, [row("1", Image="2.png"), row("2"), row("3")])
    assert counts(run(shop, "--images", folder)) == (0, 1, 2, 0)
    product.refresh_from_db()
    assert product.image_sha256 == Product.objects.get(product_id="2").image_sha256


# --- columns ------------------------------------------------------------------------------------
def test_unknown_columns_are_kept_with_the_product(tmp_path: Path) -> None:
    columns = [*COLUMNS, "Price", "Shop"]
    path = write_csv(tmp_path / "shop.csv", [row("1", Price="9.90", Shop="")], columns)
    run(path)
    assert Product.objects.get().extra == {"Price": "9.90"}
    write_csv(path, [row("1", Price="8.50", Shop="x")], columns)
    assert run(path)["updated"] == 1
    assert Product.objects.get().extra == {"Price": "8.50", "Shop": "x"}
    write_csv(path, [row("1")])
    assert run(path)["updated"] == 1
    assert Product.objects.get().extra == {}


def test_columns_are_renamed_on_request(tmp_path: Path) -> None:
    columns = ["type" if name == "ProductType" else name for name in COLUMNS if name != "Usage"]
    values = row("1", type="Socks")
    del values["ProductType"], values["Usage"]
    path = write_csv(tmp_path / "shop.csv", [values], columns)
    with pytest.raises(CommandError, match="there is no column ProductType; say which one it is with --map"):
        run(path)
    run(path, "--map", "ProductType=type", "--map", "Usage=")
    product = Product.objects.get()
    assert (product.product_type, product.usage, product.extra) == ("Socks", "", {})


# --- what the file no longer has ----------------------------------------------------------------
def test_missing_products_are_kept_hidden_or_deleted(shop: Path) -> None:
    run(shop)
    write_csv(shop, [row("1"), row("2", "")])  # 2 is rejected, which is not missing
    assert run(shop)["missing"] == 0
    assert Product.objects.visible().count() == 3
    assert run(shop, "--missing", "hide")["missing"] == 1
    assert set(Product.objects.visible().values_list("product_id", flat=True)) == {"1", "2"}
    assert run(shop, "--missing", "hide")["missing"] == 0
    write_csv(shop, [row("1"), row("3")])
    assert counts(run(shop)) == (0, 1, 1, 0)
    assert Product.objects.get(product_id="3").missing_since is None
    assert run(shop, "--missing", "delete")["missing"] == 1
    assert set(Product.objects.values_list("product_id", flat=True)) == {"1", "3"}


def test_a_part_of_the_file_does_not_say_what_is_missing(shop: Path) -> None:
    assert run(shop, "--limit", 2)["rows"] == 2
    assert Product.objects.count() == 2
    with pytest.raises(CommandError, match="--limit reads a part"):
        run(shop, "--limit", 2, "--missing", "hide")


def test_a_file_without_a_good_row_never_empties_the_catalogue(shop: Path) -> None:
    run(shop)
    write_csv(shop, [row("", "x")])
    with pytest.raises(CommandError, match="would delete the whole catalogue"):
        run(shop, "--missing", "delete")
    assert Product.objects.count() == 3


# --- pictures -----------------------------------------------------------------------------------
def test_a_picture_may_be_named_after_its_product(tmp_path: Path, folder: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", [row("1", Image=""), row("2", Image="elsewhere.jpg")])
    assert run(path, "--images", folder)["images_ok"] == 2


def test_a_failed_picture_leaves_the_product_and_the_reason(tmp_path: Path, folder: Path) -> None:
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "3.png").write_bytes(picture()[:-20])
    path = write_csv(tmp_path / "shop.csv", [row(name) for name in "1234"] + [row("5", Image="")])
    result = run(path, "--images", folder)
    assert counts(result, "created", "images_ok", "images_failed") == (5, 1, 3)
    errors = dict(Product.objects.values_list("product_id", "image_error"))
    assert errors["1"] == errors["5"] == ""
    assert "not a JPEG, PNG, WebP or GIF" in errors["2"]
    assert "incomplete" in errors["3"]
    assert errors["4"] == "The folder of images has no 4.png."
    assert "picture of 4: The folder of images has no 4.png." in said(path, "--images", folder)


def test_a_better_file_replaces_the_picture_and_a_worse_one_does_not(shop: Path, folder: Path) -> None:
    run(shop, "--images", folder)
    before = Product.objects.get(product_id="1")
    (folder / "1.png").write_bytes(b"broken now")
    assert counts(run(shop, "--images", folder), "unchanged", "images_failed") == (3, 1)
    kept = Product.objects.get(product_id="1")
    assert (kept.image_sha256, kept.embedding_row) == (before.image_sha256, before.embedding_row)
    assert kept.image_error
    (folder / "1.png").write_bytes(picture((9, 9, 9)))
    assert counts(run(shop, "--images", folder), "updated", "unchanged", "images_failed") == (1, 2, 0)
    changed = Product.objects.get(product_id="1")
    assert changed.image_error == ""
    assert (changed.embedding_row or 0) > (before.embedding_row or 0)


def test_a_stored_picture_that_is_gone_is_taken_again(shop: Path, folder: Path, data_dir: Path) -> None:
    run(shop, "--images", folder)
    product = Product.objects.get(product_id="1")
    stored = data_dir / "media" / str(product.thumbnail.name)
    stored.unlink()
    assert counts(run(shop, "--images", folder), "unchanged", "images_reused") == (3, 2)
    assert stored.is_file()


@pytest.mark.parametrize(
    "name", ["../secret.png", "link.png", "sub/../../secret.png", "/etc/hostname", "linked/secret.png"]
)
def test_nothing_outside_the_folder_is_read(tmp_path: Path, folder: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    (folder / "sub").mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path)
    path = write_csv(tmp_path / "shop.csv", [row("x", Image=name)])
    assert counts(run(path, "--images", folder), "images_ok", "images_failed") == (0, 1)


def test_folders_and_links_inside_the_folder_are_fine(tmp_path: Path, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "1.png").rename(folder / "sub" / "deep.png")
    (folder / "link.png").symlink_to(folder / "2.png")
    path = write_csv(tmp_path / "shop.csv", [row("x", Image="sub/deep.png"), row("y", Image="link.png")])
    assert run(path, "--images", folder)["images_ok"] == 2


# --- downloads ----------------------------------------------------------------------------------
@pytest.fixture
def server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for) of a server that serves the folder."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            asked.append(self.path)

        def log_error(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # with 5, the sixth to come at once waits a second for its connection

    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, folder: Path, server: tuple[str, list[str]]) -> None:
    address, asked = server
    (folder / "page.html").write_text("<!doctype html><html><body>Sorry, this is gone</body></html>")
    rows = [row(name, ImageURL=f"{address}/{name}.png") for name in "129"]
    rows.append(row("4", ImageURL=f"{address}/page.html"))
    path = write_csv(tmp_path / "shop.csv", rows)
    assert counts(run(path, "--download"), "images_ok", "images_failed") == (2, 2)
    errors = dict(Product.objects.values_list("product_id", "image_error"))
    assert (errors["9"], errors["4"]) == ("HTTP 404.", "This is a web page, not a picture.")
    assert not Product.objects.get(product_id="4").image
    originals = [file for file in Path(settings.MEDIA_ROOT).glob("images/**/*") if file.is_file()]
    assert len(originals) == 2  # and nothing of the page is kept
    asked.clear()
    # An interrupted run goes on like this one: what is in place is left, the rest is tried again.
    assert counts(run(path, "--download"), "unchanged", "images_ok", "images_reused") == (4, 2, 2)
    assert sorted(asked) == ["/9.png", "/page.html"]
    asked.clear()
    assert counts(run(path, "--download", "--refetch"), "unchanged", "images_ok") == (4, 2)
    assert len(asked) == 4


def test_an_interrupted_download_goes_on_where_it_was(
    tmp_path: Path, folder: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    names = [f"p{number}" for number in range(40)]
    for number, name in enumerate(names):
        (folder / f"{name}.png").write_bytes(picture((number, 9, 9)))
    path = write_csv(tmp_path / "shop.csv", [row(name, ImageURL=f"{address}/{name}.png") for name in names])

    def interrupt(progress: service.Progress) -> None:
        if progress.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_catalogue(ImportOptions(path, download=True, workers=2), interrupt)
    in_place = set(Product.objects.with_image().values_list("product_id", flat=True))
    assert len(in_place) == 20
    asked.clear()
    assert counts(run(path, "--download"), "images_ok", "images_reused") == (40, 20)
    # What was on its way at the interruption may be asked for again; what has arrived may not.
    assert not {f"/{name}.png" for name in in_place} & set(asked)


def test_the_folder_comes_before_the_address(tmp_path: Path, folder: Path, server: tuple[str, list[str]]) -> None:
    address, asked = server
    own = tmp_path / "own"
    own.mkdir()
    (own / "1.png").write_bytes(picture((0, 0, 255)))
    (own / "2.png").write_bytes(b"broken")
    path = write_csv(tmp_path / "shop.csv", [row(name, ImageURL=f"{address}/{name}.png") for name in "123"])
    assert run(path, "--images", own, "--download")["images_ok"] == 3
    assert sorted(asked) == ["/2.png", "/3.png"]
    sources = dict(Product.objects.values_list("product_id", "image_source"))
    assert sources["1"].startswith("file:1.png:")
    assert sources["2"] == f"url:{address}/2.png"


# --- how it behaves -----------------------------------------------------------------------------
def test_what_was_accepted_before_an_interruption_stays(
    shop: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_ACCEPT_EVERY", 1)

    def interrupt(progress: service.Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_catalogue(ImportOptions(shop, images=folder), interrupt)
    assert Product.objects.with_image().count() == 2
    assert counts(run(shop, "--images", folder), "images_ok", "images_reused") == (3, 2)


def test_a_database_that_is_not_ready_is_said(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", [row("1")])
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE catalog_product RENAME TO away")
    with pytest.raises(CommandError, match=r"manage\.py migrate"):
        run(path)


def test_a_batch_costs_a_handful_of_queries(tmp_path: Path, django_assert_max_num_queries: Any) -> None:
    path = write_csv(tmp_path / "shop.csv", [row(str(number)) for number in range(500)])
    with django_assert_max_num_queries(23):
        import_catalogue(ImportOptions(path))
    with django_assert_max_num_queries(13):
        assert import_catalogue(ImportOptions(path)).unchanged == 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "nowhere"], "no such folder"),
        (["--report", "nowhere/rejects.csv"], "no folder for this file"),
        (["--refetch"], "--download"),
        (["--workers", "0"], "--workers"),
        (["--per-host", "0"], "--per-host"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_options_that_do_not_fit_are_refused(shop: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run(shop, *arguments)


def test_the_command_line_prints_one_object_and_exits_as_promised(tmp_path: Path) -> None:
    """One run as people run it, in a process of its own."""
    good = write_csv(tmp_path / "good.csv", [row("1"), row("")])
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"\xff\xfea\0")

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_python("manage.py", *arguments, env=environment(tmp_path / "own"), check=False)

    assert manage("migrate", "-v0").returncode == 0
    done = manage("import_fashion", str(good), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rejected"] == 1
    failed = manage("import_fashion", str(bad), "--json")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "UTF-16" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.real_data
def test_real_products_import_and_import_again(real_catalogue: Path) -> None:
    arguments = (real_catalogue / "fashion.csv", "--images", real_catalogue / "images", "--limit", 60)
    assert counts(run(*arguments), "created", "rejected", "images_ok") == (60, 0, 60)
    assert counts(run(*arguments), "unchanged", "images_reused") == (60, 60)


@pytest.mark.django_db
def test_the_report_may_not_take_the_catalogues_place(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", [row("1")])
    before = path.read_bytes()
    with pytest.raises(CommandError, match="names the catalogue itself"):
        call_command("import_fashion", str(path), "--report", str(path))
    assert path.read_bytes() == before
