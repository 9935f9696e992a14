"""Work in the background: who does it, how far it is, and what became of it.

What is to be done stands in the database, as django-tasks-db keeps it. Who is alive and how far a task is stands in
files below the data folder, which workers and web servers share in any case:

    work/worker-<id>      touched every few seconds by a living worker
    work/progress.json    where the task that is running stands
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django_tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from catalog.files import replace_file
from similarity import pipeline

logger = logging.getLogger(__name__)

BEAT_S = 2.0
ALIVE_S = 12.0
"""A worker that gave no sign for so long counts as dead."""
MOST_ATTEMPTS = 3
"""A task that has taken so many workers with it is not given to another one."""
_SHOWN_EVERY_S = 0.5


@dataclass(frozen=True)
class Progress:
    """Where a task stands: embedding, building or judging; while it is embedding, how many pictures of how many, and
    while it is building, how many looks are in the index (0 of 0 before and after that)."""

    task: str
    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Work:
    """A task as people see it. `state`: waiting, running, done, failed or interrupted (its worker is gone)."""

    id: str
    name: str
    state: str
    enqueued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress | None
    outcome: dict[str, Any]
    trouble: str

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "running")


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "work"


# --- who is alive ------------------------------------------------------------------------------
@contextmanager
def every(seconds: float, do: Callable[[], object]) -> Iterator[None]:
    """Do it again and again beside the block, in a thread, first when so many seconds have passed."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            do()

    thread = threading.Thread(target=run, name=getattr(do, "__name__", ""), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def heartbeat(worker_id: str) -> Iterator[None]:
    """Give signs of life while the block runs."""
    path = _folder() / f"worker-{worker_id}"
    path.parent.mkdir(parents=True, exist_ok=True)

    def beat() -> None:
        with suppress(OSError):  # a full disk is no reason to die
            path.touch()

    path.touch()
    try:
        with every(BEAT_S, beat):
            yield
    finally:
        path.unlink(missing_ok=True)


def living_workers() -> set[str]:
    """Ids of the workers that gave a sign of life a moment ago; the signs of dead ones are removed after a day."""
    alive = set()
    for path in _folder().glob("worker-*"):
        with suppress(OSError):
            age_s = time.time() - path.stat().st_mtime
            if age_s < ALIVE_S:
                alive.add(path.name.removeprefix("worker-"))
            elif age_s > 24 * 3600:
                path.unlink()
    return alive


def take_over() -> int:
    """Let the tasks of dead workers begin again; how many. Those that were given to MOST_ATTEMPTS workers fail."""
    again = 0
    alive = living_workers()
    for task in DBTaskResult.objects.running():
        if task.worker_ids and task.worker_ids[-1] in alive:
            continue
        logger.warning("A worker was lost while it was at %s.", task.task_path)
        if len(task.worker_ids) >= MOST_ATTEMPTS:
            task.set_failed(RuntimeError(f"The worker was lost {MOST_ATTEMPTS} times while it was at it."))
        else:
            DBTaskResult.objects.filter(pk=task.pk).update(status=TaskResultStatus.READY)
            again += 1
    return again


# --- how far it is -----------------------------------------------------------------------------
class Reporter:
    """Tells how far a task is; the callable is what `build_index` takes as its `progress`."""

    def __init__(self, task_id: str) -> None:
        self._task = task_id
        self._shown_at = 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        _progress_path().unlink(missing_ok=True)

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        with suppress(OSError):
            replace_file(_progress_path(), json.dumps(asdict(Progress(self._task, name, done, total))).encode())

    def __call__(self, batches: Iterator[pipeline.Batch], total: int) -> Iterator[pipeline.Batch]:
        done, shown_at = 0, 0.0
        self.stage("embedding", 0, total)
        for batch in batches:
            done += batch.embedded + batch.failed
            if time.monotonic() - shown_at >= _SHOWN_EVERY_S:
                shown_at = time.monotonic()
                self.stage("embedding", done, total)
            yield batch
        self.stage("building")

    def indexing(self, done: int, total: int) -> None:
        """What `build_index` takes as its `indexing`."""
        if time.monotonic() - self._shown_at >= _SHOWN_EVERY_S:
            self._shown_at = time.monotonic()
            self.stage("building", done, total)


def _progress_path() -> Path:
    return _folder() / "progress.json"


def _progress_of(task_id: str) -> Progress | None:
    try:
        progress = Progress(**json.loads(_progress_path().read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return progress if progress.task == task_id else None


# --- what became of it -------------------------------------------------------------------------
def recent_work(most: int, *paths: str) -> list[Work]:
    """The last tasks, the youngest first; of these functions, by dotted path. Two queries at most."""
    alive = living_workers()
    tasks = DBTaskResult.objects.filter(task_path__in=paths).order_by("-enqueued_at")[:most]
    return [_seen(task, alive) for task in tasks]


def find_work(task_id: str, *paths: str) -> Work | None:
    """One of these tasks."""
    task = DBTaskResult.objects.filter(task_path__in=paths, pk=task_id).first()
    return _seen(task, living_workers()) if task else None


def _seen(task: DBTaskResult[Any, Any], alive: set[str]) -> Work:
    state = _STATES[TaskResultStatus(task.status)]
    lost = state == "running" and not (task.worker_ids and task.worker_ids[-1] in alive)
    if lost or task.exception_class_path in _STOPPED:
        state = "interrupted"
    return Work(
        id=str(task.pk),
        name=task.task_path.rpartition(".")[2],
        state=state,
        enqueued_at=task.enqueued_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        progress=_progress_of(str(task.pk)) if state == "running" else None,
        outcome=task.return_value or {},
        trouble=_sentence(task.traceback) if state == "failed" else "",
    )


_STATES = {
    TaskResultStatus.READY: "waiting",
    TaskResultStatus.RUNNING: "running",
    TaskResultStatus.SUCCESSFUL: "done",
    TaskResultStatus.FAILED: "failed",
}
_STOPPED = ("builtins.SystemExit", "builtins.KeyboardInterrupt")


def _sentence(traceback: str) -> str:
    """What the error said."""
    last = traceback.strip().rpartition("\n")[2]
    return last.partition(": ")[2] or last
