"""Search in words over titles and attributes, and the words of the catalogue nearest to misspelt ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from catalog import changes, words
from catalog.importing.statements import insert_products
from catalog.models import Product

Add = Callable[..., Product]

pytestmark = pytest.mark.django_db


@pytest.fixture
def wardrobe(add: Add) -> None:
    add("1", title="Fabindia linen shirt", product_type="Shirts", colour="Navy Blue", gender="Men")
    add("2", title="Crème brûlée T-shirt", product_type="Tshirts", colour="Off White", gender="Women")
    add("3", title="O'Neill A-Line dress 2012", product_type="Dresses", colour="Navy Blue", gender="Women")


def found(text: str) -> list[str]:
    return [product.product_id for product in Product.objects.search(text)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ["1", "2", "3"]),
        ("   ", ["1", "2", "3"]),
        ("nav", ["1", "3"]),
        ("NAVY women", ["3"]),
        ("dress navy 20", ["3"]),
        ("creme BRULE", ["2"]),
        ("crème", ["2"]),
        ("cre\u0300me", ["2"]),
        ("t-shirt", ["2"]),
        ("tshirt", ["2"]),
        ("aline", []),
        ("a-line", ["3"]),
        ("o'neill", ["3"]),
        ("irt", []),
        ("navy & women!", ["3"]),
    ],
)
def test_each_word_begins_a_word_of_the_title_or_of_an_attribute(wardrobe: None, text: str, ids: list[str]) -> None:
    assert found(text) == ids


@pytest.mark.parametrize(
    "text",
    [
        '"', '""', '"navy', "navy OR shirt", "NOT", "NEAR(navy, 2)", "title:navy", "{title colour}:x", "nav*", "^navy",
        "-navy", "(navy", "navy)", "navy AND", "a\0b", "\0", "x" * 200, '"' * 200, "!?…", "👗", "👗 navy", "'; DROP--",
        "%s", "%", "\u0301", "ꟲ", "क्ष", "+", "a+b", "᠎", "\ufeff", "Ⅷ ²",
    ],
)  # fmt: skip
def test_whatever_is_asked_is_words_and_no_syntax(wardrobe: None, text: str) -> None:
    assert set(found(text)) <= {"1", "2", "3"}


def test_only_punctuation_finds_nothing(wardrobe: None) -> None:
    assert found("!?") == []


def test_the_words_follow_every_way_of_writing(wardrobe: None) -> None:
    insert_products(["product_id", "title"], [("8", "Peacock scarf"), ("9", "Peacock hat")])
    assert found("peacock") == ["8", "9"]
    Product.objects.filter(product_id="8").update(title="Parrot scarf")
    Product.objects.filter(product_id="9").update(hidden=True)
    assert (found("peacock"), found("parrot")) == (["9"], ["8"])
    Product.objects.bulk_update([Product(pk=Product.objects.get(product_id="9").pk, colour="Lilac")], ["colour"])
    assert found("lilac hat") == ["9"]
    Product.objects.all().delete()
    assert found("parrot") == []
    if connection.vendor != "sqlite":  # has an index, which cannot lag behind
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {words.VOCABULARY}")  # noqa: S608
        assert cursor.fetchone() == (0,)
        cursor.execute(f"INSERT INTO {words.TABLE} ({words.TABLE}, rank) VALUES ('integrity-check', 1)")  # noqa: S608


def test_counting_what_was_created_is_not_disturbed_by_the_triggers(wardrobe: None) -> None:
    assert insert_products(["product_id", "title"], [("1", "again"), ("8", "new"), ("9", "new")]) == 2


def test_all_migrations_together_leave_the_triggers_in_place() -> None:
    listed = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'catalog_product'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'catalog_product'::regclass AND NOT tgisinternal",
    }
    tables = {"sqlite": (words.TABLE, changes.TABLE), "postgresql": (changes.TABLE,)}[connection.vendor]
    events = ("insert", "delete", "update", *(("truncate",) if connection.vendor == "postgresql" else ()))
    with connection.cursor() as cursor:
        cursor.execute(listed[connection.vendor])
        assert {name for (name,) in cursor.fetchall()} == {f"{table}_{event}" for table in tables for event in events}


@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_back_and_forth_and_indexes_what_is_there(wardrobe: None) -> None:
    call_command("migrate", "catalog", "0002", verbosity=0)
    assert not [name for name in connection.introspection.table_names() if name.startswith(words.TABLE)]
    Product.objects.filter(product_id="1").update(title="Umbrella")
    call_command("migrate", verbosity=0)  # what builds upon it, too
    assert found("umbrella") == ["1"]


def test_of_equally_near_words_the_commonest_is_meant(add: Add) -> None:
    for number, title in enumerate(["short", "shirt", "shirt"]):
        add(str(number), title=title)
    assert words.corrected("shrit") == "shirt"


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("nvay", "navy"),
        ("shrit", "shirt"),
        ("fabinda drss", "fabindia dress"),
        ("navy", None),
        ("nav", None),
        ("xyzzy", None),
        ("!", None),
        ("", None),
    ],
)
def test_a_misspelt_word_has_a_nearest_one(wardrobe: None, text: str, better: str | None) -> None:
    assert words.corrected(text) == better


@pytest.mark.parametrize(("text", "ids"), [("", ["1", "2", "3"]), ("NAV women", ["3"]), ("irt", ["1", "2"]), ("!", [])])
def test_other_databases_look_for_the_words_anywhere(
    wardrobe: None, monkeypatch: pytest.MonkeyPatch, text: str, ids: list[str]
) -> None:
    monkeypatch.setattr(connection, "vendor", "another")
    assert found(text) == ids
    assert words.corrected(text) is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite keeps a vocabulary of its own")
class TestVocabularyOfPostgreSQL:
    """Which keeps none: it is that of products from everywhere in the catalogue, read once for each state of it."""

    @pytest.fixture
    def large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A catalogue of which no more than a quarter is looked at."""
        titles = [(str(number), f"Shirt {'of linen' if number % 2 else 'of cotton'}") for number in range(4000)]
        insert_products(["product_id", "title"], [*titles, ("last", "Umbrella peacock")])
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_relation_size('catalog_product')")
            monkeypatch.setattr(words, "_SAMPLED_BYTES", cursor.fetchone()[0] // 4)

    def test_it_is_read_once_for_each_state_of_the_catalogue(
        self, wardrobe: None, add: Add, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = []
        read = words._read_sample

        def noted() -> Any:
            reads.append(1)
            return read()

        monkeypatch.setattr(words, "_read_sample", noted)
        assert words.corrected("nvay shrit drss") == "navy shirt dress"
        assert words.corrected("fabinda") == "fabindia"
        assert len(reads) == 1
        add("4", title="Umbrella")
        assert words.corrected("umbrela") == "umbrella"
        assert words.corrected("umbrela nvay") == "umbrella navy"
        assert len(reads) == 2

    def test_many_who_ask_at_once_have_it_read_once(self, wardrobe: None, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = changes.newest()
        reads = []

        def slow() -> dict[str, dict[str, int]]:
            reads.append(1)
            time.sleep(0.2)
            return {"n": {"navy": 1}}

        monkeypatch.setattr(words, "_read_sample", slow)
        monkeypatch.setattr(changes, "newest", lambda: seen)  # what other threads see of this test's transaction
        with ThreadPoolExecutor(4) as visitors:
            assert list(visitors.map(lambda _: words._sampled(), range(4))) == [{"n": {"navy": 1}}] * 4
        assert len(reads) == 1
        words._samples.clear()

    def test_of_a_large_catalogue_some_is_looked_at_and_no_word_of_the_rest_is_taken_for_misspelt(
        self, large: None
    ) -> None:
        sampled = words._read_sample()
        looked_at = sampled["s"]["shirt"]
        assert 0 < looked_at < 2000
        assert {*sampled["o"], *sampled["l"], *sampled["c"]} >= {"of", "linen", "cotton"}
        assert words.corrected("shrit of linnen") == "shirt of linen"
        assert words.corrected("umbrella") is None, "wherever its product stands"
