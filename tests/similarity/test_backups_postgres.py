"""A shop in PostgreSQL that was backed up is the same shop in another database: a real server and its own programs."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bench.torture.ground import Shop
from similarity.database_copies import PostgresCopy, SqliteCopy
from tests.engines import need_postgres
from tests.postgres import QUICK, Postgres, postgres, programs

pytestmark = pytest.mark.slow

PASSWORD = "p/4 kept from all"  # of a server that lives as long as these tests


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """With a user who may do little, and needs his password."""
    need_postgres()
    with postgres(**QUICK) as server:
        server.psql("postgres", f"CREATE ROLE shop LOGIN PASSWORD '{PASSWORD}'")
        rules = server.data / "pg_hba.conf"
        rules.write_text(f"host all shop 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        server.psql("postgres", "SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's programs, which note what they are told where everybody can read it: on the command line."""
    folder = tmp_path_factory.mktemp("tools")
    for name in ("pg_dump", "pg_restore"):
        script(folder / name, f'echo "{name} $*" >> "{folder}/told"\nexec "{programs()}/{name}" "$@"')
    return folder


def script(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def shop_in(server: Postgres, database: str, folder: Path, *tools: Path, template: str = "template1") -> Shop:
    """With its looks in the same database."""
    if database not in server.psql("postgres", "SELECT datname FROM pg_database").split():
        server.psql("postgres", f"CREATE DATABASE {database} OWNER shop TEMPLATE {template}")
    url = f"postgres://shop:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/{database}"
    path = ":".join([*map(str, tools), os.environ["PATH"]])
    return Shop(folder, DATABASE_URL=url, VITRINE_ENGINE="pgvector", PATH=path)


@pytest.fixture(scope="module")
def shop(server: Postgres, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = shop_in(server, "first", tmp_path_factory.mktemp("shop"), tools)
    shop.stock()
    return shop


@pytest.fixture(scope="module")
def backup(shop: Shop) -> Path:
    folder = shop.folder.parent / "backups-postgres" / "first"
    assert shop.manage("backup", str(folder)).stdout.startswith("243 products in ")
    return folder


def refusal(shop: Shop, *arguments: str) -> str:
    done = shop.manage(*arguments, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def tables(server: Postgres, database: str) -> int:
    return int(server.psql(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))


def test_an_empty_database_and_an_empty_folder_become_the_shop_that_it_was(
    server: Postgres, shop: Shop, backup: Path, tools: Path, tmp_path: Path
) -> None:
    assert "is whole: 243 products" in shop.manage("restore", "--check", str(backup)).stdout
    other = shop_in(server, "second", tmp_path / "other", tools)
    assert "is again as it was" in other.manage("restore", str(backup)).stdout
    assert other.manage("export_catalogue", "-").stdout == shop.manage("export_catalogue", "-").stdout
    for product in ("V0001", "V0120", "V0243"):
        asked = ("similar", product, "--json")
        assert json.loads(other.manage(*asked).stdout) == json.loads(shop.manage(*asked).stdout)
    assert tables(server, "second") == tables(server, "first")  # with those of the looks
    assert "Nothing has changed since" in other.manage("build_index", "--no-report").stdout
    # What is made from now on has numbers that nobody has.
    add = "from catalog.models import Product\nprint(Product.objects.create(product_id='NEW', title='New').pk)"
    assert int(other.python(add)) > 243
    assert not (other.folder / ".restoring").exists()
    # Everybody on a machine can read command lines.
    told = (tools / "told").read_text()
    assert "pg_dump --format=custom" in told
    assert "pg_restore --single-transaction" in told
    assert PASSWORD not in told
    assert quote(PASSWORD, safe="") not in told


def test_nothing_is_overwritten(server: Postgres, shop: Shop, backup: Path, tools: Path, tmp_path: Path) -> None:
    before = tables(server, "first")
    same_database = shop_in(server, "first", tmp_path / "empty", tools)
    said = refusal(same_database, "restore", str(backup))
    assert "The database that DATABASE_URL names has public." in said
    assert "nothing is overwritten" in said
    assert not (tmp_path / "empty" / "media").exists()
    assert tables(server, "first") == before
    same_folder = shop_in(server, "third", shop.folder, tools)
    assert "nothing is overwritten" in refusal(same_folder, "restore", str(backup))
    assert tables(server, "third") == 0


def test_what_was_tried_in_vain_left_nothing_and_can_be_tried_again(
    server: Postgres, backup: Path, tools: Path, tmp_path: Path
) -> None:
    hurt = tmp_path / "hurt"
    shutil.copytree(backup, hurt)
    dump = hurt / PostgresCopy.name
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(bytes(content))
    # A database in which only a superuser can make what the looks need.
    other = shop_in(server, "fourth", tmp_path / "other", tools, template="template0")
    assert f"{dump} is not as it was written" in refusal(other, "restore", "--check", str(hurt))
    assert f"{dump} is not as it was written" in refusal(other, "restore", str(hurt))
    assert 'permission denied to create extension "vector"' in refusal(other, "restore", str(backup))
    assert tables(server, "fourth") == 0
    server.psql("fourth", "CREATE EXTENSION vector")
    other.manage("restore", str(backup))
    assert "Nothing has changed since" in other.manage("build_index", "--no-report").stdout


def test_programs_that_are_missing_or_older_than_the_server_are_asked_for(
    server: Postgres, shop: Shop, backup: Path, tmp_path: Path
) -> None:
    version = server.psql("postgres", "SHOW server_version_num")[:2]
    old = tmp_path / "old"
    old.mkdir()
    for name in ("pg_dump", "pg_restore"):
        script(old / name, f"echo '{name} (PostgreSQL) 13.21 (Debian 13.21-0+deb11u1)'")
    asked = f"install PostgreSQL's client programs of version {version} or younger (postgresql-client-{version})"
    for name, arguments in (("pg_dump", ("backup", str(tmp_path / "new"))), ("pg_restore", ("restore", str(backup)))):
        database = "first" if name == "pg_dump" else "fifth"
        one = shop_in(server, database, shop.folder if name == "pg_dump" else tmp_path / "empty", old)
        assert f"{old / name} is too old for the server ({name} (PostgreSQL) 13.21" in (
            said := refusal(one, *arguments)
        )
        assert asked in said
        one.environment["PATH"] = str(tmp_path)
        assert f"{name} is not on PATH: {asked}" in refusal(one, *arguments)
    assert not list(tmp_path.glob("*new*"))
    assert not (tmp_path / "empty" / "media").exists()


def test_a_backup_goes_back_into_a_database_of_its_kind(
    server: Postgres, backup: Path, tools: Path, tmp_path: Path
) -> None:
    files = Shop(tmp_path / "files")
    files.environment.pop("DATABASE_URL", None)
    said = refusal(files, "restore", str(backup))
    assert "holds a catalogue in PostgreSQL, and the settings name SQLite: let DATABASE_URL name an empty" in said
    files.manage("migrate", "-v0")
    files.manage("backup", str(tmp_path / "of-files"))
    assert (tmp_path / "of-files" / SqliteCopy.name).is_file()
    other = shop_in(server, "sixth", tmp_path / "other", tools)
    said = refusal(other, "restore", str(tmp_path / "of-files"))
    assert "holds a catalogue in SQLite, and the settings name PostgreSQL: restore it without DATABASE_URL" in said
