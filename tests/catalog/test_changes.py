"""The log of changes where many write at once (PostgreSQL): who began first may end last."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from catalog import changes
from catalog.columnar import forget_columns, get_columns
from catalog.models import Product

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time"),
]


def elsewhere(work: Callable[[], object]) -> threading.Thread:
    """Work on a connection of its own."""

    def do() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=do)
    thread.start()
    return thread


def known() -> set[str]:
    """The colours of the products that the columns have."""
    columns = get_columns()
    return set(columns.counts("colour", columns.found({})))


def add(number: int) -> None:
    Product.objects.create(product_id=str(number), title="A shirt", colour=f"Colour {number}")


def test_what_was_written_first_and_committed_last_is_seen() -> None:
    forget_columns()
    written, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            add(1)
            written.set()
            assert commit.wait(20)

    thread = elsewhere(slow)
    assert written.wait(20)
    for number in (2, 3):  # have later entries, and are there
        add(number)
        assert known() == {f"Colour {each}" for each in range(2, number + 1)}
    commit.set()
    thread.join()
    assert known() == {"Colour 1", "Colour 2", "Colour 3"}


def test_what_was_rolled_back_elsewhere_is_never_seen() -> None:
    forget_columns()
    add(1)
    assert known() == {"Colour 1"}

    def undone() -> None:
        with transaction.atomic():
            add(2)
            transaction.set_rollback(True)

    elsewhere(undone).join()
    add(3)
    assert known() == {"Colour 1", "Colour 3"}


def test_what_has_been_seen_is_not_told_again_and_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_AHEAD", 2)
    forget_columns()
    get_columns()
    begun, end = threading.Event(), threading.Event()

    def old() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
            begun.set()
            assert end.wait(20)

    thread = elsewhere(old)
    assert begun.wait(20)
    for number in range(5):
        add(number)
    first = get_columns()
    assert isinstance(first.seen, changes.Seen)
    assert len(first.seen.ahead) == 5, "nobody knows what the old transaction will still write"
    assert get_columns() is first
    end.set()
    thread.join()
    second = get_columns()
    assert isinstance(second.seen, changes.Seen)
    assert not second.seen.ahead
    assert second.rows is first.rows, "and nothing was read again"


def test_an_empty_table_is_noticed() -> None:
    forget_columns()
    add(1)
    assert known() == {"Colour 1"}
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE catalog_product CASCADE")
    assert known() == set()
