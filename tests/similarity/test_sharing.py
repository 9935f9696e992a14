"""One machine builds, others fetch what it publishes: all of it or nothing, and only what is what it says."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity import serving, sharing
from similarity.building import build_index
from similarity.builds import BuildError, NoBuild, builds_dir, current_manifest
from similarity.publishing import remove_build, roll_back, stored_builds
from similarity.services import similar_to
from similarity.sharing import fetch_builds, share_builds
from tests.engines import PGVECTOR, looks_in
from tests.similarity.conftest import AddProduct
from tests.similarity.test_builds_and_serving import found
from tests.similarity.test_engines import held_on_server

Machine = Callable[[str], None]


@pytest.fixture
def share(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "share"
    backend = "django.core.files.storage.FileSystemStorage"
    options = {"location": str(folder), "allow_overwrite": True}
    settings.STORAGES = {**settings.STORAGES, "builds": {"BACKEND": backend, "OPTIONS": options}}
    return folder


@pytest.fixture
def on(tmp_path: Path, settings: Any, share: Path) -> Machine:
    """Go to another machine: with a disk of its own, over the same database."""

    def go(name: str) -> None:
        folders = {f"{each.upper()}_DIR": tmp_path / name / each for each in ("spaces", "builds", "maps")}
        settings.SIMILARITY = {**settings.SIMILARITY, **folders}
        serving.reset_index()

    return go


def test_what_is_published_on_one_machine_answers_on_the_others(
    on: Machine, reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    red = reds_and_blues["red"]
    on("builder")
    build_index()
    first = share_builds()
    assert (first.build, first.changed) == (current_manifest().id, True)
    assert share_builds() == sharing.Exchanged(first.build, changed=False, size=0)
    on("web")
    assert fetch_builds() == sharing.Exchanged(first.build, changed=True, size=fetched_bytes())
    assert not fetch_builds().changed
    assert found(red) == ["rose", "plum", "blue"]
    # The next one is noticed by a process that serves all along.
    live = serving.get_index()
    add_product("new", (190, 10, 10))
    on("builder")
    second = build_index().index
    share_builds()
    on("web")
    serving._holder.live, serving._holder.seen = live, "the former"
    fetch_builds()
    assert serving.get_index().build.manifest.id == second
    assert found(red) == ["new", "rose", "plum", "blue"]
    # And so is going back.
    on("builder")
    roll_back()
    share_builds()
    on("web")
    assert fetch_builds() == sharing.Exchanged(first.build, changed=True, size=0)
    assert found(red) == ["rose", "plum", "blue"]


def fetched_bytes() -> int:
    return sum(file["size"] for file in current_manifest().files.values())


def test_superseded_builds_go_on_both_sides(on: Machine, share: Path, add_product: AddProduct) -> None:
    made = []
    for number in range(5):
        on("builder")
        add_product(f"p{number}", (10 * number, 0, 0))
        made.append(build_index().index)
        share_builds()
        on("web")
        fetch_builds()
    assert sorted(path.name for path in share.glob("2*")) == made[-3:]
    assert [build.manifest.id for build in stored_builds()] == made[:-4:-1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def hurt_current(share: Path) -> None:
    (share / "CURRENT").write_text("2026")


def hurt_manifest(share: Path) -> None:
    flip(next(share.glob("2*/manifest.json")))


def hurt_rows(share: Path) -> None:
    flip(next(share.glob("2*/rows.npy")))


def cut_rows(share: Path) -> None:
    path = next(share.glob("2*/rows.npy"))
    path.write_bytes(path.read_bytes()[:-1])


def lose_rows(share: Path) -> None:
    next(share.glob("2*/rows.npy")).unlink()


@pytest.mark.parametrize("hurt", [hurt_current, hurt_manifest, hurt_rows, cut_rows, lose_rows])
def test_what_is_damaged_is_not_fetched_and_the_former_goes_on(
    on: Machine, share: Path, reds_and_blues: dict[str, Product], add_product: AddProduct, hurt: Callable[[Path], None]
) -> None:
    on("builder")
    build_index()
    share_builds()
    on("web")
    former = fetch_builds().build
    on("builder")
    add_product("new", (190, 10, 10))
    build_index()
    share_builds()
    shutil.rmtree(share / former)
    whole = shutil.copytree(share, share.with_name("whole"))
    hurt(share)
    on("web")
    with pytest.raises(BuildError, match="shared storage"):
        fetch_builds()
    assert current_manifest().id == former
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]
    assert [path.name for path in builds_dir().glob("2*")] == [former]
    assert not list(builds_dir().glob(".unfinished-*"))
    shutil.copytree(whole, share, dirs_exist_ok=True)
    assert fetch_builds().changed


def test_names_that_lead_elsewhere_are_refused(on: Machine, share: Path, reds_and_blues: dict[str, Product]) -> None:
    import hashlib

    on("builder")
    build_index()
    shared = share_builds()
    path = share / shared.build / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../outside"] = manifest["files"]["rows.npy"]
    path.write_text(json.dumps(manifest))
    (share / "CURRENT").write_text(f"{shared.build} {hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    on("web")
    with pytest.raises(BuildError, match="makes no sense"):
        fetch_builds()


def hurt_here(name: str) -> None:
    """A file of the current build is damaged on this machine's own disk."""
    flip(builds_dir() / current_manifest().id / name)


def lose_here() -> None:
    (builds_dir() / current_manifest().id / "rows.npy").unlink()


def empty_current_here() -> None:
    (builds_dir() / "CURRENT").write_text("")


@pytest.mark.parametrize(
    "hurt",
    [lambda: hurt_here("rows.npy"), lambda: hurt_here("manifest.json"), lose_here, empty_current_here],
    ids=["rows", "manifest", "lost", "current"],
)
def test_what_comes_to_be_damaged_on_a_machine_is_fetched_again(
    on: Machine, reds_and_blues: dict[str, Product], hurt: Callable[[], None]
) -> None:
    on("builder")
    build_index()
    shared = share_builds().build
    on("web")
    fetch_builds()
    assert not fetch_builds().changed
    with (builds_dir() / shared / "rows.npy").open("rb") as reader:
        begun = reader.read(10)
        hurt()
        serving.reset_index()
        with pytest.raises(BuildError, match=r"Run: python manage\.py fetch_builds"):
            serving.get_index()
        assert fetch_builds().changed
        rest = reader.read()
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"], "and by the process that had refused it"
    assert not fetch_builds().changed
    assert len(begun + rest) == (builds_dir() / shared / "rows.npy").stat().st_size, "no file changes under a reader"
    fetch_builds()
    assert [path.name for path in builds_dir().iterdir() if path.name.startswith(".")] == []


def test_a_damaged_build_that_is_not_current_is_fetched_again_when_it_is_published(
    on: Machine, reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    on("builder")
    first = build_index().index
    share_builds()
    on("web")
    fetch_builds()
    on("builder")
    add_product("new", (190, 10, 10))
    build_index()
    share_builds()
    on("web")
    fetch_builds()
    flip(builds_dir() / first / "rows.npy")
    on("builder")
    roll_back()
    share_builds()
    on("web")
    fetched = fetch_builds()
    assert fetched == sharing.Exchanged(first, changed=True, size=fetched_bytes())
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]


def test_who_builds_again_is_told_to_build(on: Machine, reds_and_blues: dict[str, Product]) -> None:
    on("builder")
    build_index()
    share_builds()
    on("web")
    fetch_builds()
    build_index(full=True)
    hurt_here("rows.npy")
    serving.reset_index()
    serving.get_index()  # from the one that was fetched
    assert "Run: python manage.py build_index" in str(serving.serving_error())


class Moody(FileSystemStorage):
    """An object store that raises an error of its own until it is well again."""

    well = False

    def open(self, name: str, mode: str = "rb") -> Any:
        if not Moody.well:
            raise RuntimeError("SlowDown: reduce your request rate")
        return super().open(name, mode)


def share_on_moody(settings: Any, share: Path) -> None:
    options = {"location": str(share), "allow_overwrite": True}
    moody = {"BACKEND": f"{__name__}.Moody", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "builds": moody}


def test_what_the_storage_raises_is_told_in_a_sentence(on: Machine, share: Path, settings: Any, db: None) -> None:
    on("web")
    share_on_moody(settings, share)
    with pytest.raises(CommandError, match=r"cannot be exchanged \(fetch\): RuntimeError: SlowDown"):
        call_command("fetch_builds")


def test_whoever_keeps_up_outlives_whatever_the_storage_raises(
    on: Machine,
    share: Path,
    settings: Any,
    reds_and_blues: dict[str, Product],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on("builder")
    build_index()
    share_builds()
    on("web")
    share_on_moody(settings, share)
    rounds = 0

    def rest(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            monkeypatch.setattr(Moody, "well", True)
        if rounds == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", rest)
    with pytest.raises(KeyboardInterrupt), caplog.at_level("INFO", logger="similarity"):
        sharing.keep_up("fetch", 10)
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]
    assert caplog.text.count("RuntimeError: SlowDown") == 1, "the same trouble is told once"
    assert "is current now" in caplog.text


def test_keeping_up_with_settings_that_are_not_right_ends(on: Machine, db: None, settings: Any) -> None:
    settings.STORAGES = {name: each for name, each in settings.STORAGES.items() if name != "builds"}
    with pytest.raises(CommandError, match="VITRINE_SHARE"):
        call_command("fetch_builds", "--every", "10")


def test_nothing_to_share_and_nothing_shared(on: Machine, db: None, settings: Any) -> None:
    on("builder")
    with pytest.raises(NoBuild):
        share_builds()
    with pytest.raises(NoBuild, match="share_builds"):
        fetch_builds()
    settings.STORAGES = {name: each for name, each in settings.STORAGES.items() if name != "builds"}
    with pytest.raises(CommandError, match="VITRINE_SHARE"):
        call_command("fetch_builds")


def test_the_commands_say_what_they_did(on: Machine, reds_and_blues: dict[str, Product], capsys: Any) -> None:
    on("builder")
    build_index()
    call_command("share_builds")
    call_command("share_builds")
    on("web")
    call_command("fetch_builds")
    call_command("fetch_builds", "--json")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Shared index 2")
    assert said[1].startswith("Nothing has changed since index 2")
    assert said[2].startswith("Fetched and published index 2")
    assert json.loads(said[3])["changed"] is False


def fetched_from_server(on: Machine, settings: Any) -> tuple[set[str], str]:
    """Builder and web machine, now the one in use, answer from the same looks on a server: what was held there before,
    and their build."""
    on("builder")
    looks_in(settings, PGVECTOR)
    before = held_on_server()
    first = build_index().index
    share_builds()
    on("web")
    fetch_builds()
    return before, first


def test_who_has_fetched_a_build_does_not_give_back_its_looks(
    in_postgres: None, on: Machine, settings: Any, reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    before, first = fetched_from_server(on, settings)
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]
    on("builder")
    add_product("new", (190, 10, 10))
    build_index()
    share_builds()
    on("web")
    fetch_builds()
    remove_build(first)
    assert len(held_on_server() - before) == 2
    assert len(similar_to(reds_and_blues["red"]).matches) == 4
    on("builder")
    remove_build(first)
    assert len(held_on_server() - before) == 1


def test_looks_that_others_answer_from_stay_however_long_nothing_is_shared(
    in_postgres: None, on: Machine, settings: Any, reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    before, first = fetched_from_server(on, settings)
    on("builder")
    for number in range(5):  # and nobody shares any of them
        add_product(f"p{number}", (10 * number, 0, 0))
        build_index()
    assert len(held_on_server() - before) == 3 + 1
    with pytest.raises(BuildError, match="share_builds"):
        remove_build(first)
    on("web")
    assert found(reds_and_blues["red"])[-1] == "blue"
    on("builder")
    last = share_builds().build
    add_product("one more", (1, 2, 3))
    build_index()
    assert first not in {build.manifest.id for build in stored_builds()}
    on("web")
    assert fetch_builds().build == last
    assert len(held_on_server() - before) == 3


def test_where_nothing_is_shared_any_more_nothing_is_kept_for_it(
    on: Machine, settings: Any, reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    on("builder")
    build_index()
    share_builds()
    settings.STORAGES = {name: each for name, each in settings.STORAGES.items() if name != "builds"}
    for number in range(4):
        add_product(f"p{number}", (10 * number, 0, 0))
        build_index()
    assert len(stored_builds()) == 3
