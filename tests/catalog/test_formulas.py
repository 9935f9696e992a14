"""No cell of a file for spreadsheets is run by one, and all of it comes back as it was."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.exporting import BOM, export_catalogue
from catalog.formulas import kept, neutralised, restored
from catalog.importing.service import ImportOptions, import_catalogue
from catalog.models import Product
from tests.catalog.material import COLUMNS, row, write_csv

SIGNS = "=+-@＝＋－＠"
TRICKY = st.text(st.sampled_from(SIGNS + "'\"';,|\t\r\n \u200b\ufeffa1é") | st.characters(codec="utf-8"), max_size=12)


@pytest.mark.parametrize("sign", [*SIGNS, "\t", "\r", "\n"])
@pytest.mark.parametrize("before", ["", " ", "\u00a0", "\u200b", "\ufeff", "'", "''  "])
def test_what_begins_like_a_formula_begins_with_an_apostrophe(sign: str, before: str) -> None:
    assert neutralised(f"{before}{sign}1") == f"'{before}{sign}1"


@pytest.mark.parametrize(
    "value", ["", "Shirt", "T-Shirt", "a@b.example", "it's", "'90s", "1+1=2", "Line\r\nbreak", "Ä"]
)
def test_other_values_stay_as_they_are(value: str) -> None:
    assert neutralised(value) == value == kept(value) == restored(value)


def cells_of(text: str, separator: str) -> list[str]:
    """What a spreadsheet makes of a file that it separates elsewhere than we do, and whose quotes are not at the
    beginning of its cells."""
    lines = text.replace("\r", "\n").split("\n")
    return [cell for line in lines for cell in line.split(separator)]


@given(TRICKY)
def test_no_cell_is_a_formula_wherever_a_spreadsheet_separates(value: str) -> None:
    for separator in ",;\t|":
        for cell in cells_of(neutralised(value), separator):
            assert cell.lstrip(" \u00a0\u200b\ufeff")[:1] not in tuple(SIGNS)


@given(TRICKY)
def test_every_value_comes_back_from_both_kinds_of_file(value: str) -> None:
    assert restored(neutralised(value)) == value
    assert restored(kept(value)) == value


@pytest.mark.django_db
def test_a_file_for_spreadsheets_has_a_byte_order_mark_and_no_formula(tmp_path: Path) -> None:
    Product.objects.create(product_id="-1", title="=HYPERLINK(1)", extra={"@note": "soft;+cmd", "plain": "x"})
    export_catalogue(tmp_path / "out.csv", spreadsheet=True)
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert text.startswith(f"{BOM}ProductId,")
    header, values = csv.reader(StringIO(text.removeprefix(BOM)))
    assert header[-2:] == ["'@note", "plain"]
    assert (values[0], values[7], values[-2]) == ("'-1", "'=HYPERLINK(1)", "soft;'+cmd")


@pytest.mark.django_db
def test_an_import_takes_the_apostrophe_away_that_spreadsheets_put_before_text(tmp_path: Path) -> None:
    import_catalogue(ImportOptions(write_csv(tmp_path / "a.csv", [row("1", "'-50% on 'this'", Colour="it's")])))
    product = Product.objects.get()
    assert (product.title, product.colour) == ("-50% on 'this'", "it's")
    assert product.source["ProductTitle"] == "-50% on 'this'"


LETTERS = st.sampled_from(SIGNS + "'\"';,| \u200b\ufeffa1é") | st.characters(
    codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/."
)
VALUES = st.text(LETTERS | st.sampled_from("\t\r\n"), max_size=12).map(str.strip)
IDS = st.text(LETTERS, max_size=12).map(str.strip)


@pytest.mark.django_db
@settings(max_examples=40)
@given(
    products=st.dictionaries(
        IDS.filter(bool),
        st.tuples(VALUES.filter(bool), VALUES, VALUES),
        min_size=1,
        max_size=5,
    ),
    spreadsheet=st.booleans(),
)
def test_a_catalogue_of_formulas_comes_back_unharmed(
    tmp_path: Path, products: dict[str, tuple[str, str, str]], spreadsheet: bool
) -> None:
    Product.objects.all().delete()
    names = ["product_id", "title", "colour", "extra"]
    for product_id, (title, colour, note) in products.items():
        extra = {"=note": note, "n": "1"} if note else {"n": "1"}
        Product.objects.create(product_id=product_id, title=title, colour=colour, extra=extra)
    before = list(Product.objects.order_by("pk").values_list(*names))
    export_catalogue(tmp_path / "out.csv", spreadsheet=spreadsheet)
    for _ in range(2):
        report = import_catalogue(ImportOptions(tmp_path / "out.csv"))
        assert (report.unchanged, report.rejected) == (len(products), 0)
        assert list(Product.objects.order_by("pk").values_list(*names)) == before
    Product.objects.all().delete()
    import_catalogue(ImportOptions(tmp_path / "out.csv"))
    assert list(Product.objects.order_by("pk").values_list(*names)) == before


@pytest.mark.django_db
def test_a_file_of_rejects_is_imported_as_it_is_when_its_rows_are_right(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row("1"), row("2", "")])
    import_catalogue(ImportOptions(path, report=tmp_path / "rejects.csv"))
    text = (tmp_path / "rejects.csv").read_text()
    assert text.startswith("line,product_id,reason,ProductId,")
    (tmp_path / "rejects.csv").write_text(text.replace("Casual,,", "Casual,A hat,"), newline="")
    report = import_catalogue(ImportOptions(tmp_path / "rejects.csv"))
    assert (report.created, report.rejected) == (1, 0)
    product = Product.objects.get(product_id="2")
    assert (product.title, product.extra, list(product.source)) == ("A hat", {}, sorted(COLUMNS))
