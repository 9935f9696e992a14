"""What is done in the background: embedding pictures that were changed by hand, and building.

Enqueued in the transaction of whoever asks, and done by `manage.py worker`, one after another. Each goes on from where
a killed one stood.
"""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django_tasks import TaskContext, task
from django_tasks.base import Task
from django_tasks_db.models import DBTaskResult

from similarity.building import build_index, embed_missing
from similarity.builds import NoBuild
from similarity.reports import report_on, stored_report
from similarity.services import index_status
from similarity.working import Reporter, Work, find_work, living_workers, recent_work

logger = logging.getLogger(__name__)

REBUILD_DUE = (
    "Many looks are younger than the index, and each is compared with every question. Run: python manage.py "
    "build_index (or set VITRINE_REBUILD_AUTO=1)"
)
WAIT_S = 600.0
"""How long a task waits for somebody else's build to end."""


@task(takes_context=True)
def embed_waiting(context: TaskContext) -> dict[str, Any]:
    """Embed what waits, for the published build: younger looks answer beside it. Without a build, make one.

    Where these have become many, another one is made, or the operator is told, as the settings say.
    """
    with Reporter(context.task_result.id) as reporter:
        try:
            embedded, failed = embed_missing(progress=reporter, wait_s=WAIT_S)
        except NoBuild:
            return _build(reporter, None)
    if index_status().is_rebuild_due:
        if settings.SIMILARITY["REBUILD"]["AUTO"]:
            build_soon()
        else:
            logger.warning(REBUILD_DUE)
    return {"embedded": embedded, "failed": failed}


@task(takes_context=True)
def embed_and_build(context: TaskContext, model: str | None = None) -> dict[str, Any]:
    """What `build_index` does."""
    with Reporter(context.task_result.id) as reporter:
        return _build(reporter, model)


def _build(reporter: Reporter, model: str | None) -> dict[str, Any]:
    reporter.stage("building")
    report = build_index(model, progress=reporter, indexing=reporter.indexing, wait_s=WAIT_S)
    if report.changed or stored_report(report.index) is None:
        reporter.stage("judging")
        report_on(report.index)
    return {name: getattr(report, name) for name in ("embedded", "failed", "index", "looks", "changed")}


def embed_soon() -> None:
    """See to it that what waits now is embedded; one task is enough for all of it."""
    _enqueue_once(embed_waiting)


def build_soon(model: str | None = None) -> Work:
    """See to it that all is embedded and built; the task that will do it, which may have been waiting already."""
    task_id = _enqueue_once(embed_and_build, **({"model": model} if model else {}))
    work = find_work(task_id, *_PATHS)
    assert work is not None
    return work


def _enqueue_once(wanted: Task[..., Any], **arguments: Any) -> str:
    """A task that has not begun yet will see all that there is when it does."""
    waiting = DBTaskResult.objects.ready().filter(task_path=wanted.module_path)
    for same in waiting:
        if same.args_kwargs["kwargs"] == arguments:
            return str(same.pk)
    return str(wanted.enqueue(**arguments).id)


_PATHS = (embed_waiting.module_path, embed_and_build.module_path)


def recent(most: int = 5) -> list[Work]:
    """The last tasks, the youngest first."""
    return recent_work(most, *_PATHS)


def find(task_id: str) -> Work | None:
    return find_work(task_id, *_PATHS)


def is_anybody_working() -> bool:
    """Whether a worker is alive."""
    return bool(living_workers())
