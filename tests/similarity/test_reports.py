"""Reports: every build that is published is judged, and its figures are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from catalog.models import Product
from similarity import evaluation, reports
from similarity.building import build_index
from similarity.builds import builds_dir, current_manifest
from similarity.evaluation import evaluate_similarity
from similarity.reports import KEPT_REPORTS, recent_reports, report_on, store_report, stored_report
from tests.similarity.conftest import AddProduct


@pytest.fixture
def shirts(add_product: AddProduct) -> dict[str, Product]:
    """Twelve products in two kinds, which their colours tell apart."""
    return {
        f"p{at}": add_product(
            f"p{at}", (200, 10 * at, 0) if at % 2 else (0, 10 * at, 200), product_type="Shirts" if at % 2 else "Shoes"
        )
        for at in range(12)
    }


def test_a_build_is_judged_when_it_is_published(shirts: dict[str, Product], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("build_index")
    assert "precision@10 (plain network) product_type" in capsys.readouterr().out
    manifest = current_manifest()
    report = stored_report(manifest.id)
    assert report is not None
    assert (report["build"], report["model"], report["k"], report["products"]) == (manifest.id, "toy", 10, 12)
    assert (report["halves"], report["sampled"]) == (3, None)
    assert set(report["labels"]) == set(report["baseline"]["labels"]) >= {"product_type", "product_type+gender"}
    assert "folds" not in report
    assert "classes" not in report


def test_what_has_not_changed_is_not_judged_again(shirts: dict[str, Product], monkeypatch: Any) -> None:
    call_command("build_index")
    monkeypatch.setattr(reports, "evaluate_build", None)
    call_command("build_index", "--json")
    assert len(recent_reports()) == 1


def test_no_report_judges_nothing(shirts: dict[str, Product]) -> None:
    call_command("build_index", "--no-report")
    assert stored_report(current_manifest().id) is None
    assert recent_reports() == []


def test_trouble_with_the_report_leaves_the_build_published(
    shirts: dict[str, Product], monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(reports, "evaluate_build", broken)
    call_command("build_index")
    assert stored_report(current_manifest().id) is None
    assert "could not be judged" in caplog.text


def test_a_catalogue_too_small_to_judge_is_no_trouble(
    add_product: AddProduct, caplog: pytest.LogCaptureFixture
) -> None:
    add_product("alone", (1, 2, 3))
    call_command("build_index")
    assert recent_reports() == []
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_report_outlives_its_build_and_the_oldest_go(shirts: dict[str, Product]) -> None:
    build_index()
    found = evaluate_similarity(2)
    ids = [f"2026010{at // 24}T{at % 24:02}0000-000000" for at in range(KEPT_REPORTS + 5)]
    for build_id in ids:
        store_report(build_id, found)
    assert [report["build"] for report in recent_reports(100)] == ids[:4:-1]
    assert [report["build"] for report in recent_reports(2)] == ids[:-3:-1]
    assert stored_report(ids[0]) is None


def test_old_builds_go_and_reports_do_not_count_as_one(shirts: dict[str, Product]) -> None:
    for _ in range(5):
        call_command("build_index", "--full")
    assert len(list(builds_dir().glob("2*"))) == 3
    assert len(recent_reports()) == 5


@pytest.mark.parametrize("build_id", ["20260101T000000-000000", "../CURRENT", "", "."])
def test_there_is_no_report_of_an_unknown_build(build_id: str) -> None:
    assert stored_report(build_id) is None


def test_a_damaged_report_is_passed_over(shirts: dict[str, Product]) -> None:
    call_command("build_index")
    (builds_dir() / "reports" / "20990101T000000-000000.json").write_text('{"build": ')
    assert [report["build"] for report in recent_reports()] == [current_manifest().id]


def test_of_a_large_catalogue_a_fixed_sample_is_judged(shirts: dict[str, Product], monkeypatch: Any) -> None:
    call_command("build_index")
    monkeypatch.setattr(evaluation, "QUICK_PRODUCTS", 10)
    monkeypatch.setattr(evaluation, "QUICK_QUERIES", 3)
    report = report_on(current_manifest().id)
    assert report is not None
    assert (report["products"], report["sampled"]) == (10, 3)
    scores = report["labels"]["product_type"]
    assert scores["queries"] == 3 * report["halves"]
    assert scores["left_out"] == 0
    again = report_on(current_manifest().id)
    assert again == {**report, "created_at": again and again["created_at"]}


def test_the_file_is_what_the_report_says(shirts: dict[str, Product]) -> None:
    build_index()
    found = replace(evaluate_similarity(2), sampled=7)
    report = store_report("20260101T000000-000000", found)
    path = Path(builds_dir()) / "reports" / "20260101T000000-000000.json"
    assert json.loads(path.read_text()) == report == stored_report("20260101T000000-000000")
    assert report["labels"] == found.to_json()["labels"]
    assert report["sampled"] == 7
