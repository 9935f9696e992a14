"""A real PostgreSQL, its streaming replica, a real gunicorn: who may be late reads from it, nobody else does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from config.replica import AWAY_S
from tests.conftest import DEMO_CATALOGUE
from tests.engines import need_postgres
from tests.postgres import Postgres, postgres, replica_of
from tests.processes import PATIENCE_S, ROOT, free_port, run_python, serving, until, until_answered
from tests.vanishing import CONNECT_S

pytestmark = pytest.mark.slow


@dataclass
class Site:
    address: str
    environment: dict[str, str]
    primary: Postgres
    replica: Postgres

    def manage(self, *arguments: str) -> str:
        return run_python("manage.py", *arguments, env=self.environment).stdout

    def python(self, code: str) -> str:
        return run_python("-c", f"import django; django.setup()\n{code}", env=self.environment).stdout.strip()

    def get(
        self, path: str, client: requests.Session | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        return (client or requests.Session()).get(self.address + path, headers=headers, timeout=PATIENCE_S)

    def title(self, client: requests.Session | None = None, headers: dict[str, str] | None = None) -> str:
        answer = self.get("/products/V0001/", client, headers)
        found = re.search(r"<h1[^>]*>([^<]*)</h1>", answer.text)
        assert answer.status_code == 200
        assert found
        return found[1].strip()

    def key(self) -> str:
        return self.python(
            "from catalog.models import ApiKey\nprint(ApiKey.objects.create_key(name='till', products=True)[1])"
        )

    def streams(self) -> bool:
        """Whether the replica has all that the primary has."""
        where = self.primary.psql("vitrine", "SELECT pg_current_wal_lsn()")
        return self.replica.psql("vitrine", f"SELECT pg_last_wal_replay_lsn() >= '{where}'") == "t"

    @contextlib.contextmanager
    def late(self) -> Iterator[None]:
        """The replica stays where it is."""
        until(self.streams)
        self.replica.psql("vitrine", "SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            self.replica.psql("vitrine", "SELECT pg_wal_replay_resume()")
            until(self.streams)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need_postgres()
    with postgres() as primary, replica_of(primary) as replica:
        port = free_port()
        environment = serving(
            tmp_path_factory.mktemp("site"),
            DATABASE_URL=primary.url,
            DATABASE_REPLICA_URL=replica.url,
            VITRINE_MODEL="efficientnet-lite0",
        )
        site = Site(f"http://127.0.0.1:{port}", environment, primary, replica)
        site.manage("migrate", "-v0")
        images = str(DEMO_CATALOGUE / "images")
        catalogue = str(DEMO_CATALOGUE / "fashion.csv")
        site.manage("import_fashion", catalogue, "--images", images, "--limit", "30")
        site.manage("build_index", "--no-report")
        command = [sys.executable, "-m", "gunicorn", "config.wsgi", f"--bind=127.0.0.1:{port}", "--workers=1"]
        server = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            until_answered(site.address, server)
            yield site
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


RENAME = "from catalog.models import Product\nProduct.objects.filter(product_id='V0001').update(title={title!r})"


def test_visitors_read_from_the_replica_and_see_what_it_has(site: Site) -> None:
    until(site.streams)
    before = site.title()
    with site.late():
        site.python(RENAME.format(title="A late name"))
        assert site.title() == before
        assert before in site.get("/api/v1/products/V0001/").json()["title"]
        assert site.get("/?q=late").text.count('class="card') == 0
    assert site.title() == "A late name"
    assert site.get("/?q=late").text.count('class="card') >= 1


def test_who_has_written_reads_what_was_written(site: Site) -> None:
    till = requests.Session()
    key = {"Authorization": f"Api-Key {site.key()}"}
    with site.late():
        written = till.patch(
            f"{site.address}/api/v1/products/V0001/", json={"title": "Just written"}, headers=key, timeout=PATIENCE_S
        )
        assert written.status_code == 200, written.text
        assert site.title(till) == "Just written"  # by its cookie, without the key
        assert site.title(headers=key) == "Just written"  # by its key, without the cookie
        assert site.title() != "Just written"


def test_who_is_logged_in_reads_from_the_primary(site: Site) -> None:
    site.python(
        "from django.contrib.auth.models import User\n"
        "User.objects.create_superuser('chief', 'chief@example.org', 'of the tests 42')"
    )
    chief = requests.Session()
    with site.late():
        form = site.get("/admin/login/", chief).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token
        fields = {
            "username": "chief",
            "password": "of the tests 42",
            "csrfmiddlewaretoken": token[1],
            "next": "/admin/",
        }
        answer = chief.post(
            f"{site.address}/admin/login/",
            data=fields,
            headers={"Referer": f"{site.address}/admin/login/"},
            timeout=PATIENCE_S,
        )
        assert "chief" in answer.text
        site.python(RENAME.format(title="For the chief"))
        assert site.title(chief) == "For the chief"
        assert site.title() != "For the chief"


def test_a_dump_restored_elsewhere_is_the_same_shop(site: Site) -> None:
    dump = site.primary.folder / "shop.dump"
    site.primary.run("pg_dump", "-Fc", "-f", str(dump), site.primary.url)
    site.primary.create("restored")
    site.primary.psql("restored", "DROP EXTENSION vector")
    site.primary.run("pg_restore", "--exit-on-error", "-d", site.primary.url_of("restored"), str(dump))
    restored = {**site.environment, "DATABASE_URL": site.primary.url_of("restored"), "DATABASE_REPLICA_URL": ""}

    def said_of_both(*arguments: str) -> list[str]:
        return [run_python("manage.py", *arguments, env=env).stdout for env in (site.environment, restored)]

    for arguments in (("export_catalogue", "-"), ("similar", "V0002", "--json")):
        one, other = said_of_both(*arguments)
        assert one == other
    # It goes on living: words, changes and rows are kept by what was restored with it.
    run_python("-c", f"import django; django.setup()\n{RENAME.format(title='Restored anew')}", env=restored)
    found = "from catalog.models import Product\nprint(Product.objects.search('restored').get().product_id)"
    assert run_python("-c", f"import django; django.setup()\n{found}", env=restored).stdout.strip() == "V0001"


def test_where_the_replica_is_away_the_primary_answers_and_readiness_says_so(site: Site) -> None:
    site.replica.stop("immediate")
    try:
        assert site.title()
        ready = site.get("/readyz")
        assert (ready.status_code, list(ready.json()["degraded"])) == (200, ["replica"])
    finally:
        site.replica.start()
    until(lambda: not site.get("/readyz").json()["degraded"])


def test_where_the_primary_is_away_visitors_are_answered_all_the_same(site: Site) -> None:
    time.sleep(AWAY_S)  # so long a replica that was away is not asked again
    until(site.streams)
    site.primary.stop("immediate")
    try:
        assert site.title()
        assert site.get("/").status_code == 200
        assert len(site.get("/api/v1/products/V0001/similar/").json()["matches"]) == 12
        assert "database" in site.get("/readyz").json()["trouble"]
    finally:
        site.primary.start()
    until(lambda: site.get("/readyz").status_code == 200)
    site.python(RENAME.format(title="Back again"))
    until(lambda: site.title() == "Back again")


def test_of_a_host_that_vanished_one_visitor_waits_and_the_others_read_from_the_primary(tmp_path: Path) -> None:
    need_postgres()
    trial = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "blackhole"]
    if not shutil.which("tc") or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("no network of its own may be made here, or none that swallows everything")
    alone = {name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
    command = ["unshare", "--net", sys.executable, "-m", "tests.vanishing", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    waited = json.loads(done.stdout)
    assert 4 < waited["first"][0] < 30, "its connection was kept: five seconds until that is given up, five for another"
    assert 4 < waited["asleep"][0] < 30, "somebody was waiting for an answer"
    assert CONNECT_S - 1 < waited["again"][0] < 30, "later one asks whether the replica is back"
    assert waited["hung"][0] > 7, "a server that hangs on a host that is there is waited for"
    for name in ("others", "alive", "later", "meanwhile", "back", "beside"):
        assert max(waited[name]) < CONNECT_S - 1, f"{name} waited for the replica: {waited}"
