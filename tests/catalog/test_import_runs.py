"""Every import leaves a line that says what became of it, also when it could not say so itself."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from catalog.importing import runs, service
from catalog.importing.plan import Plan
from catalog.importing.runs import imports_dir, prune_rejects, rejects_path, settle_interrupted, sha256_of
from catalog.importing.service import ImportOptions, OutcomeChangedError, import_catalogue
from catalog.models import ImportRun, Product
from tests.catalog.material import row, write_csv
from tests.processes import PATIENCE_S, ROOT, environment, run_python

pytestmark = pytest.mark.django_db
State = ImportRun.State


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "shop.csv", [row("1"), row("2", "=cmd()"), row("3", "", Colour="=1")])


def counts(run: ImportRun) -> tuple[int, ...]:
    return run.rows, run.created, run.updated, run.unchanged, run.rejected, run.missing


def test_it_works(shop: Path) -> None:
    call_command("import_fashion", str(shop), "--json")
    write_csv(shop, [row("1", "Other")])
    call_command("import_fashion", str(shop), "--missing", "hide", "--json")
    second, first = ImportRun.objects.all()
    assert (first.file_name, first.who, first.options, first.state) == ("shop.csv", "", {}, State.DONE)
    assert counts(first) == (3, 2, 0, 0, 1, 0)
    assert counts(second) == (1, 0, 1, 0, 0, 1)
    assert second.options == {"missing": "hide"}
    assert second.sha256 == hashlib.sha256(shop.read_bytes()).hexdigest()
    assert second.seconds > 0


def test_rejects_are_kept_with_formulas_neutralised(shop: Path) -> None:
    import_catalogue(ImportOptions(shop))
    run = ImportRun.objects.get()
    with rejects_path(run).open(encoding="utf-8-sig", newline="") as file:
        (reject,) = csv.DictReader(file)
    assert (reject["line"], reject["reason"], reject["Colour"]) == ("4", "ProductTitle is empty.", "'=1")
    write_csv(shop, [row("1")])
    import_catalogue(ImportOptions(shop))
    assert not rejects_path(ImportRun.objects.first() or run).exists()


def test_a_dry_run_and_a_file_that_is_not_there_leave_no_line(shop: Path) -> None:
    import_catalogue(ImportOptions(shop, dry_run=True))
    with pytest.raises(CommandError, match="no such file"):
        call_command("import_fashion", str(shop.with_name("nowhere.csv")))
    assert not ImportRun.objects.exists()


def test_a_file_that_cannot_be_imported_is_a_failed_import(shop: Path) -> None:
    shop.write_text("ProductId;ProductTitle\n")
    with pytest.raises(CommandError):
        call_command("import_fashion", str(shop))
    run = ImportRun.objects.get()
    assert run.state == State.FAILED
    assert "save the file with commas" in run.error


def test_strict_is_a_failed_import_with_its_rejects(shop: Path) -> None:
    import_catalogue(ImportOptions(shop, strict=True))
    run = ImportRun.objects.get()
    assert (run.state, run.error) == (State.FAILED, "1 of 3 rows are rejected: nothing was imported.")
    assert rejects_path(run).is_file()


@pytest.mark.parametrize(
    ("trouble", "state", "error"),
    [
        (KeyboardInterrupt(), State.INTERRUPTED, ""),
        (DatabaseError("disk full"), State.FAILED, "disk full"),
        (OSError(), State.FAILED, "OSError"),
    ],
)
def test_what_stops_an_import_is_noted(
    shop: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException, state: str, error: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr(service, "upsert", stop)
    with pytest.raises(type(trouble)):
        import_catalogue(ImportOptions(shop))
    run = ImportRun.objects.get()
    assert (run.state, run.error) == (state, error)
    assert list(imports_dir().glob("*.lock")) == []


KILLED = """
import os, signal, sys
import django
django.setup()
from pathlib import Path
from catalog.importing.service import ImportOptions, import_catalogue

def wait(progress):
    print("running", flush=True)
    sys.stdin.read()

import_catalogue(ImportOptions(Path(sys.argv[1])), wait)
"""


def test_an_import_that_is_killed_is_shown_as_interrupted(shop: Path, tmp_path: Path) -> None:
    env = environment(tmp_path / "killed")
    run_python("manage.py", "migrate", "-v0", env=env)
    look = (
        "import django; django.setup(); from catalog.importing.runs import settle_interrupted; settle_interrupted();"
        "from catalog.models import ImportRun; print(ImportRun.objects.get().state)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(shop)], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        assert run_python("-c", look, env=env).stdout == "running\n"
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    assert run_python("-c", look, env=env).stdout == "interrupted\n"
    assert list((tmp_path / "killed" / "imports").glob("*.lock")) == []


def test_a_run_that_ends_while_it_is_looked_at_stays_as_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ImportRun.objects.create(file_name="a.csv")
    lock = runs._lock

    def ends_first(looked_at: ImportRun) -> Any:
        ImportRun.objects.update(state=State.DONE)
        return lock(looked_at)

    monkeypatch.setattr(runs, "_lock", ends_first)
    settle_interrupted()
    run.refresh_from_db()
    assert run.state == State.DONE


def test_files_of_rejects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [ImportRun.objects.create(file_name=str(number)) for number in range(5)]
    paths = [rejects_path(run) for run in made]
    now = time.time()

    def fill() -> None:
        for age, path in enumerate(paths):
            path.write_bytes(b"x" * 10)
            os.utime(path, (now - age, now - age))

    def left() -> list[int]:
        return [age for age, path in enumerate(paths) if path.exists()]

    fill()
    prune_rejects()
    assert left() == [0, 1, 2, 3, 4]
    os.utime(paths[3], (now - 181 * 24 * 3600,) * 2)
    prune_rejects()
    assert left() == [0, 1, 2, 4]
    monkeypatch.setattr(runs, "KEPT_REJECTS", 3)
    prune_rejects()
    assert left() == [0, 1, 2]
    monkeypatch.setattr(runs, "KEPT_REJECTS_BYTES", 25)
    prune_rejects()
    assert left() == [0, 1]
    monkeypatch.setattr(runs, "KEPT_REJECTS_BYTES", 5)
    prune_rejects()
    assert left() == [0]  # however large, the youngest stays


# --- what was agreed to -------------------------------------------------------------------------
def planned(path: Path, **options: Any) -> Plan:
    plan = Plan(sha256_of(path))
    import_catalogue(ImportOptions(path, dry_run=True, **options), plan=plan)
    return plan


def test_a_plan_tells_what_a_run_does_and_binds_it(shop: Path) -> None:
    import_catalogue(ImportOptions(shop))
    Product.objects.create(product_id="gone", title="Not in the file")
    Product.objects.filter(product_id="2").update(colour="By hand")
    write_csv(shop, [row("1", Colour="Red", Price="9"), row("2", "Two"), row("4")], [*row("1"), "Price"])
    plan = planned(shop, missing="hide")
    assert [(each.product_id, each.line) for each in plan.changed] == [("1", 2), ("2", 3)]
    assert plan.changed[0].changes == [("Colour", "Blue", "Red"), ("Price", "", "9")]
    assert plan.changed[1].changes == [("ProductTitle", "=cmd()", "Two")]  # the colour is by hand and stays
    assert plan.columns == {"Colour": 1, "Price": 1, "ProductTitle": 1}
    assert [each.values[0] for each in plan.created] == ["4"]
    assert plan.missing == ["Not in the file (gone)"]
    report = import_catalogue(ImportOptions(shop, missing="hide", agreed=plan.digest()))
    assert (report.created, report.updated, report.missing) == (1, 2, 1)
    assert planned(shop, missing="hide").digest() != plan.digest()


@pytest.mark.parametrize("missing", ["keep", "hide"])
def test_what_is_no_longer_as_agreed_does_not_happen_at_all(shop: Path, missing: Any) -> None:
    import_catalogue(ImportOptions(shop))
    write_csv(shop, [row("1", Colour="Red"), row("4")])
    plan = planned(shop, missing=missing)
    Product.objects.filter(product_id="1").update(colour="Green")
    before = list(Product.objects.order_by("pk").values())
    with pytest.raises(OutcomeChangedError, match="something else now than was shown"):
        import_catalogue(ImportOptions(shop, missing=missing, agreed=plan.digest()))
    assert list(Product.objects.order_by("pk").values()) == before
    run = ImportRun.objects.first()
    assert run is not None
    assert (run.state, counts(run)) == (State.FAILED, (2, 0, 0, 0, 0, 0))


def test_a_change_that_makes_no_difference_to_the_plan_is_none(shop: Path) -> None:
    import_catalogue(ImportOptions(shop))
    write_csv(shop, [row("1", Colour="Red")])
    plan = planned(shop)
    Product.objects.filter(product_id="1").update(title="By hand")
    import_catalogue(ImportOptions(shop, agreed=plan.digest()))
    assert Product.objects.values_list("title", "colour").get(product_id="1") == ("By hand", "Red")


def test_another_file_is_another_plan(shop: Path) -> None:
    first = planned(shop)
    write_csv(shop, [row("1"), row("2", "=cmd(1)"), row("3", "", Colour="=1")])
    assert planned(shop).digest() != first.digest()
    with pytest.raises(OutcomeChangedError):
        import_catalogue(ImportOptions(shop, agreed=first.digest()))
    assert not Product.objects.exists()


def test_a_product_that_comes_back_is_part_of_the_plan(shop: Path) -> None:
    import_catalogue(ImportOptions(shop))
    path = write_csv(shop.with_name("other.csv"), [row("9")])
    import_catalogue(ImportOptions(path, missing="hide"))
    (changed, _) = planned(shop).changed
    assert (changed.back, changed.changes) == (True, [])
