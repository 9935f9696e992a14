"""The catalogue's file goes in and out through the admin: seen first, done exactly so, and refused in a sentence."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client
from django.urls import reverse

from catalog.columnar import get_columns
from catalog.importing import pending
from catalog.importing.runs import imports_dir
from catalog.importing.service import ImportOptions, import_catalogue
from catalog.models import ImportRun, Product
from tests.catalog.material import COLUMNS, row, write_csv
from tests.processes import run_python

pytestmark = pytest.mark.django_db
LIST = "admin:catalog_product_changelist"
IMPORT = "admin:catalog_product_import"
CONFIRM = "admin:catalog_product_process_import"
EXPORT = "admin:catalog_product_export"
RUNS = "admin:catalog_importrun_changelist"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A catalogue of three products, and the file that it came from with one row changed, a new and a bad one."""
    path = write_csv(tmp_path / "shop.csv", [row("1"), row("2"), row("3")])
    import_catalogue(ImportOptions(path))
    ImportRun.objects.all().delete()
    rows = [row("1"), row("2", "A <b>hat</b>", Colour="Red", Price="9"), row("4", "Neu"), row("", "No id", Colour="=1")]
    return write_csv(path, rows, [*COLUMNS, "Price"])


def send(client: Client, content: Path | bytes, name: str = "shop.csv", **chosen: str) -> HttpResponse:
    data = content.read_bytes() if isinstance(content, Path) else content
    form = {"import_file": SimpleUploadedFile(name, data, "text/csv"), "missing": "keep", **chosen}
    answer: HttpResponse = client.post(reverse(IMPORT), form)  # type: ignore[assignment]
    return answer


def preview(client: Client, content: Path | bytes, **chosen: str) -> tuple[str, str]:
    """(the page, the token of its button or "")."""
    answer = send(client, content, **chosen)
    assert answer.status_code == 200
    page = answer.content.decode()
    found = re.search(r'name="token" value="(\w+)"', page)
    return page, found[1] if found and "Import exactly this" in page else ""


def confirm(client: Client, token: str) -> str:
    answer: Any = client.post(reverse(CONFIRM), {"token": token}, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition('id="content"')[2]))


def member(*codenames: str) -> Client:
    """Somebody of the staff who may do so much with products."""
    user = User.objects.create_user("member", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def exported(answer: Any) -> list[dict[str, str]]:
    assert isinstance(answer, StreamingHttpResponse)
    text = answer.getvalue().decode("utf-8-sig")
    return list(csv.DictReader(StringIO(text)))


# --- the preview --------------------------------------------------------------------------------
def test_it_works(admin_client: Client, shop: Path) -> None:
    page, token = preview(admin_client, shop)
    text = text_of(page)
    assert "4 rows. Nothing is written yet." in text
    assert "1 would be created 1 would change 1 unchanged 1 rejected" in text
    assert "5 – ProductId is empty." in text
    assert "<del>A shirt</del>" in page
    assert "<ins>A &lt;b&gt;hat&lt;/b&gt;</ins>" in page
    assert "<del>Blue</del></td><td><ins>Red</ins>" in page
    assert Product.objects.count() == 3
    assert not ImportRun.objects.exists()

    page = confirm(admin_client, token)
    assert "Imported shop.csv, 4 rows: 1 created, 1 changed, 1 unchanged, 1 rejected." in page
    product = Product.objects.get(product_id="2")
    assert (product.title, product.colour, product.extra) == ("A <b>hat</b>", "Red", {"Price": "9"})
    assert Product.objects.count() == 4
    run = ImportRun.objects.get()
    assert (run.who, run.file_name, run.state) == ("admin", "shop.csv", "done")
    assert LogEntry.objects.get().object_id == str(run.pk)
    assert list((imports_dir() / "pending").iterdir()) == []


def test_what_was_corrected_by_hand_stays(admin_client: Client, shop: Path) -> None:
    Product.objects.filter(product_id="2").update(gender="By hand")
    page, token = preview(admin_client, shop)
    assert "By hand" not in text_of(page)
    confirm(admin_client, token)
    assert Product.objects.values_list("gender", "colour").get(product_id="2") == ("By hand", "Red")


def test_the_command_would_do_the_same(admin_client: Client, shop: Path) -> None:
    _, token = preview(admin_client, shop, missing="hide")
    confirm(admin_client, token)
    names = ["product_id", "title", "colour", "extra", "source", "hidden"]
    done = list(Product.objects.order_by("pk").values(*names))
    missing = set(Product.objects.exclude(missing_since=None).values_list("product_id", flat=True))
    Product.objects.all().delete()
    import_catalogue(ImportOptions(write_csv(shop.with_name("old.csv"), [row("1"), row("2"), row("3")])))
    import_catalogue(ImportOptions(shop, missing="hide"))
    assert list(Product.objects.order_by("pk").values(*names)) == done
    assert set(Product.objects.exclude(missing_since=None).values_list("product_id", flat=True)) == missing == {"3"}


def test_what_is_missing_is_shown_before_it_is_hidden_or_deleted(admin_client: Client, shop: Path) -> None:
    page, _ = preview(admin_client, shop, missing="hide")
    assert "1 would be hidden" in text_of(page)
    page, token = preview(admin_client, shop, missing="delete")
    assert "1 would be deleted" in text_of(page)
    assert "A shirt (3)" in text_of(page)
    confirm(admin_client, token)
    assert not Product.objects.filter(product_id="3").exists()


def test_a_column_by_another_name(admin_client: Client, shop: Path) -> None:
    shop.write_text(shop.read_text().replace("ProductType", "type").replace(",Usage", ",Anlass"))
    page, token = preview(admin_client, shop)
    assert token == ""
    assert "there is no column ProductType; say which one it is with --map ProductType=NAME" in text_of(page)
    page, token = preview(admin_client, shop, renamed="ProductType = type\r\n\r\nUsage=Anlass")
    assert token
    page, token = preview(admin_client, shop, renamed="ProductType")
    assert "ProductType is not of the form ProductType=type." in text_of(page)


def test_a_file_that_the_catalogue_has_already_is_not_to_be_confirmed(admin_client: Client, shop: Path) -> None:
    confirm(admin_client, preview(admin_client, shop)[1])
    page, token = preview(admin_client, shop)
    assert "there is nothing to import" in page
    assert token == ""


def test_of_many_rows_the_first_are_shown(admin_client: Client, tmp_path: Path) -> None:
    import_catalogue(ImportOptions(write_csv(tmp_path / "a.csv", [row(str(number)) for number in range(60)])))
    rows = [row(str(number), "New", Colour="Red") for number in range(60)]
    rows += [row(f"n{number}") for number in range(60)] + [row("", str(number)) for number in range(60)]
    page, token = preview(admin_client, write_csv(tmp_path / "b.csv", rows))
    assert text_of(page).count("The first 50 of 60.") == 3
    assert page.count("<del>A shirt</del>") == 50
    assert "Colour 60 ProductTitle 60" in text_of(page)
    confirm(admin_client, token)
    assert Product.objects.filter(colour="Red").count() == 60


def test_rejects_can_be_put_right_before_anything_is_imported(admin_client: Client, shop: Path) -> None:
    shop.write_text(shop.read_text().split("\n", 1)[0] + '\n5,a,b,c,d,e,f,,g,h,"=1"\n')
    page, token = preview(admin_client, shop)
    assert token == ""
    (address,) = re.findall(r'href="([^"]+/rejects\.csv)"', page)
    answer: Any = admin_client.get(address)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="rejects.csv"'
    (reject,) = csv.DictReader(StringIO(answer.getvalue().decode("utf-8-sig")))
    assert (reject["line"], reject["reason"], reject["Price"]) == ("2", "ProductTitle is empty.", "'=1")
    client = member("add_product", "change_product", "view_product")
    assert client.get(address).status_code == 404  # somebody else's upload
    User.objects.get(username="member").user_permissions.clear()
    assert client.get(address).status_code == 403


# --- what is not such a file --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The submitted file is empty."),
        (b"PK\x03\x04rest", "this is an Excel workbook or a ZIP archive, not a CSV file"),
        ("ProductId,ProductTitle\n1,x\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        ("ProductId,é\n".encode("latin-1"), "the byte 0xE9 is not UTF-8"),
        (b"a;b;c\n1;2;3\n", "separated by &#x27;;&#x27;; save the file with commas"),
        (b"1,2,3\n", "there is no column ProductId"),
        (b"\n\n", "nothing but blank lines"),
        (b"ProductId,\x00", "a NUL byte"),
        (b'ProductId,"Prod', "a quote opens here and is never closed"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    admin_client: Client, content: bytes, sentence: str
) -> None:
    page, token = preview(admin_client, content)
    assert sentence in page
    assert token == ""
    assert list(imports_dir().glob("pending/*")) == []


def test_a_file_without_a_good_row_never_empties_the_catalogue(admin_client: Client, shop: Path) -> None:
    page, token = preview(admin_client, write_csv(shop, [row("", "x")]), missing="delete")
    assert "would delete the whole catalogue" in page
    assert token == ""


def test_a_file_that_is_too_large_is_refused(admin_client: Client, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "MOST_BYTES", 100)
    page, token = preview(admin_client, shop)
    assert "The file is larger than 100\u00a0bytes. On the command line" in page
    assert token == ""


def test_no_file_is_said(admin_client: Client) -> None:
    page: Any = admin_client.post(reverse(IMPORT), {"missing": "keep"})
    assert "This field is required." in page.content.decode()
    assert "Please correct the error below." in page.content.decode()


# --- confirming ---------------------------------------------------------------------------------
def test_a_catalogue_that_has_changed_since_is_left_alone(admin_client: Client, shop: Path) -> None:
    _, token = preview(admin_client, shop)
    Product.objects.filter(product_id="2").update(colour="Green")
    page = confirm(admin_client, token)
    assert "The catalogue has changed since the preview" in page
    assert Product.objects.values_list("title", "colour").get(product_id="2") == ("A shirt", "Green")
    assert Product.objects.count() == 3
    assert ImportRun.objects.get().state == "failed"


def test_a_file_that_has_changed_since_is_not_imported(admin_client: Client, shop: Path) -> None:
    _, token = preview(admin_client, shop)
    path = imports_dir() / "pending" / f"{token}.csv"
    path.write_bytes(path.read_bytes().replace(b"Neu", b"Alt"))
    assert "Nothing was imported" in confirm(admin_client, token)
    assert Product.objects.count() == 3


def test_an_upload_is_confirmed_once(admin_client: Client, shop: Path) -> None:
    _, token = preview(admin_client, shop)
    confirm(admin_client, token)
    assert "is no longer kept, or was imported already" in confirm(admin_client, token)
    assert ImportRun.objects.count() == 1


@pytest.mark.parametrize("token", ["", "0" * 32, "../../../etc/passwd", "x"])
def test_what_is_no_upload_is_not_confirmed(admin_client: Client, token: str) -> None:
    assert "is no longer kept" in confirm(admin_client, token)


def test_nobody_confirms_what_another_has_uploaded(admin_client: Client, shop: Path) -> None:
    _, token = preview(admin_client, shop)
    other = member("add_product", "change_product", "view_product")
    assert "is no longer kept" in confirm(other, token)
    assert Product.objects.count() == 3


def test_few_uploads_are_kept(admin_client: Client, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "MOST_PENDING", 2)
    tokens = [preview(admin_client, shop)[1] for _ in range(3)]
    assert {path.stem for path in (imports_dir() / "pending").glob("*.csv")} <= set(tokens[1:])
    monkeypatch.setattr(pending, "KEPT_SECONDS", -1)
    _, token = preview(admin_client, shop)
    assert {path.stem for path in (imports_dir() / "pending").iterdir()} == {token}  # with what lies beside it


# --- permissions --------------------------------------------------------------------------------
@pytest.mark.parametrize("codenames", [["view_product"], ["view_product", "change_product"], ["add_product"]])
def test_importing_asks_for_adding_and_changing(shop: Path, codenames: list[str]) -> None:
    client = member(*codenames)
    assert client.get(reverse(IMPORT)).status_code == 403
    assert send(client, shop).status_code == 403
    assert client.post(reverse(CONFIRM), {"token": "0" * 32}).status_code == 403
    assert client.get(reverse(RUNS)).status_code == 403
    if "view_product" in codenames:
        page = client.get(reverse(LIST)).content.decode()
        assert reverse(IMPORT) not in page
        assert reverse(RUNS) not in page


def test_deleting_asks_for_deleting(shop: Path) -> None:
    client = member("add_product", "change_product", "view_product")
    assert "are deleted" not in client.get(reverse(IMPORT)).content.decode()
    page, token = preview(client, shop, missing="delete")
    assert "Select a valid choice" in page
    assert token == ""
    _, token = preview(client, shop, missing="hide")
    assert "Imported shop.csv" in confirm(client, token)


def test_who_may_no_longer_delete_does_not(shop: Path) -> None:
    client = member("add_product", "change_product", "view_product", "delete_product")
    _, token = preview(client, shop, missing="delete")
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="delete_product"))
    assert client.post(reverse(CONFIRM), {"token": token}).status_code == 403
    assert Product.objects.count() == 3


def test_exporting_asks_for_viewing(shop: Path) -> None:
    client = member("add_product")
    assert client.get(reverse(EXPORT)).status_code == 403
    client = Client()
    assert client.get(reverse(EXPORT)).status_code == 302


@pytest.mark.parametrize("name", [IMPORT, EXPORT, RUNS])
def test_strangers_are_asked_to_log_in(client: Client, name: str) -> None:
    assert "/login/" in client.get(reverse(name)).headers["Location"]


# --- export -------------------------------------------------------------------------------------
def test_the_whole_catalogue_comes_out_and_changes_nothing_when_it_comes_back(admin_client: Client, shop: Path) -> None:
    confirm(admin_client, preview(admin_client, shop)[1])
    Product.objects.filter(product_id="1").update(title="=HYPERLINK(1)", colour="By hand")
    answer: Any = admin_client.get(reverse(EXPORT))
    assert re.fullmatch(r'attachment; filename="products-[\d-]+\.csv"', answer.headers["Content-Disposition"])
    content = answer.getvalue()
    assert b"'=HYPERLINK(1)" in content
    page, token = preview(admin_client, content)
    assert "0 would be created 0 would change 4 unchanged 0 rejected" in text_of(page)
    assert token == ""
    shop.write_bytes(content)
    call_command("import_fashion", str(shop), "--json")
    assert Product.objects.get(product_id="1").title == "=HYPERLINK(1)"


def test_the_list_is_exported_as_it_is_filtered_and_searched(admin_client: Client, shop: Path) -> None:
    confirm(admin_client, preview(admin_client, shop)[1])
    found = exported(admin_client.get(reverse(EXPORT), {"colour": "Red"}))
    assert [line["ProductId"] for line in found] == ["2"]
    assert "Price" in found[0]
    found = exported(admin_client.get(reverse(EXPORT), {"q": "neu"}))
    assert [line["ProductId"] for line in found] == ["4"]
    assert "Price" not in found[0]
    page = admin_client.get(reverse(LIST), {"colour": "Red"}).content.decode()
    assert f"{reverse(EXPORT)}?colour=Red" in page


def test_a_filter_that_there_is_not_leads_back_to_the_list(admin_client: Client) -> None:
    answer = admin_client.get(reverse(EXPORT), {"created_at": "x"})
    assert answer.headers["Location"].endswith("?e=1")


def test_selected_products_are_exported(admin_client: Client, shop: Path) -> None:
    chosen = Product.objects.filter(product_id__in=["1", "3"]).values_list("pk", flat=True)
    form = {"action": "export_selected", "_selected_action": list(chosen)}
    assert [line["ProductId"] for line in exported(admin_client.post(reverse(LIST), form))] == ["1", "3"]


def test_a_long_export_costs_few_queries(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    Product.objects.bulk_create(Product(product_id=str(number), title="x") for number in range(3000))
    get_columns()  # a process reads the catalogue's columns once
    with django_assert_max_num_queries(7):
        assert len(exported(admin_client.get(reverse(EXPORT)))) == 3000


# --- past imports -------------------------------------------------------------------------------
def test_past_imports_are_listed_with_their_rejects(admin_client: Client, shop: Path) -> None:
    confirm(admin_client, preview(admin_client, shop)[1])
    call_command("import_fashion", str(shop), "--json")
    page = admin_client.get(reverse(RUNS)).content.decode()
    assert text_of(page).index("command line") < text_of(page).index("admin")
    run = ImportRun.objects.get(who="admin")
    address = reverse("admin:catalog_importrun_rejects", args=[run.pk])
    assert address in page
    answer: Any = admin_client.get(address)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="rejects-{run.pk}.csv"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    (reject,) = csv.DictReader(StringIO(answer.getvalue().decode("utf-8-sig")))
    assert (reject["line"], reject["reason"], reject["Colour"]) == ("5", "ProductId is empty.", "'=1")
    details = admin_client.get(reverse("admin:catalog_importrun_change", args=[run.pk])).content.decode()
    assert run.sha256 in details


def test_corrected_rejects_are_imported_as_they_are(admin_client: Client, shop: Path) -> None:
    confirm(admin_client, preview(admin_client, shop)[1])
    answer: Any = admin_client.get(reverse("admin:catalog_importrun_rejects", args=[ImportRun.objects.get().pk]))
    text = answer.getvalue().decode("utf-8-sig").replace("ProductId is empty.,,", "ProductId is empty.,5,")
    confirm(admin_client, preview(admin_client, text.encode())[1])
    product = Product.objects.get(product_id="5")
    assert (product.title, product.colour, product.extra) == ("No id", "=1", {})


def test_rejects_are_for_those_who_may_see_past_imports(admin_client: Client, shop: Path) -> None:
    confirm(admin_client, preview(admin_client, shop)[1])
    address = reverse("admin:catalog_importrun_rejects", args=[ImportRun.objects.get().pk])
    client = member("view_product", "change_product")
    assert client.get(address).status_code == 403
    User.objects.get(username="member").user_permissions.set(Permission.objects.filter(codename="view_importrun"))
    assert client.get(address).status_code == 200
    assert admin_client.get(reverse("admin:catalog_importrun_rejects", args=[99])).status_code == 404


def test_rejects_that_are_kept_no_more_are_said_to_be(admin_client: Client) -> None:
    run = ImportRun.objects.create(file_name="old.csv", rejected=3, state="done")
    assert "3, no longer kept" in admin_client.get(reverse(RUNS)).content.decode()
    assert admin_client.get(reverse("admin:catalog_importrun_rejects", args=[run.pk])).status_code == 404


def test_an_import_that_was_killed_is_listed_as_interrupted(admin_client: Client) -> None:
    ImportRun.objects.create(file_name="killed.csv")
    assert "interrupted" in text_of(admin_client.get(reverse(RUNS)).content.decode())
    assert ImportRun.objects.get().state == "interrupted"


def test_past_imports_can_only_be_read(admin_client: Client) -> None:
    run = ImportRun.objects.create(file_name="a.csv", state="done")
    assert admin_client.get(reverse("admin:catalog_importrun_add")).status_code == 403
    assert admin_client.post(reverse("admin:catalog_importrun_delete", args=[run.pk])).status_code == 403
    change = reverse("admin:catalog_importrun_change", args=[run.pk])
    assert admin_client.post(change, {"file_name": "b.csv"}).status_code == 403


# --- the bench ----------------------------------------------------------------------------------
def test_the_bench_runs_as_a_command_and_leaves_the_users_data_alone(tmp_path: Path) -> None:
    done = run_python(
        *("bench/admin_files.py", "--rows", "300", "--rounds", "1"),
        env={"PATH": "", "TMPDIR": str(tmp_path), "VITRINE_DATA_DIR": str(tmp_path / "users")},
    )
    report = json.loads(done.stdout)
    assert report["rows"] == 300
    steps = {"preview_new", "confirm_new", "preview_changed", "confirm_changed", "export", "idle"}
    assert set(report["seconds"]) == steps
    assert list(tmp_path.iterdir()) == []
