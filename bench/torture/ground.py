"""What the scenarios stand on: an installation in a folder of its own, its server, and a report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests

from bench.site import DEMO, ROOT, environment

MODEL = "cheap"
SETTINGS = "bench.torture.settings"
PATIENCE_S = 300
"""When what should long have come is given up: a server's start, an answer. The tests wait as long. It promises
nothing: a machine that is shared may be very busy."""
MOST_TOLD = 20


@dataclass
class Report:
    """What was tried, and what did not hold: nothing, if all is well. `figures` by name, in the units they say."""

    scenario: str
    seed: int
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""

    def expect(self, holds: object, otherwise: str) -> None:
        """Note what should have been, and was not."""
        if not holds:
            self.failures.append(otherwise)

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        content["failed"] = len(self.failures)
        content["failures"] = self.failures[:MOST_TOLD]
        return content


class Shop:
    """An installation as an operator has it, in a folder of its own."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        self.environment = {
            **environment(folder),
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "VITRINE_THROTTLE": "off",
            "VITRINE_MODEL": MODEL,
            **more,
        }
        self.address = ""

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run("manage.py", *arguments, check=check)

    def python(self, code: str, *arguments: str) -> str:
        """What a few lines print in which Django is set up."""
        return self._run("-c", f"import django; django.setup()\n{code}", *arguments, check=True).stdout

    def _run(self, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def stock(self) -> None:
        """The demo's catalogue and its index; a copy of the installation at TORTURE_STOCK, where there is one."""
        if stocked := os.environ.get("TORTURE_STOCK"):
            shutil.copytree(stocked, self.folder, dirs_exist_ok=True)
            return
        self.manage("migrate", "-v0")
        self.manage("import_fashion", str(DEMO / "fashion.csv"), "--images", str(DEMO / "images"))
        self.manage("build_index", "--no-report")
        self.manage("build_map")

    def key(self) -> str:
        """A key of the API that may do everything."""
        code = (
            "from catalog.models import ApiKey\n"
            "print(ApiKey.objects.create_key(name='torture', products=True, builds=True)[1])"
        )
        return self.python(code).strip()

    def ids(self) -> list[str]:
        code = (
            "from catalog.models import Product\n"
            "print(*Product.objects.order_by('pk').values_list('product_id', flat=True), sep='\\n')"
        )
        return self.python(code).split()

    @contextlib.contextmanager
    def served(self, *options: str, workers: int = 2, log: Path | None = None) -> Iterator[Server]:
        """gunicorn over it, once it answers. Its log lies in the folder, unless said otherwise."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.address = f"http://127.0.0.1:{port}"
        log = log or self.folder / f"server-{port}.log"
        command = [sys.executable, "-m", "gunicorn", "config.wsgi", f"--bind=127.0.0.1:{port}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, f"--workers={workers}", "--threads=4", "--log-level=info", *options],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        server = Server(process, self.address, log, workers)
        try:
            server.wait_until_it_answers()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    address: str
    log: Path
    workers: int

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                requests.get(f"{self.address}/healthz", timeout=PATIENCE_S)
            except requests.RequestException:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The server does not answer:\n{self.said()}") from None
                time.sleep(0.1)
            else:
                return

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def deaths(self) -> int:
        """How many workers had to be replaced."""
        return self.said().count("Booting worker") - self.workers

    def worker_pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def visited(shop: Shop, ids: Sequence[str], seed: int, users: int, **more: str) -> Iterator[list[dict[str, Any]]]:
    """Visitors (`bench.torture.visitors`) for as long as the block lasts; then the list holds what they noted."""
    notes = shop.folder / f"notes-{time.monotonic_ns()}"
    told = {"TORTURE_IDS": json.dumps(list(ids)), "TORTURE_NOTES": str(notes), "TORTURE_SEED": str(seed), **more}
    command = [sys.executable, "-m", "locust", "-f", "bench/torture/visitors.py", "--headless", "--skip-log"]
    process = subprocess.Popen(
        [*command, "--host", shop.address, "--users", str(users), "--spawn-rate", str(users), "--only-summary"],
        cwd=ROOT,
        env={**os.environ, **told},
        stdout=subprocess.DEVNULL,
        stderr=(log := (shop.folder / "locust.log").open("ab")),
    )
    found: list[dict[str, Any]] = []
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not notes.exists() or not notes.stat().st_size:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Nobody visits: {(shop.folder / 'locust.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        log.close()
        found += map(json.loads, notes.read_text().splitlines())
