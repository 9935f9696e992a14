"""What was imported when, by whom, and what became of it: a line in the database for every import, and its rejects.

A process that is killed cannot say so any more. So an import holds a lock on a file for as long as it runs, which the
system takes from it with its life; a run that says it is running and whose lock is free was interrupted.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.db import DatabaseError
from filelock import FileLock, Timeout

from catalog.models import ImportRun

KEPT_REJECTS = 50
KEPT_REJECTS_DAYS = 180
KEPT_REJECTS_BYTES = 512 * 2**20
"""Files of rejected rows: the youngest, as long as they are not older, and no more of them together."""
_COUNTS = ("rows", "created", "updated", "unchanged", "rejected", "missing")


class Counts(Protocol):
    rows: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    missing: int


def imports_dir() -> Path:
    """Where imports keep what is theirs; made where it is not there yet."""
    folder = Path(settings.DATA_DIR) / "imports"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def recorded(path: Path, name: str, who: str, options: Mapping[str, Any], counts: Counts) -> Iterator[ImportRun]:
    """An import as a line in the database, from its beginning to its end. `counts` are read when it ends."""
    began = time.monotonic()
    settle_interrupted()
    run = ImportRun(file_name=name[:255], who=who, options=dict(options))
    with suppress(OSError):  # which the import says better
        run.sha256 = sha256_of(path)
    with _lock(run):
        run.save(force_insert=True)
        state, error = ImportRun.State.FAILED, ""
        try:
            yield run
            state = ImportRun.State.DONE
        except KeyboardInterrupt:
            state = ImportRun.State.INTERRUPTED
            raise
        except Exception as trouble:
            error = str(trouble) or type(trouble).__name__
            raise
        finally:
            run.error = run.error or error
            run.state = ImportRun.State.FAILED if run.error else state
            run.seconds = round(time.monotonic() - began, 3)
            for count in _COUNTS:
                setattr(run, count, getattr(counts, count))
            # Where the database itself is the trouble, that is what whoever waits shall hear of.
            with suppress(DatabaseError):
                run.save(force_update=True)
    prune_rejects()


def settle_interrupted() -> None:
    """Say of imports that were killed that they were."""
    for run in ImportRun.objects.filter(state=ImportRun.State.RUNNING):
        with suppress(Timeout), _lock(run):
            # It may have ended since we looked.
            running = ImportRun.objects.filter(pk=run.pk, state=ImportRun.State.RUNNING)
            running.update(state=ImportRun.State.INTERRUPTED)


def rejects_path(run: ImportRun) -> Path:
    """Where the rows that a run rejected are kept; the file is there as long as it is kept and if there were any."""
    folder = imports_dir() / "rejects"
    folder.mkdir(exist_ok=True)
    return folder / f"{run.token}.csv"


def prune_rejects() -> None:
    """Remove the files of rejects that are too old, too many or too large."""
    now, together = time.time(), 0
    with_state = [(path, path.stat()) for path in (imports_dir() / "rejects").glob("*.csv")]
    with_state.sort(key=lambda each: each[1].st_mtime, reverse=True)
    for at, (path, state) in enumerate(with_state):
        together += state.st_size
        too_old = now - state.st_mtime > KEPT_REJECTS_DAYS * 24 * 3600
        if at >= KEPT_REJECTS or too_old or (at and together > KEPT_REJECTS_BYTES):
            path.unlink(missing_ok=True)


@contextmanager
def _lock(run: ImportRun) -> Iterator[None]:
    """Held by the run itself, or for a moment by whoever looks after it. Raises Timeout while another holds it."""
    path = imports_dir() / f"{run.token}.lock"
    with FileLock(path, timeout=0):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
