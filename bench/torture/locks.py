"""Everybody writes at once on SQLite: imports, builds and a worker, an editor in the admin, a program with a key, while
visitors look. Nobody is told that the database is locked.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bench.site import DEMO, ROOT
from bench.torture.ground import PATIENCE_S, Report, Shop, visited
from bench.torture.kills import write_catalogue

USERS = 6
PASSWORD = "locked for nobody"  # noqa: S105 - of an account that lives for a minute
LOCKED = "database is locked"


def run(count: int, seed: int, folder: Path) -> Report:
    """`count` is how many seconds it lasts."""
    report = Report("locks", seed)
    shop = Shop(folder)
    shop.stock()
    shop.python(
        "from django.contrib.auth.models import User; "
        f"User.objects.create_superuser('editor', 'editor@shop.example', '{PASSWORD}')"
    )
    chance, path = random.Random(seed), folder / "more.csv"
    imports = builds = 0
    ids = shop.ids()
    worker_log = folder / "worker.log"
    with shop.served() as server:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "worker"],
            cwd=ROOT,
            env=shop.environment,
            stdout=(log := worker_log.open("wb")),
            stderr=log,
        )
        try:
            with visited(shop, ids, seed, USERS, TORTURE_KEY=shop.key(), TORTURE_PASSWORD=PASSWORD) as notes:
                end = time.monotonic() + count
                while time.monotonic() < end or not imports:
                    write_catalogue(path, imports + 1, chance)
                    done = shop.manage("import_fashion", str(path), "--images", str(DEMO / "images"), check=False)
                    imports += 1
                    report.expect(done.returncode == 0, f"import {imports}: {done.stdout[-300:]}{done.stderr[-700:]}")
                    if imports % 3 == 0:
                        done = shop.manage("build_index", "--no-report", check=False)
                        builds += done.returncode == 0
                        busy = (
                            "is building" in done.stderr or "being built" in done.stderr or "is writing" in done.stderr
                        )
                        report.expect(done.returncode == 0 or busy, f"build: {done.stderr[-700:]}")
        finally:
            worker.terminate()
            worker.wait(timeout=PATIENCE_S)
            log.close()
        said = server.said() + worker_log.read_text(errors="replace")
        report.expect(server.deaths() == 0, f"{server.deaths()} workers had to be replaced")
    answers = Counter(f"{note['name']} {note['status']}" for note in notes)
    troubles = [
        f"{note['name']}: {note['status']} {note.get('trouble', '')}" for note in notes if note["status"] >= 400
    ]
    locked = said.count(LOCKED) + sum(LOCKED in each for each in [*troubles, *report.failures])
    report.failures += troubles
    report.expect(not locked, f"'{LOCKED}' was said {locked} times")
    for wanted in ("save 302", "write 200", "similar 200", "page 200", "grid 200"):
        report.expect(answers[wanted], f"no '{wanted}' in {dict(answers)}")
    report.tried = len(notes)
    report.figures = {
        **{"seconds": count, "imports": imports, "builds": builds, "locked": locked},
        "answers": dict(sorted(answers.items())),
    }
    return report
