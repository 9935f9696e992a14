"""A row says what a product is, or why it cannot be one."""

from __future__ import annotations

import pytest

from catalog.importing.csvfile import CatalogueFileError, Record
from catalog.importing.rows import ColumnMap, ParsedRow, Reject, map_columns, parse_row
from tests.catalog.material import COLUMNS, row


def parsed(**values: str) -> ParsedRow | Reject:
    whole = {**row("1"), **values}
    return parse_row(Record(7, list(whole.values())), columns(list(whole)))


def columns(header: list[str], **renamed: str) -> ColumnMap:
    return map_columns("shop.csv", header, renamed)


def reason(**values: str) -> str:
    result = parsed(**values)
    assert isinstance(result, Reject)
    assert result.line == 7
    return result.reason


def test_it_works() -> None:
    result = parsed(ProductId=" 0042 ", Colour="NA", Price="9.90")
    assert isinstance(result, ParsedRow)
    assert (result.line, result.product_id) == (7, "0042")
    assert result.values == {**row("1"), "ProductId": "0042", "Colour": "NA", "Price": "9.90"}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"ProductId": "  "}, "ProductId is empty."),
        ({"ProductTitle": ""}, "ProductTitle is empty."),
        ({"ProductId": "x" * 65}, "ProductId has 65 characters; 64 are allowed."),
        ({"ImageURL": "x" * 2001}, "ImageURL has 2,001 characters; 2,000 are allowed."),
        ({"Price": "x" * 10_001}, "Price has 10,001 characters; 10,000 are allowed."),
        ({"Colour": "Bl\x07ue"}, "Colour has a control character (U+0007)."),
        ({"Colour": "Blu\x85e"}, "Colour has a control character (U+0085)."),
        ({"ProductId": "4\n2"}, "ProductId has a tab or a line break."),
    ],
)
def test_a_bad_value_is_rejected_with_the_reason(values: dict[str, str], why: str) -> None:
    assert reason(**values) == why


@pytest.mark.parametrize("product_id", ["/a", "a/", "a//b", ".", "..", "a/../b", "./a"])
def test_an_id_that_cannot_be_an_address_is_rejected(product_id: str) -> None:
    assert "cannot be part of an address" in reason(ProductId=product_id)


@pytest.mark.parametrize("product_id", ["a/b", "a b", "...", "ä", "a.b", "100%"])
def test_an_id_may_be_strange(product_id: str) -> None:
    assert isinstance(parsed(ProductId=product_id), ParsedRow)


def test_a_title_may_have_line_breaks_and_strange_spaces() -> None:
    assert isinstance(parsed(ProductTitle="two\nlines\u00a0here"), ParsedRow)


def test_a_short_row_is_rejected_under_its_id() -> None:
    result = parse_row(Record(3, ["42", "Women"]), columns(COLUMNS))
    assert result == Reject(3, "42", "The row has 2 of 10 fields.", ["42", "Women"])


def test_columns_may_stand_in_any_order_and_have_other_names() -> None:
    header = ["type" if name == "ProductType" else name for name in reversed(COLUMNS)]
    values = list(reversed(row("1").values()))
    result = parse_row(Record(2, values), columns(header, ProductType="type"))
    assert isinstance(result, ParsedRow)
    assert result.values == row("1")


def test_a_column_may_be_declared_absent() -> None:
    header = [name for name in COLUMNS if name != "Usage"]
    assert "Usage" not in columns(header, Usage="").names


@pytest.mark.parametrize(
    ("header", "renamed", "words"),
    [
        (COLUMNS[:4] + COLUMNS[5:], {}, "no column ProductType; say which one it is with --map ProductType=NAME"),
        ([*COLUMNS[:4], "producttype", *COLUMNS[5:]], {}, "--map ProductType=producttype"),
        (COLUMNS, {"Producttype": "x"}, "the columns are ProductId,"),
        (COLUMNS, {"ProductType": "Colours"}, "has no column Colours; did you mean Colour?"),
        ([*COLUMNS, "type"], {"ProductType": "type"}, "has a column ProductType as well"),
        (COLUMNS[1:], {"ProductId": ""}, "no product without ProductId"),
        (["a", *COLUMNS[2:]], {"ProductId": "a", "Gender": "a"}, "a is ProductId already"),
        ([";".join(COLUMNS)], {}, "separated by ';'"),
    ],
)
def test_columns_that_do_not_fit_are_said(header: list[str], renamed: dict[str, str], words: str) -> None:
    with pytest.raises(CatalogueFileError) as caught:
        map_columns("shop.csv", header, renamed)
    assert words in str(caught.value)
