"""gunicorn reads this by itself when it is started in this folder: `gunicorn config.wsgi`."""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_FILES = ("counter", "histogram", "gauge_all")
_METRICS_FILE_BYTES = 2**20
"""What prometheus_client begins each of them with."""

keepalive = 5
max_requests = 0  # nothing leaks; a worker that is replaced opens the index anew


def _take_room(pid: int) -> None:
    """For the metrics of a process, now: the files are mapped, and who writes to one when the disk has become full is
    killed (SIGBUS), and so would be the next. Raises OSError.
    """
    files = [Path(os.environ[_FOLDER]) / f"{name}_{pid}.db" for name in _METRICS_FILES]
    try:
        for path in files:
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _METRICS_FILE_BYTES)
    except OSError:
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        raise


def _count_alone() -> None:
    """This process counts in its own memory from now on, as does what it forks."""
    os.environ.pop(_FOLDER, None)
    values: Any = sys.modules.get("prometheus_client.values")
    if values is None or values.ValueClass is values.MutexValue:
        return
    # It chose files when it was imported, before the fork, and with --preload every metric is there already: each would
    # open its file at the next request.
    mapped, values.ValueClass = values.ValueClass, values.MutexValue
    for name in ("inc", "set", "set_exemplar", "get", "get_exemplar"):
        setattr(mapped, name, getattr(values.MutexValue, name))
    mapped._lock, mapped._exemplar = threading.Lock(), None


def _remove(folder: str, pid: int) -> None:
    """What this server has made, also where it never came to serve; workers end by themselves and leave it."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


# The metrics of all workers together (/metrics), for as long as the server lives.
_own_metrics = _FOLDER not in os.environ
try:
    if _own_metrics:
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="vitrine-metrics-")
        atexit.register(_remove, os.environ[_FOLDER], os.getpid())
    _take_room(os.getpid())  # with --preload, this process has metrics too
except OSError as error:
    sys.stderr.write(f"Each worker counts for itself until the next start: {error}\n")
    _count_alone()


def on_starting(server: Any) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from config.production import trouble

    if said := trouble():
        sys.exit(said)  # one sentence, and no worker's traceback


def post_fork(server: Any, worker: Any) -> None:
    if _FOLDER in os.environ:
        try:
            _take_room(worker.pid)
        except OSError as error:
            server.log.warning("Worker %s counts for itself: %s: %s", worker.pid, os.environ[_FOLDER], error.strerror)
            _count_alone()


def child_exit(server: Any, worker: Any) -> None:
    """Gauges that are about living workers lose this one. As prometheus_client's mark_process_dead, which would have
    this process import it, and with it choose for every worker to come where it counts.
    """
    if folder := os.environ.get(_FOLDER):
        for path in Path(folder).glob(f"gauge_live*_{worker.pid}.db"):
            path.unlink(missing_ok=True)


def on_exit(server: Any) -> None:
    if _own_metrics and _FOLDER in os.environ:
        _remove(os.environ[_FOLDER], os.getpid())  # with --daemon, the process is another than that which made it
