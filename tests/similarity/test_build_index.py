"""`manage.py build_index`, as it is run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.building import chosen_model
from similarity.serving import get_index
from tests.conftest import DEMO_CATALOGUE
from tests.processes import ROOT, environment, run_python, until
from tests.similarity.conftest import AddProduct, give_picture, png

BUILD = ("build_index", "--model", "efficientnet-lite0")


def test_it_prints_the_promised_json(reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("build_index", "--json")
    report = json.loads(capsys.readouterr().out)
    assert {key: report[key] for key in ("model", "products", "embedded", "reused", "failed", "looks")} == {
        "model": "toy",
        "products": 4,
        "embedded": 4,
        "reused": 0,
        "failed": 0,
        "looks": 4,
    }
    assert {"index", "dimension", "seconds", "images_per_s"} <= set(report)


def test_only_what_is_new_is_embedded(
    reds_and_blues: dict[str, Product], add_product: AddProduct, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("build_index")
    add_product("new", (1, 2, 3))
    capsys.readouterr()
    call_command("build_index", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["embedded"], report["reused"], report["looks"]) == (1, 4, 5)


def test_full_embeds_everything_anew(reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("build_index")
    capsys.readouterr()
    call_command("build_index", "--full", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["embedded"], report["reused"], report["looks"]) == (4, 0, 4)


def test_a_broken_picture_is_counted_told_to_the_admin_and_mended_by_the_next_import(
    reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(reds_and_blues["rose"].image.path).write_bytes(b"no picture")
    call_command("build_index", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["embedded"], report["failed"], report["looks"]) == (3, 1, 3)
    rose = Product.objects.get(product_id="rose")
    assert "not a JPEG" in rose.image_error
    give_picture(rose, png((200, 60, 60)))
    assert rose.image_error == ""
    call_command("build_index", "--json")
    assert json.loads(capsys.readouterr().out)["looks"] == 4


def test_an_empty_catalogue_makes_an_empty_index(db: None) -> None:
    call_command("build_index")
    assert get_index().count == 0


def test_another_model_makes_another_space_and_the_former_stays(
    reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("build_index")
    call_command("build_index", "--model", "efficientnet-lite0")
    capsys.readouterr()
    call_command("build_index", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["embedded"], report["reused"]) == ("toy", 0, 4)


def test_the_model_is_the_settings_or_the_published_one_or_dinov2(
    reds_and_blues: dict[str, Product], settings: Any
) -> None:
    settings.SIMILARITY = {**settings.SIMILARITY, "MODEL": ""}
    assert chosen_model() == "facebook/dinov2-small"
    call_command("build_index", "--model", "toy")
    assert chosen_model() == "toy"
    settings.SIMILARITY = {**settings.SIMILARITY, "MODEL": "efficientnet-lite0"}
    assert chosen_model() == "efficientnet-lite0"


def test_a_model_that_cannot_be_had_stops_the_command_and_keeps_the_index(
    reds_and_blues: dict[str, Product],
) -> None:
    call_command("build_index")
    with pytest.raises(CommandError, match=r"a folder.*efficientnet-lite0"):
        call_command("build_index", "--model", "facebook/dinov2-small")
    assert get_index().count == 4


def test_a_folder_is_remembered_by_its_whole_name(reds_and_blues: dict[str, Product], monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(CommandError, match=re.escape(f"{ROOT / 'docs'} has no config.json")):
        call_command("build_index", "--model", "docs")


def test_colour_is_no_model_of_its_own(reds_and_blues: dict[str, Product]) -> None:
    with pytest.raises(CommandError, match="colour is a part of every look"):
        call_command("build_index", "--model", "colour")


def test_without_tables_the_next_step_is_named(tmp_path: Path) -> None:
    done = run_python("manage.py", *BUILD, env=environment(tmp_path), check=False)
    assert done.returncode == 1
    assert "manage.py migrate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_killed_while_embedding_it_goes_on_from_there(tmp_path: Path) -> None:
    """Killed for good, in the middle of the real model's work on the real demo pictures."""

    def run(*arguments: str) -> str:
        return run_python("manage.py", *arguments, env=environment(tmp_path)).stdout

    run("migrate", "-v0")
    run("import_fashion", str(DEMO_CATALOGUE / "fashion.csv"), "--images", str(DEMO_CATALOGUE / "images"))
    building = subprocess.Popen(
        [sys.executable, "manage.py", *BUILD],
        cwd=ROOT,
        env=environment(tmp_path),
    )
    try:
        keys = "spaces/colour*/keys-*.bin"
        until(lambda: any(path.stat().st_size for path in tmp_path.glob(keys)) or building.poll() is not None)
        assert building.poll() is None, "it ended before it could be killed"
    finally:
        building.send_signal(signal.SIGKILL)
        building.wait()
    assert not (tmp_path / "builds" / "CURRENT").exists()
    report = json.loads(run(*BUILD, "--json"))
    assert report["reused"] >= 16  # the batch that was on the disk
    assert report["embedded"] + report["reused"] == report["looks"] == report["products"]
