"""A catalogue's file is read as it stands, or refused with one sentence that says where it is wrong."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalog.importing import csvfile
from catalog.importing.csvfile import CatalogueFile, CatalogueFileError

HEADER = b"ProductId,Colour,ProductTitle\n"


def read(path: Path) -> list[tuple[int, list[str]]]:
    with CatalogueFile(path) as file:
        return [(record.line, record.values) for record in file.records()]


def refusal(path: Path) -> str:
    with pytest.raises(CatalogueFileError) as caught:
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.csv"


def test_it_works(path: Path) -> None:
    path.write_bytes(HEADER + b'0042,NA,"A shirt, ""blue"""\n7,,Socks\n')
    assert read(path) == [(2, ["0042", "NA", 'A shirt, "blue"']), (3, ["7", "", "Socks"])]


def test_lines_are_counted_as_an_editor_counts_them(path: Path) -> None:
    path.write_bytes(HEADER + b'1,Red,"two\nlines"\n\n   \n2,Red,after a blank line\r\n3,Red,the last')
    assert [line for line, _ in read(path)] == [2, 6, 7]


def test_a_byte_order_mark_is_no_part_of_the_first_name(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + HEADER + "1,Grün,Söckchen\r\n".encode())
    with CatalogueFile(path) as file:
        assert file.header == ["ProductId", "Colour", "ProductTitle"]
        assert [record.values for record in file.records()] == [["1", "Grün", "Söckchen"]]


def test_a_row_may_be_short_because_its_reader_rejects_it(path: Path) -> None:
    path.write_bytes(HEADER + b"1,Red\n")
    assert read(path) == [(2, ["1", "Red"])]


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (HEADER + b"1,Red,a,b\n", "line 2, column 4", "4 fields"),
        (HEADER + b'1,Red,x\n2,"Red,y\n3,Red,z\n', "line 3, column Colour", "never closed"),
        (HEADER + b'1,"Red"dish,x\n', "line 2, column Colour", "closing quote"),
        (HEADER + b"1,Red,x\rand more\n", "line 2, column ProductTitle", "carriage return"),
        (HEADER.replace(b"\n", b"\r") + b"1,Red,x\r", "line 1, column 3", "carriage return"),
        (HEADER + b"1,R\0d,x\n", "line 2, column Colour", "NUL"),
        (HEADER + b'1,"a,\nb",ok\n2,Red,caf\xe9\n', "line 4, column ProductTitle", "0xE9"),
        (HEADER + b'1,Red,"a\ncaf\xe9"\n', "line 3, column ProductTitle", "0xE9"),
        (b"ProductId,Colour,Colour\n", "line 1, column Colour", "twice (columns 2 and 3)"),
        (b"ProductId,,Colour\n", "line 1, column 2", "without a name"),
        (HEADER.decode().encode("utf-16"), "line 1, column 1", "UTF-16"),
        (HEADER.decode().encode("utf-16-le"), "line 1, column 1", "UTF-16"),
        (b"PK\x03\x04" + bytes(50), "line 1, column 1", "Excel"),
        (b"", "shop.csv", "empty"),
        (b"\n\n", "line 1", "blank lines"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(path: Path, content: bytes, place: str, words: str) -> None:
    path.write_bytes(content)
    sentence = refusal(path)
    assert sentence.startswith("shop.csv")
    assert f"{place}:" in sentence
    assert words in sentence


def test_an_open_quote_costs_no_more_memory_than_a_value_may(path: Path) -> None:
    path.write_bytes(HEADER + b'1,"Red,x\n' + b"2,Red,some words of a line\n" * 100_000)
    assert "line 2, column Colour: a quote opens here and is not closed within" in refusal(path)


def test_a_value_and_a_line_have_their_limits(path: Path) -> None:
    path.write_bytes(HEADER + b"1,Red," + b"x" * (csvfile.MAX_FIELD_CHARS + 1) + b"\n")
    assert "line 2, column ProductTitle: the value is longer" in refusal(path)
    path.write_bytes(HEADER + b"1,Red,x\n2," + b"x" * csvfile.MAX_LINE_BYTES + b"\n")
    assert "line 3" in refusal(path)
    path.write_bytes(HEADER[:-1] + b"\r" + b"1,Red,x\r" * 600_000)
    assert "bare carriage return" in refusal(path)


def test_what_is_not_a_file_is_said(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refusal(tmp_path / "pipe")


def test_a_file_that_changes_between_two_passes_is_noticed(path: Path) -> None:
    path.write_bytes(HEADER + b"1,Red,x\n")
    with CatalogueFile(path) as file:
        list(file.records())
        file.check_unchanged()
        path.write_bytes(HEADER + b"1,Red,x\n2,Red,y\n")
        with pytest.raises(CatalogueFileError, match="changed while it was being read"):
            file.check_unchanged()


# Line separators that only str.splitlines knows are text to us and to pandas.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=8)
PIECES = ["NA", "null", '"', ",", "\n", "\r\n", "'", " ", "0042", "ü", "\u2028", "\x85", "𝄞"]
VALUES = TEXTS | st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


@settings(max_examples=150)
@example(rows=[["NA", "0042", "null"]], bom=True, line_end="\r\n")
@given(
    rows=st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=6),
    bom=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_pandas_reads_the_same_table(path: Path, rows: list[list[str]], bom: bool, line_end: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(["ProductId", "Colour", "ProductTitle"])
    writer.writerows(rows)
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())
    table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig")
    assert [values for _, values in read(path)] == table.to_numpy().tolist()
