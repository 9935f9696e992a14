"""What whoever runs the shop is promised: it starts only when it is safe, and says how it is."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import call_command
from django.test import Client

from bench.torture.disk import cannot_mount, mount, unmount
from bench.torture.ground import Shop, kill
from catalog.checks import check_data_folder, check_deployment, check_sqlite
from similarity.checks import check_engines
from tests.processes import PATIENCE_S, ROOT, environment, free_port, run_python, serving, until_answered

PRODUCTION = {"VITRINE_HTTPS": "1", "VITRINE_PROXIES": "1", "VITRINE_HSTS": "31536000"}


def serve(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A server that must not start."""
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind=127.0.0.1:0"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize("lacking", ["DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS"])
def test_no_server_starts_without_key_and_hosts(tmp_path: Path, lacking: str) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    env = serving(tmp_path, TMPDIR=str(temporary))
    del env[lacking]
    done = serve(env)
    assert not list(temporary.iterdir())  # nothing piles up where it is started again and again
    assert done.returncode != 0
    assert f"Vitrine does not serve: {lacking} not set." in done.stderr
    assert "Traceback" not in done.stderr


def test_the_data_folder_need_not_be_there_yet(tmp_path: Path) -> None:
    run_python("manage.py", "migrate", "-v0", env=serving(tmp_path / "shop" / "data"))
    assert (tmp_path / "shop" / "data").is_dir()


def test_no_other_server_does_either(tmp_path: Path) -> None:
    done = run_python("-c", "import config.wsgi", env=environment(tmp_path, DJANGO_DEBUG="0"), check=False)
    assert "ImproperlyConfigured: Vitrine does not serve" in done.stderr
    assert not run_python("-c", "import config.wsgi", env=environment(tmp_path, DJANGO_DEBUG="1")).stderr


def test_the_deployment_check_is_clean_with_production_settings(tmp_path: Path) -> None:
    env = serving(tmp_path, **PRODUCTION)
    env["DJANGO_SECRET_KEY"] = "kJ3v9sQx7LwPz2RtYb5NcHd8MfGa4EuVi6ToKpXs1ZqWrBnCjDl0"
    for trial in ("VITRINE_THROTTLE", "DJANGO_ALLOW_ASYNC_UNSAFE"):
        env.pop(trial, None)
    run_python("manage.py", "migrate", "-v0", env=env)
    said = run_python("manage.py", "check", "--deploy", "--fail-level", "WARNING", env=env).stdout
    assert "no issues" in said


@pytest.mark.parametrize(
    ("name", "value"), [("VITRINE_HSTS", "a year"), ("VITRINE_METRICS", "yes"), ("VITRINE_LOG", "xml")]
)
def test_a_setting_that_makes_no_sense_is_said_in_a_sentence(tmp_path: Path, name: str, value: str) -> None:
    done = run_python("manage.py", "check", env=environment(tmp_path, **{name: value}), check=False)
    assert f"{name}='{value}' is n" in done.stderr


def test_what_is_fit_for_trials_alone_is_named(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.FETCH, settings.METRICS = ["*"], "private", "open"
    settings.HTTPS, settings.PROXIES, settings.CORS_ALLOW_ALL_ORIGINS = True, 0, True
    settings.THROTTLES, settings.NOT_SET = {"api": None}, ["DJANGO_SECRET_KEY"]
    found = {message.id for message in check_deployment(None)}
    assert found == {"catalog.E004", *(f"catalog.W00{number}" for number in range(2, 8))}
    assert all(message.hint for message in check_deployment(None))


def test_a_data_folder_that_cannot_be_is_named(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = tmp_path / "will be made"
    assert check_data_folder(None) == []
    settings.DATA_DIR = Path("/proc/vitrine")  # not even root may write there
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc")
    (message,) = check_data_folder(None)
    assert message.id == "catalog.E001"
    assert "/proc/vitrine" in message.msg


@pytest.mark.parametrize(
    ("given", "found", "hint"),
    [
        ({"VITRINE_ENGINE": "milvus"}, "(similarity.E003)", "Set VITRINE_MILVUS"),
        ({"VITRINE_ENGINE": "pgvector"}, "(similarity.E004)", "Let VITRINE_VECTORS_URL"),
        (
            {"VITRINE_ENGINE": "pgvector", "VITRINE_VECTORS_URL": "sqlite:////nowhere/looks.sqlite3"},
            "(similarity.E004)",
            "Let VITRINE_VECTORS_URL",
        ),
        ({"DATABASE_REPLICA_URL": "sqlite:////nowhere/replica.sqlite3"}, "(catalog.E005)", "Let DATABASE_REPLICA_URL"),
        ({"VITRINE_SHARE": "/nowhere/all of us"}, "(similarity.W002)", "mkdir '/nowhere/all of us'"),
        ({"VITRINE_ENGINE": "elsewhere.Index"}, "(similarity.E002)", "Let VITRINE_ENGINE be faiss, exact, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_go_together_are_named(
    tmp_path: Path, given: dict[str, str], found: str, hint: str
) -> None:
    env = serving(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/shop.sqlite3") | given
    done = run_python("manage.py", "check", "--deploy", "--fail-level", "WARNING", env=env, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert hint in done.stderr.partition(found)[2].partition("HINT: ")[2].partition("\n")[0]


def test_servers_and_folders_that_are_named_are_not_asked_for_by_a_check(tmp_path: Path) -> None:
    away = {"VITRINE_ENGINE": "milvus", "VITRINE_MILVUS": "http://127.0.0.1:9", "VITRINE_SHARE": str(tmp_path)}
    assert "no issues" in run_python("manage.py", "check", env=environment(tmp_path, **away)).stdout
    bucket = {"VITRINE_SHARE": "s3://bucket/folder"}
    assert "no issues" in run_python("manage.py", "check", env=environment(tmp_path, **bucket)).stdout


@pytest.mark.django_db
def test_an_embedder_that_cannot_be_had_is_named(settings: Any) -> None:
    embedders = {"*": {"BACKEND": "elsewhere.Embedder"}}
    settings.SIMILARITY = {**settings.SIMILARITY, "EMBEDDERS": embedders}
    (message,) = check_engines(None)
    assert (message.id, "requirements.txt" in str(message.hint)) == ("similarity.E001", True)


@pytest.mark.django_db
def test_this_sqlite_can_do_what_is_asked_of_it() -> None:
    assert check_sqlite(None) == []


# --- what an answer carries -----------------------------------------------------------------------
@pytest.mark.django_db
def test_every_page_has_its_fences(client: Client) -> None:
    for page in ("/", "/api/v1/products/", "/admin/login/", "/nowhere"):
        headers = client.get(page).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.django_db
def test_https_makes_cookies_secure_and_says_so(tmp_path: Path) -> None:
    code = (
        "import django; django.setup()\n"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)\n"
        "from django.test import Client\n"
        "http, https = Client(HTTP_HOST='127.0.0.1'), Client(HTTP_HOST='127.0.0.1', HTTP_X_FORWARDED_PROTO='https')\n"
        "print(http.get('/').headers['Location'], http.get('/healthz').status_code)\n"
        "page = https.get('/admin/login/')\n"
        "print(page.headers['Strict-Transport-Security'], page.cookies['csrftoken']['secure'])\n"
    )
    said = run_python("-c", code, env=serving(tmp_path, **PRODUCTION)).stdout.splitlines()
    assert said == ["https://127.0.0.1/ 200", "max-age=31536000 True"]


@pytest.mark.django_db
def test_a_request_keeps_its_name(client: Client) -> None:
    assert client.get("/", headers={"X-Request-ID": "from-the-proxy-1"}).headers["X-Request-ID"] == "from-the-proxy-1"
    made = client.get("/", headers={"X-Request-ID": "<script>\n"}).headers["X-Request-ID"]
    assert len(made) == 32
    assert client.get("/").headers["X-Request-ID"] != made


def test_logs_are_json_where_asked_for(tmp_path: Path) -> None:
    code = (
        "import django; django.setup()\n"
        "from django.test import Client\n"
        "Client(HTTP_HOST='localhost').get('/healthz', HTTP_X_REQUEST_ID='request-0001')\n"
    )
    line = run_python("-c", code, env=environment(tmp_path, VITRINE_LOG="json")).stderr.splitlines()[-1]
    entry = json.loads(line)
    assert (entry["request_id"], entry["path"], entry["status"]) == ("request-0001", "/healthz", 200)
    assert entry["level"] == "INFO"
    assert entry["ms"] >= 0


def test_lines_of_refused_requests_are_short_and_carry_the_name(tmp_path: Path) -> None:
    code = (
        "import django; django.setup()\n"
        "from django.test import Client\n"
        "Client(HTTP_HOST='127.0.0.1').get('/api/nowhere', HTTP_X_REQUEST_ID='request-0001')\n"
        "Client(HTTP_HOST='elsewhere.example').get('/', HTTP_X_REQUEST_ID='request-0002')\n"
    )
    said = run_python("-c", code, env=serving(tmp_path)).stderr
    assert "Traceback" not in said
    assert "[request-0001]: Not Found: /api/nowhere" in said
    assert "[request-0002]: Invalid HTTP_HOST header: 'elsewhere.example'" in said


# --- how it says that it is well ------------------------------------------------------------------
@pytest.mark.django_db
def test_metrics_tell_of_requests_refusals_and_the_index(client: Client) -> None:
    client.get("/api/v1/products/?limit=x")
    client.post("/api/v1/search/image/", {"k": 3})
    text = client.get("/metrics").content.decode()
    for name in ("django_http_requests_total_by_method", "vitrine_refusals", "vitrine_search_seconds_bucket"):
        assert name in text
    assert 'vitrine_refusals_total{reason="invalid",what="request"}' in text
    assert "vitrine_build_ok 0.0" in text


@pytest.mark.django_db
def test_metrics_are_for_this_machine_unless_opened(client: Client, settings: Any) -> None:
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.5").status_code == 404
    assert client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.5"}).status_code == 404
    settings.METRICS = "open"
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.5").status_code == 200
    settings.METRICS = "off"
    assert client.get("/metrics").status_code == 404


def test_who_watches_by_an_address_is_answered_whatever_the_shop_is_called(tmp_path: Path) -> None:
    port = free_port()
    env = serving(tmp_path, **PRODUCTION) | {"DJANGO_ALLOWED_HOSTS": "shop.example"}
    run_python("manage.py", "migrate", "-v0", env=env)
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", f"--bind=127.0.0.1:{port}"]
    site = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def status(path: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.get(
            f"http://127.0.0.1:{port}{path}", headers=named, timeout=PATIENCE_S, allow_redirects=False
        ).status_code

    try:
        until_answered(f"http://127.0.0.1:{port}", site)
        ready = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE_S)
        assert (ready.status_code, list(ready.json()["trouble"])) == (503, ["index"])  # nothing has been built
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]", "10.0.0.5:8000"):
            assert status("/healthz", Host=host) == status("/metrics", Host=host) == 200
        # The metrics are for this machine, which is not who a proxy speaks for.
        assert status("/metrics", X_Forwarded_For="203.0.113.5") == 404
        assert status("/metrics", X_Forwarded_For="127.0.0.1", X_Forwarded_Proto="https") == 404
        # Another name, which a stranger may let point here, is nobody's; nor is a page shown by an address.
        assert status("/metrics", Host="elsewhere.example") == status("/healthz", Host="elsewhere.example") == 400
        assert status("/api/v1/products/", X_Forwarded_Proto="https") == 400
        shop = {"Host": "shop.example", "X_Forwarded_For": "203.0.113.5"}
        assert status("/", **shop) == 301
        assert status("/", **shop, X_Forwarded_Proto="https") == 200
        assert status("/healthz", **shop, X_Forwarded_Proto="https") == 200
    finally:
        site.terminate()
        site.wait(timeout=PATIENCE_S)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room_mib", "options"),
    [(1, ["--preload"]), (4, ["--preload"]), (4, [])],
    ids=["none for the server", "none for its workers", "none for its workers, which load the site themselves"],
)
def test_no_room_for_metrics_costs_nothing_but_metrics(tmp_path: Path, room_mib: int, options: list[str]) -> None:
    if trouble := cannot_mount(tmp_path):
        pytest.skip(trouble)
    (disk := tmp_path / "disk").mkdir()
    shop = Shop(tmp_path / "shop", PROMETHEUS_MULTIPROC_DIR=str(disk))
    shop.manage("migrate", "-v0")
    mount(disk, room_mib)
    try:
        with shop.served(*options, workers=1) as server:
            for deaths in range(2):
                for path in ("/", "/healthz", "/metrics"):
                    assert requests.get(server.address + path, timeout=PATIENCE_S).status_code == 200
                refused = requests.post(f"{server.address}/api/v1/search/image/", json={}, timeout=PATIENCE_S)
                assert refused.status_code == 400
                counted = requests.get(f"{server.address}/metrics", timeout=PATIENCE_S).text
                assert 'vitrine_refusals_total{reason="invalid",what="request"} 1.0' in counted
                assert server.deaths() == deaths
                kill(server.worker_pids()[0])  # and the next one answers as well
            assert "for itself" in server.said()
            assert "Traceback" not in server.said()
    finally:
        unmount(disk)


@pytest.mark.django_db
def test_a_full_disk_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from similarity import views

    monkeypatch.setattr(views, "LEAST_FREE_BYTES", 2**62)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "MiB left" in answer.json()["trouble"]["disk"]


# --- who may enter ---------------------------------------------------------------------------------
@pytest.mark.django_db
def test_guessing_passwords_ends_after_ten(client: Client, admin_user: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    def enter(password: str, address: str = "203.0.113.5") -> int:
        form = {"username": admin_user.username, "password": password, "next": "/admin/"}
        return client.post("/admin/login/", form, REMOTE_ADDR=address).status_code

    assert [enter(f"guess {number}") for number in range(9)] == [200] * 9
    assert enter("guess 10") == 429
    assert enter("password") == 429  # also with the right one, for a quarter of an hour
    assert enter("password", "203.0.113.6") == 302  # and from elsewhere its owner gets in


def test_no_secret_is_in_the_repository() -> None:
    from django.conf import settings

    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    for name in filter(None, files):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        assert settings.SECRET_KEY.encode() not in content
        assert b"PRIVATE KEY-----" not in content or name.startswith("tests/")


@pytest.mark.django_db
def test_the_checks_run_by_themselves() -> None:
    call_command("check", "--database", "default")
