"""The log of changes where many write at once (PostgreSQL): who began first may end last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from catalog import changes, columnar
from catalog.columnar import forget_columns, get_columns
from catalog.models import Product
from tests.processes import PATIENCE_S, until

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


def ahead(columns: columnar.Columns) -> frozenset[int]:
    """What it has seen of transactions before which others had not ended."""
    assert isinstance(columns.seen, changes.Seen)
    return columns.seen.ahead


def test_what_was_written_first_and_committed_last_is_seen() -> None:
    forget_columns()
    written, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            add(1)
            written.set()
            assert commit.wait(PATIENCE_S)

    thread = elsewhere(slow)
    assert written.wait(PATIENCE_S)
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
            assert end.wait(PATIENCE_S)

    thread = elsewhere(old)
    assert begun.wait(PATIENCE_S)
    for number in range(5):
        add(number)
    first = get_columns()
    assert len(ahead(first)) == 5, "nobody knows what the old transaction will still write"
    assert get_columns() is first
    end.set()
    thread.join()
    monkeypatch.setattr(changes, "MOST_AHEAD", 0)
    until(lambda: not ahead(get_columns()))  # other databases of the server have transactions too
    second = get_columns()
    assert second.rows is first.rows, "and nothing was read again"


def test_an_empty_table_is_noticed() -> None:
    forget_columns()
    add(1)
    assert known() == {"Colour 1"}
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE catalog_product CASCADE")
    assert known() == set()


def of_another_server(ahead: int) -> None:
    """The log as a dump brings it here: its transactions are those of the server that it was dumped from."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {changes.TABLE} SET transaction = ((pg_current_xact_id()::text)::bigint + %s)::text::xid8",  # noqa: S608
            [ahead],
        )


@pytest.mark.parametrize("ahead", [3, 1_000_000, 2**33])
def test_what_was_restored_from_another_server_is_settled_and_what_follows_is_seen_once_each(ahead: int) -> None:
    for number in range(50):
        add(number)
    of_another_server(ahead)
    seen = changes.newest()
    assert not seen.ahead
    news = changes.since(seen, 10)
    assert news is not None
    assert not news.products
    for number in range(50, 60):  # on the way, the other server's numbers come to be this one's own
        add(number)
        news = changes.since(seen, 1)
        assert news is not None, "nobody has to read everything anew"
        (pk,) = news.products
        assert Product.objects.get(pk=pk).product_id == str(number)
        own = number - 49  # as many as others' transactions, on the same server, let nobody be sure of
        assert len(news.seen.ahead) <= own
        assert len(changes.newest().ahead) <= own
        seen = news.seen


def test_what_was_restored_does_not_hide_who_ends_late() -> None:
    add(1)
    of_another_server(1_000_000)
    forget_columns()
    get_columns()
    written, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            add(2)
            written.set()
            assert commit.wait(PATIENCE_S)

    thread = elsewhere(slow)
    assert written.wait(PATIENCE_S)
    add(3)
    assert known() == {"Colour 1", "Colour 3"}
    commit.set()
    thread.join()
    assert known() == {"Colour 1", "Colour 2", "Colour 3"}


def test_one_s_own_changes_are_seen_before_they_are_committed() -> None:
    add(1)
    of_another_server(2)
    seen = changes.newest()
    with transaction.atomic():
        add(2)
        news = changes.since(seen, 10)
        assert news is not None
        assert len(news.products) == 1
        again = changes.since(news.seen, 10)
        assert again is not None
        assert not again.products
        with transaction.atomic():
            add(3)
        further = changes.since(again.seen, 10)
        assert further is not None
        assert len(further.products) == 1


def test_who_has_seen_the_other_server_goes_on_here() -> None:
    """A process, or columns on disk, from before the move: their horizon is the other server's."""
    for number in (1, 2):
        add(number)
    of_another_server(1_000_000)
    here = changes.newest()
    there = changes.Seen(here.version, here.token, here.horizon + 1_000_000)
    add(3)
    news = changes.since(there, 10)
    assert news is not None
    assert len(news.products) == 1
    assert news.seen.horizon < there.horizon


def test_long_after_the_last_change_no_more_is_asked_for_than_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_BEHIND", 5)
    forget_columns()
    add(1)
    first = get_columns()
    assert isinstance(first.seen, changes.Seen)
    old = replace(first, seen=replace(first.seen, horizon=1))
    second = columnar._brought_up_to_date(old)
    assert second is not None
    assert isinstance(second.seen, changes.Seen)
    assert second.seen.horizon >= first.seen.horizon
    assert second.ids is first.ids


def test_a_large_log_of_another_server_is_not_gone_through() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {changes.TABLE} (product) SELECT generate_series(1, 50000)")
        of_another_server(1_000_000)
        cursor.execute(f"ANALYZE {changes.TABLE}")
    seen = changes.newest()
    with CaptureQueriesContext(connection) as asked:
        news = changes.since(seen, 10)
        assert news is not None
        assert not news.products
        assert changes.newest().version == seen.version
    for query in asked.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
            assert most_rows(cursor.fetchone()[0][0]["Plan"]) < 100, query["sql"]


def most_rows(plan: dict[str, Any]) -> int:
    """The most that any step of it has looked at."""
    here = int(plan["Actual Rows"]) + int(plan.get("Rows Removed by Filter", 0))
    return max([here, *map(most_rows, plan.get("Plans", []))])
