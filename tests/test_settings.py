"""What the settings promise an operator."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.processes import environment, run_python


def run(data_dir: Path, code: str) -> subprocess.CompletedProcess[str]:
    return run_python("-c", f"import django; django.setup()\n{code}", env=environment(data_dir), check=False)


PRINT_KEY = "from django.conf import settings; print(settings.SECRET_KEY)"


def test_the_secret_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first, second = (run(tmp_path / "var", PRINT_KEY).stdout for _ in range(2))
    assert first == second
    assert len(first.strip()) > 50
    assert (tmp_path / "var" / "secret_key").stat().st_mode & 0o777 == 0o600


def test_an_empty_key_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    assert len(run(tmp_path, PRINT_KEY).stdout.strip()) > 50


def test_a_data_folder_that_cannot_be_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "VITRINE_DATA_DIR=" in run(tmp_path / "file" / "var", PRINT_KEY).stderr


def test_errors_of_pages_are_logged_with_debug_off(tmp_path: Path) -> None:
    code = (
        "from django.test import Client\n"
        "answer = Client(HTTP_HOST='localhost', raise_request_exception=False).get('/')\n"
        "print(answer.status_code)"
    )
    done = run(tmp_path, code)  # no tables: the page cannot but fail
    assert done.stdout.strip() == "500"
    assert "Internal Server Error: /" in done.stderr
    assert "no such table" in done.stderr or "does not exist" in done.stderr


@pytest.mark.parametrize("value", ["picture", "picture=often", "pictures=1/min", "api=0/min", "on"])
def test_a_throttle_that_makes_no_sense_is_said_in_a_sentence(tmp_path: Path, value: str) -> None:
    asked = run_python("manage.py", "check", env=environment(tmp_path, VITRINE_THROTTLE=value), check=False)
    assert asked.returncode
    assert f"'{value}' is not as picture=120/min" in asked.stderr


def test_throttles_are_named_one_by_one_or_all_off(tmp_path: Path) -> None:
    show = "from django.conf import settings; print(settings.THROTTLES)"
    for value, rates in {
        "": {"picture": "120/min", "fetch": "10/min", "api": None},
        "api=600/min, fetch=1/s": {"picture": "120/min", "fetch": "1/s", "api": "600/min"},
        "off": {"picture": None, "fetch": None, "api": None},
    }.items():
        code = f"import django; django.setup()\n{show}"
        said = run_python("-c", code, env=environment(tmp_path, VITRINE_THROTTLE=value)).stdout
        assert said.strip() == str(rates)


def test_a_host_of_postgresql_that_vanishes_is_noticed_and_an_address_may_say_otherwise(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    code = (
        "import django, json; django.setup()\n"
        "from django.db import connections\n"
        "print(json.dumps([connections[name].get_connection_params() for name in ('default', 'replica', 'vectors')],"
        " default=str))"
    )
    addresses = {
        "DATABASE_URL": "postgres://shop@db/shop",
        "DATABASE_REPLICA_URL": "postgres://shop@replica/shop",
        "VITRINE_VECTORS_URL": "postgres://shop@vectors/shop?tcp_user_timeout=60000&connect_timeout=1",
    }
    primary, replica, vectors = json.loads(run_python("-c", code, env=environment(tmp_path, **addresses)).stdout)
    for each in (primary, replica, vectors):
        assert [each[f"keepalives_{name}"] for name in ("idle", "interval", "count")] == [5, 2, 2]
    waits = [(each["tcp_user_timeout"], each["connect_timeout"]) for each in (primary, replica, vectors)]
    assert waits == [(20_000, 5), (5000, 2), (60_000, 1)]
