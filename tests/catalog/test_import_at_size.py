"""What makes imports of a million rows quick, held to its promises on a few."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from catalog import changes
from catalog.fields import RowWriter, row_text
from catalog.filters import order_of
from catalog.importing import service, upsert
from catalog.importing.service import ImportOptions, ImportReport, import_catalogue
from catalog.models import Product
from tests.catalog.material import COLUMNS, row, write_csv
from tests.processes import run_python


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Path:
    return write_csv(tmp_path / "shop.csv", [row("1"), row("2"), row("3")])


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    return report.created, report.updated, report.unchanged, report.rejected


def run(path: Path, **options: Any) -> tuple[int, int, int, int]:
    return counts(import_catalogue(ImportOptions(path, **options)))


# --- rows as text -------------------------------------------------------------------------------
@given(st.dictionaries(st.text(), st.text(), min_size=2))
def test_a_row_has_one_text_however_it_is_written(values: dict[str, str]) -> None:
    assert RowWriter(list(values))(list(values.values())) == row_text(values)
    assert row_text(dict(reversed(values.items()))) == row_text(values)
    assert json.loads(row_text(values)) == values


def test_a_products_row_is_a_dict_to_readers_and_text_in_the_database(shop: Path) -> None:
    run(shop)
    assert Product.objects.get(product_id="2").source == row("2")
    with connection.cursor() as cursor:
        cursor.execute("SELECT source FROM catalog_product WHERE product_id = '2'")
        assert cursor.fetchone() == (row_text(row("2")),)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no statement that many rows come into")
def test_changed_rows_are_one_statement_and_each_gets_its_own_values(shop: Path) -> None:
    run(shop)
    seen = changes.newest()
    titles = {"1": "Back \\N slash", "2": "Größe 38, “nice”", "3": "A shirt"}
    write_csv(shop, [row(number, title) for number, title in titles.items()])
    with CaptureQueriesContext(connection) as asked:
        assert run(shop) == (0, 2, 1, 0)
    updates = [query["sql"] for query in asked.captured_queries if 'UPDATE "catalog_product" AS' in query["sql"]]
    assert len(updates) == 1
    assert {product.product_id: product.title for product in Product.objects.all()} == titles
    news = changes.since(seen, 10)
    assert news is not None
    assert len(news.products) == 2


def test_columns_in_another_order_are_the_same_rows(shop: Path) -> None:
    run(shop)
    write_csv(shop, [row("1"), row("2"), row("3")], COLUMNS[::-1])
    assert run(shop) == (0, 0, 3, 0)


def test_a_row_kept_in_another_spelling_is_no_change_and_then_spelt_like_the_others(shop: Path) -> None:
    """As databases have them that were made before rows were kept as text."""
    run(shop)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE catalog_product SET source = %s WHERE product_id = '2'", [json.dumps(row("2"))])
    assert len(upsert.known_rows()) == 3
    before = upsert.known_rows()
    assert run(shop) == (0, 0, 3, 0)
    assert len(upsert.known_rows() - before) == 1


# --- rows that the catalogue has ----------------------------------------------------------------
def test_a_file_that_is_known_is_read_once_and_not_looked_up(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(shop)
    monkeypatch.setattr(service, "upsert", None)  # calling it would fail
    seen = []
    report = import_catalogue(ImportOptions(shop), lambda progress: seen.append((progress.done, progress.total)))
    assert counts(report) == (0, 0, 3, 0)
    assert seen[-1] == (3, 3)


def test_only_what_is_not_known_is_written(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(shop)
    written: list[str] = []

    def note(rows: Any, **options: Any) -> upsert.Batch:
        written.extend(row.product_id for row in rows)
        return upsert.upsert(rows, **options)

    monkeypatch.setattr(service, "upsert", note)
    write_csv(shop, [row("1"), row(""), row("2", Colour="Red"), row("3"), row("4")])
    assert run(shop) == (1, 1, 2, 1)
    assert written == ["2", "4"]


def test_a_product_that_was_deleted_or_renamed_by_hand_is_made_again(shop: Path) -> None:
    run(shop)
    Product.objects.filter(product_id="1").delete()
    Product.objects.filter(product_id="2").update(product_id="own")
    assert run(shop) == (2, 0, 1, 0)


def test_of_repeated_rows_the_first_counts_though_the_second_is_the_known_one(shop: Path) -> None:
    run(shop)
    write_csv(shop, [row("1", "New"), row("1"), row("2"), row("3")])
    assert run(shop) == (0, 1, 2, 1)
    assert Product.objects.get(product_id="1").title == "New"


# --- others write meanwhile ---------------------------------------------------------------------
@pytest.fixture
def overtake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], int], None]:
    """Lets somebody do something between our looking and our lock, so many times."""

    def arrange(what: Callable[[], object], times: int) -> None:
        look, left = upsert._compare, [what] * times

        def looked(*arguments: Any) -> Any:
            found = look(*arguments)
            if left:
                left.pop()()
            return found

        monkeypatch.setattr(upsert, "_compare", looked)

    return arrange


def test_a_product_made_while_a_first_import_runs_is_not_overwritten_blindly(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_before(rows: Any, **options: Any) -> upsert.Batch:
        Product.objects.create(product_id="2", title="By hand", source=row("2", "Older"))  # type: ignore[misc]
        assert options["all_new"]
        return upsert.upsert(rows, **options)

    monkeypatch.setattr(service, "upsert", asked_before)
    assert run(shop) == (2, 1, 0, 0)


def test_a_product_that_somebody_else_has_just_made_is_not_overwritten_blindly(shop: Path, overtake: Any) -> None:
    Product.objects.create(product_id="4", title="Not in the file")
    theirs: dict[str, Any] = {"title": "By hand", "source": row("2", "Older")}
    overtake(lambda: Product.objects.create(product_id="2", **theirs), 1)
    assert run(shop) == (2, 1, 0, 0)
    product = Product.objects.get(product_id="2")
    assert (product.title, product.source) == ("A shirt", row("2"))


def test_a_product_that_somebody_else_has_just_deleted_is_made_again(shop: Path, overtake: Any) -> None:
    run(shop)
    write_csv(shop, [row("1", "New"), row("2"), row("3")])
    overtake(lambda: Product.objects.filter(product_id="1").delete(), 1)
    assert run(shop) == (1, 0, 2, 0)


def test_an_import_that_is_overtaken_for_ever_gives_up(shop: Path, overtake: Any) -> None:
    def toggle() -> None:
        if not Product.objects.filter(product_id="2").delete()[0]:
            Product.objects.create(product_id="2", title="Theirs")

    Product.objects.create(product_id="4", title="Not in the file")
    overtake(toggle, 1000)
    with pytest.raises(OperationalError, match="others keep creating or deleting"):
        run(shop)


# --- indexes ------------------------------------------------------------------------------------
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's plans")
@pytest.mark.django_db
def test_pages_by_title_and_addresses_have_their_indexes() -> None:
    order = order_of("title")
    assert order is not None
    plan = order.sorted(Product.objects.visible())[:24].explain()
    assert "USING INDEX product_title" in plan
    assert "TEMP B-TREE" not in plan
    by_address = Product.objects.visible().with_image().filter(image_url="https://shop.example/1.jpg")
    assert "product_image_url (image_url=?)" in by_address.order_by("id")[:1].explain()


@pytest.fixture
def migrate_catalog(transactional_db: None) -> Iterator[Callable[..., None]]:
    def migrate(name: str = "") -> None:
        """To the youngest, unless another is named."""
        executor = MigrationExecutor(connection)
        executor.migrate([("catalog", name)] if name else executor.loader.graph.leaf_nodes())

    yield migrate
    migrate()


def test_products_survive_the_migrations_in_both_directions(shop: Path, migrate_catalog: Callable[..., None]) -> None:
    run(shop)
    before = list(Product.objects.values())
    migrate_catalog("0001_initial")
    migrate_catalog()
    assert list(Product.objects.values()) == before
    assert run(shop) == (0, 0, 3, 0)


# --- the bench ----------------------------------------------------------------------------------
def test_the_bench_runs_as_a_command_and_leaves_the_users_data_alone(tmp_path: Path) -> None:
    done = run_python(
        *("bench/import_csv.py", "--rows", "300", "--rounds", "1", "--json"),
        env={"PATH": "", "TMPDIR": str(tmp_path), "VITRINE_DATA_DIR": str(tmp_path / "users")},
    )
    report = json.loads(done.stdout)
    assert report["rows"] == 300
    assert min(report[name] for name in ("ratio", "reimport_speedup")) > 0
    assert set(report["peak_mib"]) == {"raw", "raw_batched", "wordless", "import", "reimport", "changed"}
    assert list(tmp_path.iterdir()) == []
