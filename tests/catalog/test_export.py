"""What was imported can be exported, and imported again without a change."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.exporting import export_catalogue
from catalog.importing.service import ImportOptions, ImportReport, import_catalogue
from catalog.models import Product
from tests.catalog.material import COLUMNS, row, write_csv

pytestmark = pytest.mark.django_db


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def imported(path: Path) -> ImportReport:
    return import_catalogue(ImportOptions(path))


def test_it_works(tmp_path: Path) -> None:
    rows = [row("2", 'A "shirt", blue'), row("1", Colour="NA")]
    imported(write_csv(tmp_path / "in.csv", rows))
    out = io.StringIO()
    call_command("export_catalogue", str(tmp_path / "out.csv"), stdout=out)
    assert out.getvalue().startswith("2 products written to ")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "in.csv").read_bytes()


def test_a_dash_is_standard_output(tmp_path: Path) -> None:
    imported(write_csv(tmp_path / "in.csv", [row("1", "Söckchen")]))
    out = io.StringIO()
    call_command("export_catalogue", "-", stdout=out)
    assert out.getvalue().encode() == (tmp_path / "in.csv").read_bytes()


def test_further_columns_of_all_products_come_after_the_ten(tmp_path: Path) -> None:
    imported(write_csv(tmp_path / "a.csv", [row("1", Price="9.90")], [*COLUMNS, "Price"]))
    imported(write_csv(tmp_path / "b.csv", [row("2", Link="x")], ["Link", *COLUMNS]))
    export_catalogue(tmp_path / "out.csv")
    exported = table(tmp_path / "out.csv")
    assert list(exported[0]) == [*COLUMNS, "Price", "Link"]
    assert [(line["Price"], line["Link"]) for line in exported] == [("9.90", ""), ("", "x")]
    assert imported(tmp_path / "out.csv").unchanged == 2


def test_what_was_corrected_by_hand_is_exported(tmp_path: Path) -> None:
    imported(write_csv(tmp_path / "in.csv", [row("1")]))
    Product.objects.update(title="By hand")
    export_catalogue(tmp_path / "out.csv")
    assert table(tmp_path / "out.csv")[0]["ProductTitle"] == "By hand"
    assert imported(tmp_path / "out.csv").unchanged == 1


def test_a_failed_export_leaves_the_former_file(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_catalogue", str(tmp_path / "nowhere" / "out.csv"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_catalogue", str(tmp_path / "taken"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.real_data
def test_the_real_file_comes_back_byte_by_byte(tmp_path: Path, real_catalogue: Path) -> None:
    imported(real_catalogue / "fashion.csv")
    export_catalogue(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (real_catalogue / "fashion.csv").read_bytes()


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from('\n\r\t",'), max_size=12)
IDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="/"), min_size=1)


@settings(max_examples=40)
@given(
    rows=st.dictionaries(
        IDS.filter(lambda text: len(text) <= 64 and text not in (".", "..")),
        st.tuples(TEXT.filter(str.strip), TEXT, TEXT, TEXT),
        min_size=1,
        max_size=5,
    )
)
def test_import_export_import_changes_nothing(tmp_path: Path, rows: dict[str, tuple[str, str, str, str]]) -> None:
    Product.objects.all().delete()
    columns = [*COLUMNS, "Price", "Note, long"]
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        for product_id, (title, colour, price, note) in rows.items():
            more = {"Colour": colour, "Price": price, "Note, long": note}
            writer.writerow(row(product_id, title, **more))
    first = imported(path)
    assert (first.created, first.rejected) == (len(rows), 0)
    before = list(Product.objects.order_by("pk").values("product_id", "title", "colour", "extra"))
    export_catalogue(tmp_path / "out.csv")
    again = imported(tmp_path / "out.csv")
    assert (again.unchanged, again.updated, again.rejected) == (len(rows), 0, 0)
    after = list(Product.objects.order_by("pk").values("product_id", "title", "colour", "extra"))
    assert after == before
