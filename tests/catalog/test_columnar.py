"""The catalogue's columns say what the database says, whatever has happened to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from catalog import changes, columnar
from catalog.columnar import forget_columns, get_columns
from catalog.columns import ATTRIBUTES
from catalog.models import Product

Add = Callable[..., Product]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def begun_anew() -> Iterator[None]:
    forget_columns()
    yield
    forget_columns()


def assert_as_the_database_says() -> None:
    columns = get_columns()
    visible = set(Product.objects.visible().values_list("pk", flat=True))
    assert set(columns.ids[columns.visible].tolist()) == visible
    assert (np.diff(columns.ids) > 0).all()
    known = dict(Product.objects.values_list("pk", "embedding_row"))
    assert {key: row for key, row in zip(columns.ids.tolist(), columns.rows.tolist(), strict=True) if row >= 0} == {
        key: row for key, row in known.items() if row is not None
    }
    for name in ATTRIBUTES:
        wanted: dict[str, int] = {}
        for value in Product.objects.visible().exclude(**{name: ""}).values_list(name, flat=True):
            wanted[value] = wanted.get(value, 0) + 1
        assert columns.counts(name, columns.found({})) == wanted
        for value in wanted:
            found = columns.ids[columns.matching({name: (value,)})]
            assert set(found.tolist()) == set(
                Product.objects.visible().filter(**{name: value}).values_list("pk", flat=True)
            )


def test_every_kind_of_change_is_in_them(add: Add) -> None:
    assert_as_the_database_says()
    first, second, third = (add(str(n), colour="Red", gender="Men", embedding_row=n) for n in (1, 2, 3))
    assert_as_the_database_says()
    Product.objects.filter(pk=first.pk).update(colour="Petrol")  # sends no signal
    assert_as_the_database_says()
    second.hidden = True
    second.save()
    assert_as_the_database_says()
    Product.objects.bulk_create([Product(product_id=f"b{n}", title="x", usage=f"u{n}") for n in range(5)])
    Product.objects.filter(pk=third.pk).update(embedding_row=9)
    assert_as_the_database_says()
    first.delete()
    Product.objects.filter(usage="u1").delete()
    assert_as_the_database_says()
    with connection.cursor() as cursor:  # another program
        cursor.execute("UPDATE catalog_product SET gender = 'Women' WHERE product_id = 'b3'")
    assert_as_the_database_says()


def test_a_key_given_by_hand_between_others_reads_everything_anew(add: Add) -> None:
    add("1", id=100)
    add("2", id=300)
    get_columns()
    add("3", id=200, colour="Red")
    assert_as_the_database_says()


def test_what_is_rolled_back_has_not_happened(add: Add) -> None:
    add("1", colour="Red")
    with transaction.atomic():
        add("2", colour="Blue")
        assert_as_the_database_says()
        transaction.set_rollback(True)
    assert_as_the_database_says()
    add("3", colour="Green")  # has the version that the one rolled back had
    assert_as_the_database_says()


def test_unchanged_they_cost_one_small_query_and_changed_two(add: Add) -> None:
    product = add("1", colour="Red")
    get_columns()
    for change, queries in ((lambda: None, 1), (lambda: Product.objects.filter(pk=product.pk).update(usage="Any"), 2)):
        change()
        with CaptureQueriesContext(
            connection,
        ) as asked:
            get_columns()
        assert len(asked) == queries


def test_columns_that_no_change_touches_are_shared_and_old_ones_stay_as_they_were(add: Add) -> None:
    product = add("1", colour="Red", embedding_row=1)
    before = get_columns()
    Product.objects.filter(pk=product.pk).update(colour="Blue")
    after = get_columns()
    assert after.rows is before.rows
    assert after.visible is before.visible
    assert before.matching({"colour": ("Red",)}).tolist() == [True]
    assert after.matching({"colour": ("Red",)}).tolist() == [False]


def test_a_title_that_changes_is_found_by_its_new_words(add: Add) -> None:
    product = add("1", title="Navy heels")
    assert get_columns().found({}, "navy").count == 1
    Product.objects.filter(pk=product.pk).update(title="Red heels")
    assert get_columns().found({}, "navy").count == 0
    assert get_columns().found({}, "red he").count == 1


def test_more_values_than_a_byte_holds(add: Add) -> None:
    Product.objects.bulk_create([Product(product_id=f"n{n}", title="x", usage=f"u{n}") for n in range(250)])
    assert get_columns().codes["usage"].dtype == np.uint8
    Product.objects.bulk_create([Product(product_id=f"m{n}", title="x", usage=f"v{n}") for n in range(250)])
    assert get_columns().codes["usage"].dtype == np.uint16
    assert_as_the_database_says()


def test_the_log_is_bounded_and_whoever_is_too_far_behind_reads_anew(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "MOST_NEWS", 3)
    product = add("1")
    get_columns()
    for number in range(10):
        Product.objects.filter(pk=product.pk).update(usage=f"u{number}")
    assert_as_the_database_says()
    entry = next(statement for statement in changes.CREATE[connection.vendor] if "_insert" in statement)
    assert f"- {changes.KEPT}" in entry


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any, add: Add) -> Path:
    """Columns of a few products on disk, as those of many are."""
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(columnar, "STORED_FROM", 1)
    add("1", colour="Red", embedding_row=1)
    add("2", colour="Blue", embedding_row=2)
    get_columns()
    forget_columns()
    (folder,) = (tmp_path / "columns").glob("[0-9]*")
    return folder


def test_what_one_process_has_read_another_one_maps(stored: Path, add: Add) -> None:
    Product.objects.filter(product_id="1").update(colour="Green")
    columns = get_columns()
    assert isinstance(columns.ids, np.memmap)
    assert_as_the_database_says()
    add("3", colour="Red")
    assert_as_the_database_says()


def test_columns_of_another_state_of_the_database_are_not_taken(stored: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {changes.TABLE} SET token = token + 1")  # noqa: S608
    columns = get_columns()
    assert not isinstance(columns.ids, np.memmap)
    assert_as_the_database_says()


@pytest.mark.parametrize("name", ["ids.npy", "values.json", "codes-colour.npy"])
def test_damaged_columns_are_read_anew(stored: Path, name: str) -> None:
    (stored / name).write_bytes(b"x")
    assert_as_the_database_says()


def test_a_folder_that_cannot_be_written_to_only_costs_time(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path, add: Add
) -> None:
    monkeypatch.setattr(columnar, "STORED_FROM", 1)
    settings.DATA_DIR = tmp_path / "file"
    (tmp_path / "file").write_text("in the way")
    add("1", colour="Red")
    assert_as_the_database_says()
