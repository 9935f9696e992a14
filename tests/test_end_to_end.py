"""From the repository's own catalogue to answers over HTTP: real commands, a real gunicorn, DEBUG off."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import shared
from tests.conftest import DEMO_CATALOGUE
from tests.processes import PATIENCE_S, ROOT, free_port, run_python, serving, until, until_answered

pytestmark = pytest.mark.slow


class Shop:
    """An installation in a folder of its own, and its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = serving(folder, VITRINE_MODEL="efficientnet-lite0")
        self.address = ""

    def manage(self, *arguments: str) -> str:
        return run_python("manage.py", *arguments, env=self.environment).stdout

    def serve(self) -> subprocess.Popen[bytes]:
        bind = f"127.0.0.1:{free_port()}"
        self.address = f"http://{bind}"
        command = [sys.executable, "-m", "gunicorn", "config.wsgi", f"--bind={bind}", "--workers=2", "--threads=2"]
        server = subprocess.Popen(command, cwd=ROOT, env=self.environment)
        until_answered(self.address, server)
        return server

    def get(self, path: str) -> requests.Response:
        return requests.get(self.address + path, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    if "TEST_DATABASE_URL" in os.environ:
        shared.stock_demo(shop.folder)
    else:
        shutil.copytree(shared.demo(), shop.folder, dirs_exist_ok=True)
    server = shop.serve()
    yield shop
    server.terminate()
    server.wait(PATIENCE_S)


def test_every_product_has_twelve_matches_and_never_itself(shop: Shop) -> None:
    ids = [line.split(",")[0] for line in (DEMO_CATALOGUE / "fashion.csv").read_text().splitlines()[1:]]
    for product_id in ids:
        matches = shop.get(f"/api/v1/products/{product_id}/similar/").json()["matches"]
        found = [match["product_id"] for match in matches]
        assert len(set(found)) == 12
        assert product_id not in found


def test_page_api_and_command_give_the_same_list(shop: Shop) -> None:
    page = shop.get("/products/V0001/").text
    panel = page[page.index("<section", page.index("</h1>")) :]
    on_page = list(dict.fromkeys(re.findall(r'href="/products/([^/"]+)/"', panel)))
    refined = "collapse=true&diversity=0.15&min_score=calibrated"
    answer = shop.get(f"/api/v1/products/V0001/similar/?{refined}").json()
    options = ("--collapse", "--diversity", "0.15", "--min-score", "calibrated", "--json")
    assert json.loads(shop.manage("similar", "V0001", *options)) == answer
    assert on_page == [match["product_id"] for match in answer["matches"]]
    raw = shop.get("/api/v1/products/V0001/similar/").json()
    assert json.loads(shop.manage("similar", "V0001", "--json")) == raw
    assert raw["matches"][0] == {**answer["matches"][0], "more": 0}


def test_pictures_and_styles_are_served_with_debug_off(shop: Shop) -> None:
    page = shop.get("/").text
    pictures = re.findall(r'src="(/media/[^"]+)"', page)
    styles = re.findall(r'<link[^>]*href="(/static/[^"]+\.css)"', page)
    assert pictures
    assert styles
    assert shop.get(pictures[0]).headers["Content-Type"] == "image/webp"
    assert shop.get(styles[0]).headers["Content-Type"].startswith("text/css")
    assert shop.get("/static/admin/css/base.css").status_code == 200


def test_collected_styles_have_hashed_names(shop: Shop) -> None:
    shop.manage("collectstatic", "--no-input", "-v0")
    code = (
        "import django; django.setup()\n"
        "from django.templatetags.static import static; print(static('site/favicon.svg'))"
    )
    done = run_python("-c", code, env=shop.environment)
    assert re.fullmatch(r"/static/site/favicon\.[0-9a-f]{12}\.svg", done.stdout.strip())


def test_an_uploaded_picture_finds_the_product_it_shows(shop: Shop) -> None:
    with (DEMO_CATALOGUE / "images" / "V0007.jpg").open("rb") as picture:
        answer = requests.post(
            f"{shop.address}/api/v1/search/image/", files={"image": picture}, timeout=PATIENCE_S
        ).json()
    best = answer["matches"][0]
    assert best["score"] > 0.99
    assert "V0007" in [match["product_id"] for match in answer["matches"] if match["score"] > 0.99]


def test_a_new_build_is_served_without_a_restart(shop: Shop, tmp_path: Path) -> None:
    before = shop.get("/api/v1/index/").json()
    header = (DEMO_CATALOGUE / "fashion.csv").read_text().splitlines()[0]
    (tmp_path / "new.csv").write_text(f"{header}\nNEW,,,,,,,A newcomer,V0001.jpg,\n")
    shop.manage("import_fashion", str(tmp_path / "new.csv"), "--images", str(DEMO_CATALOGUE / "images"))
    assert shop.get("/api/v1/index/").json()["waiting"] == 1
    shop.manage("build_index")
    after = shop.get("/api/v1/index/").json()
    assert (after["looks"], after["waiting"]) == (before["looks"] + 1, 0)
    for _ in range(6):  # both workers
        first = shop.get("/api/v1/products/NEW/similar/?k=1").json()["matches"][0]
        assert first["product_id"] == "V0001"


def test_a_broken_index_leaves_the_pages_whole(shop: Shop) -> None:
    current = shop.folder / "builds" / "CURRENT"
    order = current.read_text()
    published = order.split()[0]
    index = shop.folder / "builds" / published / "faiss.index"
    content = index.read_bytes()
    server_before = shop.address
    index.write_bytes(content[:-1])
    current.write_text(order.splitlines()[0] + "\n")  # and no former build could answer instead
    server = shop.serve()
    try:
        page = shop.get("/products/V0001/")
        assert page.status_code == 200
        assert "being prepared" in page.text
        assert shop.get("/readyz").status_code == 503
        assert "build_index" in shop.get("/api/v1/products/V0001/similar/").json()["reason"]
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        index.write_bytes(content)
        current.write_text(order)
        shop.address = server_before


# --- the worker --------------------------------------------------------------------------------
ASK = "import django; django.setup()\nfrom similarity import tasks\n"


def test_a_worker_that_is_killed_in_the_middle_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.manage("migrate", "-v0")
    options = ("--images", str(DEMO_CATALOGUE / "images"), "--limit", "120")
    shop.manage("import_fashion", str(DEMO_CATALOGUE / "fashion.csv"), *options)
    run_python("-c", f"{ASK}tasks.build_soon()", env=shop.environment)
    worker = subprocess.Popen([sys.executable, "manage.py", "worker", "-v0"], cwd=ROOT, env=shop.environment)
    # A picture counts as embedded when every space has it, and the spaces are written one after the other.
    until(lambda: sum(path.stat().st_size > 0 for path in (tmp_path / "spaces").glob("*/keys-*.bin")) == 2)
    worker.kill()
    worker.wait()
    for sign in (tmp_path / "work").glob("worker-*"):
        os.utime(sign, (0, 0))  # as if it had been dead for a while
    shop.manage("worker", "--batch", "-v0")
    show = f"{ASK}work, = tasks.recent(); print(work.state, work.outcome['embedded'], work.outcome['looks'])"
    state, embedded, looks = run_python("-c", show, env=shop.environment).stdout.split()
    assert (state, looks) == ("done", "120")
    assert 0 < int(embedded) < 120


def test_a_worker_ends_with_the_process_that_started_it(shop: Shop) -> None:
    parent = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, 'manage.py', 'worker', '--until-parent-ends', '-v0'])\n"
        "sys.stdin.read()"
    )
    started = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, env=shop.environment, stdin=subprocess.PIPE)
    until(lambda: [*(shop.folder / "work").glob("worker-*")])
    started.kill()
    started.wait()
    until(lambda: not [*(shop.folder / "work").glob("worker-*")])
