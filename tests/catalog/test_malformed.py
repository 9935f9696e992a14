"""Files that are no catalogue, or have rows that are no products: each is told in a sentence of its own, with its line.

`malformed/expected.json` says what: one sentence where the whole file is refused, else one for each rejected row.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.importing.service import CatalogueFileError, ImportOptions, import_catalogue
from catalog.models import Product

pytestmark = pytest.mark.django_db

CORPUS = Path(__file__).parent / "malformed"
EXPECTED: dict[str, list[str]] = json.loads((CORPUS / "expected.json").read_text(encoding="utf-8"))


def test_every_file_of_the_corpus_is_expected_to_say_something() -> None:
    assert {path.name for path in CORPUS.glob("*.csv")} == set(EXPECTED)
    assert len(EXPECTED) >= 40
    assert all(EXPECTED.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_malformed_file_gets_its_sentence_and_line(name: str) -> None:
    try:
        report = import_catalogue(ImportOptions(CORPUS / name))
    except CatalogueFileError as error:
        said = [str(error)]
        assert not Product.objects.exists(), "a file that is refused changes nothing"
    else:
        said = [f"line {reject.line}: {reject.reason}" for reject in report.first_rejects]
        assert Product.objects.count() == report.rows - report.rejected, "good rows are imported all the same"
    assert said == EXPECTED[name]
