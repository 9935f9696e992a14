"""gunicorn reads this by itself when it is started in this folder: `gunicorn config.wsgi`."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

# The metrics of all workers together (/metrics), for as long as the server lives.
_own_metrics = "PROMETHEUS_MULTIPROC_DIR" not in os.environ
if _own_metrics:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="vitrine-metrics-")

_METRICS_FILES = ("counter", "histogram", "gauge_all")
_METRICS_FILE_BYTES = 2**20
"""What prometheus_client begins each of them with."""

keepalive = 5
max_requests = 0  # nothing leaks; a worker that is replaced opens the index anew


def on_starting(server: Any) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from config.production import trouble

    if said := trouble():
        sys.exit(said)  # one sentence, and no worker's traceback


def post_fork(server: Any, worker: Any) -> None:
    """Take the room for the worker's metrics now: the files are mapped, and who writes to one when the disk has become
    full is killed (SIGBUS), and so would be the next.
    """
    folder = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "/nowhere"))
    files = [folder / f"{name}_{worker.pid}.db" for name in _METRICS_FILES]
    try:
        for path in files:
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _METRICS_FILE_BYTES)
    except OSError as error:
        server.log.warning("No metrics from worker %s: %s: %s", worker.pid, folder, error.strerror)
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()


def child_exit(server: Any, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    if _own_metrics:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
