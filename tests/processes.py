"""Python processes of the tests: each has a deadline, and one that misses it says where it stood."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import urlsplit

import requests
from django.db import connections

from bench.torture import ground

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = ground.PATIENCE_S


def until(happens: Callable[[], object]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def until_answered(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait for a server that was started to answer."""

    def answers() -> bool:
        assert server.poll() is None, "the server has ended"
        try:
            requests.get(f"{address}/healthz", timeout=PATIENCE_S)
        except requests.ConnectionError:
            return False
        return True

    until(answers)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """The settings that users have, with a data folder of its own, and a database of its own."""
    own = {"DJANGO_SETTINGS_MODULE": "config.settings", "VITRINE_DATA_DIR": str(data_dir)}
    return {**os.environ, **own, **database_of(data_dir), **more}


def database_of(data_dir: Path) -> dict[str, str]:
    """Where a server is tested on (`make test-postgres`): one of its databases for each folder."""
    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        return {}
    import psycopg
    from psycopg import errors, sql

    name = f"shop_{hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]}"
    with psycopg.connect(server, autocommit=True) as connection, contextlib.suppress(errors.DuplicateDatabase):
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return {"DATABASE_URL": urlsplit(server)._replace(path=f"/{name}").geturl()}


def serving(data_dir: Path, **more: str) -> dict[str, str]:
    """`environment`, and what a server does not start without when DEBUG is off."""
    production = {"DJANGO_DEBUG": "0", "DJANGO_SECRET_KEY": "of the tests, " * 5, "DJANGO_ALLOWED_HOSTS": "127.0.0.1"}
    return environment(data_dir, **production, **more)


def forked(work: Callable[[], object]) -> BaseProcess:
    """A process that is forked from the test and does the work, with connections to the database of its own.

    It sees what is committed, so that the test has to be one with transactions. What it inherits it could not count on:
    two may not talk over one connection to PostgreSQL, and after a test with a browser, whose driver leaves an event
    loop running in this thread, Django keeps other connections here than in a child, where no loop runs.
    """
    inherited = []

    def own() -> None:
        for connection in connections.all(initialized_only=True):
            if connection.vendor != "sqlite":  # whose database in memory is the child's own copy
                inherited.append(connection.connection)  # kept: closing it would end the parent's
                connection.connection = None
        work()

    process = multiprocessing.get_context("fork").Process(target=own)
    process.start()
    return process


def run_python(
    *arguments: str, env: Mapping[str, str], check: bool = True, deadline_s: float = 2 * PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """`python *arguments` in the repository's root; its output is kept as text."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then writes where every thread is
        stdout, stderr = process.communicate(timeout=30)
        raise AssertionError(f"{arguments} took longer than {deadline_s} s:\n{stdout}{stderr}") from None
    assert not check or process.returncode == 0, f"{arguments} ended with {process.returncode}:\n{stdout}{stderr}"
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)
