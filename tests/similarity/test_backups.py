"""A shop that was backed up is the same shop wherever it is restored."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.torture.ground import Shop
from similarity.backups import MANIFEST
from similarity.database_copies import SqliteCopy
from tests import shared

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TEST_DATABASE_URL" in os.environ, reason="backs up SQLite; test_backups_postgres does not"),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shutil.copytree(shared.made_once("torture", lambda folder: Shop(folder).stock()), shop.folder, dirs_exist_ok=True)
    return shop


@pytest.fixture(scope="module")
def backup(shop: Shop) -> Path:
    folder = shop.folder.parent / "backups" / "first"
    said = shop.manage("backup", str(folder)).stdout
    assert said.startswith("243 products in ")
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "empty")


def refusal(shop: Shop, *arguments: str) -> str:
    done = shop.manage(*arguments, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def files_of(shop: Shop, *parts: str) -> dict[str, bytes]:
    found = {}
    for part in parts:
        for path in (shop.folder / part).rglob("*"):
            if path.is_file() and not path.name.startswith("lock"):
                found[path.relative_to(shop.folder).as_posix()] = path.read_bytes()
    return found


def test_an_empty_folder_becomes_the_shop_that_it_was(shop: Shop, backup: Path, empty: Shop) -> None:
    said = empty.manage("restore", str(backup)).stdout
    assert "is again as it was" in said
    assert empty.manage("export_catalogue", "-").stdout == shop.manage("export_catalogue", "-").stdout
    for product in ("V0001", "V0120", "V0243"):
        asked = ("similar", product, "--json")
        assert json.loads(empty.manage(*asked).stdout) == json.loads(shop.manage(*asked).stdout)
    assert files_of(empty, "media") == files_of(shop, "media")
    assert "Nothing has changed since" in empty.manage("build_index", "--no-report").stdout
    assert files_of(empty, "maps").keys() == files_of(shop, "maps").keys()
    assert not (empty.folder / ".restoring").exists()


def test_a_backup_is_checked_from_end_to_end(backup: Path, empty: Shop, tmp_path: Path) -> None:
    assert "is whole: 243 products" in empty.manage("restore", "--check", str(backup)).stdout
    hurt = tmp_path / "hurt"
    shutil.copytree(backup, hurt)
    picture = next((hurt / "media").rglob("*.jpg"))
    data = bytearray(picture.read_bytes())
    data[100] ^= 1
    picture.write_bytes(bytes(data))
    for arguments in (("--check",), ()):
        assert f"{picture} is not as it was written" in refusal(empty, "restore", *arguments, str(hurt))
    picture.unlink()
    assert f"{picture} cannot be read" in refusal(empty, "restore", "--check", str(hurt))
    assert f"{picture} is missing" in refusal(empty, "restore", str(hurt))
    assert not (empty.folder / "vitrine.sqlite3").exists()
    # And what was tried in vain is in nobody's way.
    empty.manage("restore", str(backup))


def test_nothing_is_overwritten(shop: Shop, backup: Path) -> None:
    before = (shop.folder / "vitrine.sqlite3").read_bytes()
    assert "nothing is overwritten" in refusal(shop, "restore", str(backup))
    assert (shop.folder / "vitrine.sqlite3").read_bytes() == before
    assert "is there already" in refusal(shop, "backup", str(backup))


def test_what_a_crash_left_of_another_database_is_not_played_over_it(shop: Shop, backup: Path, empty: Shop) -> None:
    empty.manage("migrate", "-v0")
    database = empty.folder / "vitrine.sqlite3"
    crash = (
        "import os, signal\n"
        "from catalog.models import Product\n"
        "Product.objects.create(product_id='OLD', title='of the former shop')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(RuntimeError, match="ended with -9"):
        empty.python(crash)
    log, index = (database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))
    assert log.stat().st_size
    database.unlink()
    kept = {path: path.read_bytes() for path in (log, index)}
    said = refusal(empty, "restore", str(backup))
    assert f"{log} and {index} belonged to a database that is gone" in said
    assert "move them away" in said
    assert {path: path.read_bytes() for path in (log, index)} == kept
    assert not (empty.folder / "media").exists()
    assert not (empty.folder / ".restoring").exists()
    for path in kept:
        path.unlink()
    empty.manage("restore", str(backup))
    assert empty.manage("export_catalogue", "-").stdout == shop.manage("export_catalogue", "-").stdout


def test_who_was_killed_in_the_middle_begins_again(backup: Path, empty: Shop) -> None:
    shutil.copytree(backup / "media", empty.folder / "media")
    (empty.folder / ".restoring" / "spaces").mkdir(parents=True)
    empty.manage("restore", str(backup))
    assert len(list((empty.folder / "media" / "images").rglob("*.jpg"))) == len(
        list((backup / "media" / "images").rglob("*.jpg"))
    )


def test_pictures_of_a_former_backup_cost_no_room(shop: Shop, backup: Path, tmp_path: Path) -> None:
    second = backup.with_name("second")
    shop.manage("backup", str(second), "--previous", str(backup))
    picture = next((second / "media" / "images").rglob("*.jpg"))
    assert picture.stat().st_ino == (backup / picture.relative_to(second)).stat().st_ino
    assert (second / SqliteCopy.name).stat().st_ino != (backup / SqliteCopy.name).stat().st_ino
    assert "is whole" in shop.manage("restore", "--check", str(second)).stdout


def test_a_backup_that_names_files_elsewhere_is_refused(backup: Path, empty: Shop, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(backup, odd)
    manifest = json.loads((odd / MANIFEST).read_text())
    manifest["files"]["../../outside"] = manifest["files"][SqliteCopy.name]
    (odd / MANIFEST).write_text(json.dumps(manifest))
    assert "leads out of the backup" in refusal(empty, "restore", str(odd))
    assert "no backup that can be used" in refusal(empty, "restore", str(tmp_path))


def test_neither_key_nor_locks_nor_caches_are_in_it(shop: Shop, backup: Path) -> None:
    names = {path.name for path in backup.rglob("*")}
    assert not names & {"secret_key", "lock", "lock.holder", "verified", "converted"}
    with sqlite3.connect(backup / SqliteCopy.name) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.fixture
def builder(shop: Shop) -> Iterator[None]:
    from filelock import FileLock

    with FileLock(shop.folder / "builds" / "lock"):
        (shop.folder / "builds" / "lock.holder").write_text(f"process {os.getpid()}")
        yield


def test_it_waits_for_a_builder_and_says_who_it_is(shop: Shop, builder: None, tmp_path: Path) -> None:
    said = refusal(shop, "backup", str(tmp_path / "busy"), "--wait", "0.1")
    assert f"process {os.getpid()}" in said
    assert not list(tmp_path.glob("*busy*"))
