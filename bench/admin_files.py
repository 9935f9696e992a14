#!/usr/bin/env python
"""What a catalogue's file costs through the admin: the preview, the confirmation, the export.

    python bench/admin_files.py [--rows 100000] [--rounds 3]

Everything happens in a folder of its own. Requests go through Django's whole handler (middleware, forms, templates), in
a process for each step, so that its peak memory is its own; the upload as the test client holds it counts too, and
`idle` is what such a process takes after one page. `new` is a file for an empty catalogue, `changed` the same with one
row in a hundred changed. Seconds are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = Path(os.environ.get("VITRINE_DATA_DIR", ""))
    if arguments.step:  # one step, in the process that was started for it
        import django

        django.setup()
        print(json.dumps(STEPS[arguments.step](folder)))
        return
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as name:
        print(json.dumps(bench(Path(name), arguments.rows, arguments.rounds), indent=2))


def bench(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    from bench.import_csv import mib, write_catalogue

    write_catalogue(folder / "new.csv", rows)
    write_catalogue(folder / "changed.csv", rows, changed=True)
    order = ["preview_new", "confirm_new", "preview_changed", "confirm_changed", "export", "idle"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in order}
    for _ in range(rounds):
        for name in order:
            if name == "preview_new":
                for database in folder.glob("vitrine.sqlite3*"):
                    database.unlink()
                run_python(folder, str(ROOT / "manage.py"), "migrate", "-v0")
            step = json.loads(run_python(folder, __file__, "--step", name))
            print(name, step, file=sys.stderr, flush=True)
            found[name].append(step)
    return {
        "rows": rows,
        "rounds": rounds,
        "csv_mib": mib(folder / "new.csv"),
        "seconds": {name: round(statistics.median(s["seconds"] for s in steps), 2) for name, steps in found.items()},
        "peak_mib": {name: max(s["peak_mib"] for s in steps) for name, steps in found.items()},
    }


def run_python(folder: Path, *arguments: str) -> str:
    from bench.import_csv import environment

    done = subprocess.run([sys.executable, *arguments], env=environment(folder), stdout=-1, text=True, check=True)
    return done.stdout


# --- the steps ----------------------------------------------------------------------------------


def client() -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client(HTTP_HOST="localhost")
    client.force_login(user)
    client.get("/admin/catalog/product/import/")  # templates and addresses are there from now on
    return client


def preview(folder: Path, file: str) -> dict[str, Any]:
    asking = client()
    with (folder / file).open("rb") as upload:
        began = time.perf_counter()
        page = asking.post("/admin/catalog/product/import/", {"import_file": upload, "missing": "keep"})
        seconds = time.perf_counter() - began
    token = re.search(r'name="token" value="(\w+)"', page.content.decode())
    assert token is not None, page.content
    (folder / "token").write_text(token[1])
    return measured(seconds)


def confirm(folder: Path) -> dict[str, Any]:
    from catalog.models import ImportRun

    asking = client()
    began = time.perf_counter()
    asking.post("/admin/catalog/product/process_import/", {"token": (folder / "token").read_text()})
    seconds = time.perf_counter() - began
    assert ImportRun.objects.latest("pk").state == "done"
    return measured(seconds)


def export(folder: Path) -> dict[str, Any]:
    asking = client()
    began = time.perf_counter()
    size = sum(map(len, asking.get("/admin/catalog/product/export/").streaming_content))
    return {**measured(time.perf_counter() - began), "mib": round(size / 2**20, 1)}


def idle(folder: Path) -> dict[str, Any]:
    client()
    return measured(0)


def measured(seconds: float) -> dict[str, Any]:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": round(seconds, 3), "peak_mib": round(peak / 2**20)}


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "preview_new": partial(preview, file="new.csv"),
    "confirm_new": confirm,
    "preview_changed": partial(preview, file="changed.csv"),
    "confirm_changed": confirm,
    "export": export,
    "idle": idle,
}

if __name__ == "__main__":
    main()
