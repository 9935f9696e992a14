"""A host that vanishes: a PostgreSQL that Django also knows as its replica, over a network that swallows everything.

    unshare --net python -m tests.vanishing FOLDER

in a network of its own, so that nobody else's is cut. Prints what visitors waited, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from config.replica import AWAY_S
from tests.postgres import QUICK, Postgres, postgres
from tests.processes import serving

VISITORS = 4
CONNECT_S = 5
"""How long a connection to the replica is waited for; more than the two seconds that are usual, so that whoever waited
is told apart from who was only slow."""


def network(*arguments: str) -> None:
    subprocess.run(arguments, check=True)


def main(folder: str) -> None:
    network("ip", "link", "set", "lo", "up")
    with postgres(**QUICK) as server:
        os.environ |= serving(
            Path(folder),
            DATABASE_URL=f"postgres://vitrine@{str(server.folder).replace('/', '%2F')}:{server.port}/vitrine",
            DATABASE_REPLICA_URL=f"{server.url}?connect_timeout={CONNECT_S}",
        )
        sys.stdout.write(json.dumps(waited(server)))


def waited(server: Postgres) -> dict[str, list[float]]:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import OperationalError, connections
    from django.test import Client

    call_command("migrate", verbosity=0)
    said: dict[str, list[float]] = {}
    handler = Client().handler  # one site, as a server has

    def ask(path: str) -> float:
        client = Client(HTTP_HOST="127.0.0.1")
        client.handler = handler
        began = time.monotonic()
        assert client.get(path).status_code == 200
        return round(time.monotonic() - began, 2)

    def broken(alias: str) -> float:
        began = time.monotonic()
        try:
            connections[alias].cursor().execute("SELECT pg_sleep(60)")
        except OperationalError:
            return round(time.monotonic() - began, 2)
        raise AssertionError("it answered")

    with ThreadPoolExecutor(VISITORS) as visitors, ThreadPoolExecutor(1) as apart:

        def all_ask(path: str) -> list[float]:
            return list(visitors.map(ask, [path] * VISITORS))

        said["before"] = all_ask("/api/v1/products/")
        asleep = apart.submit(broken, "replica")  # has been asked, and answers no more
        time.sleep(0.5)
        network("tc", "qdisc", "add", "dev", "lo", "root", "blackhole")
        first = visitors.submit(ask, "/api/v1/products/")
        time.sleep(1)
        said["others"] = all_ask("/api/v1/products/")[: VISITORS - 1]
        said["alive"] = all_ask("/healthz")[: VISITORS - 1]
        said["first"] = [first.result()]
        said["asleep"] = [asleep.result()]
        said["later"] = all_ask("/api/v1/products/")
        time.sleep(AWAY_S)
        again = visitors.submit(ask, "/api/v1/products/")
        time.sleep(1)
        said["meanwhile"] = [apart.submit(ask, "/api/v1/products/").result()]
        said["again"] = [again.result()]
        network("tc", "qdisc", "del", "dev", "lo", "root")
        time.sleep(AWAY_S)
        said["back"] = all_ask("/api/v1/products/")  # one of them finds out
        together = Barrier(VISITORS)

        def come_back(path: str) -> float:
            together.wait()  # so that each has a connection
            return ask(path)

        said["back"] += visitors.map(come_back, ["/api/v1/products/"] * VISITORS)
        # A server that hangs is another thing: its host goes on acknowledging.
        asking = "FROM pg_stat_activity WHERE client_addr IS NOT NULL AND pid <> pg_backend_pid()"
        backends = [*map(int, server.psql("vitrine", f"SELECT string_agg(pid::text, ' ') {asking}").split())]
        try:
            for backend in backends:
                os.kill(backend, signal.SIGSTOP)
            hung = visitors.submit(ask, "/api/v1/products/")
            time.sleep(2)
            said["beside"] = all_ask("/api/v1/products/")[: VISITORS - 1]
            time.sleep(7)
        finally:
            for backend in backends:
                os.kill(backend, signal.SIGCONT)
        said["hung"] = [hung.result()]
    return said


if __name__ == "__main__":
    main(sys.argv[1])
