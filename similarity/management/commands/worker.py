"""`manage.py worker`: does what the site puts off to the background."""

from __future__ import annotations

import logging
import os
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.db import DatabaseError, connection
from django_tasks_db.management.commands import db_worker

from similarity.working import ALIVE_S, every, heartbeat, take_over

logger = logging.getLogger(__name__)

FORGET_AFTER_DAYS = 30
_LOOK_UP_S = 1.0
_PATIENCE_S = 10.0


class Command(db_worker.Command):
    help = (
        "Works in the background: embeds pictures that were changed in the admin or by the API, and builds the index "
        "where somebody asks for it there. One is enough; Ctrl-C ends it after the task that it is at."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(interval=0.5, reload=False, startup_delay=False)
        parser.add_argument(
            "--until-parent-ends", action="store_true", help="End with the process that started it, however that ends."
        )

    def configure_logging(self, verbosity: int) -> None:
        super().configure_logging(verbosity)
        if verbosity == 0:  # quiet, but not about what went wrong
            for name in ("django_tasks", "django_tasks_db"):
                logging.getLogger(name).setLevel(logging.ERROR)

    def handle(self, *, until_parent_ends: bool, **options: Any) -> None:  # type: ignore[override]
        if until_parent_ends:
            threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
        with heartbeat(options["worker_id"]):
            if options["verbosity"]:
                self.stdout.write("Working in the background; Ctrl-C ends it.")
            take_over()
            call_command("prune_db_task_results", min_age_days=FORGET_AFTER_DAYS, verbosity=0)
            with every(ALIVE_S, _look_after_others):
                super().handle(**options)


def _look_after_others() -> None:
    """A worker that dies while this one lives leaves its tasks to it, once it is known to be dead."""
    try:
        take_over()
    except DatabaseError as error:  # busy, or away for a moment: there is a next time
        logger.warning("Nobody could look for tasks of dead workers: %s", error)
    finally:
        connection.close()


def _end_with(parent: int) -> None:
    """End when the parent has: after the present task if that is soon, else in the middle; the next one goes on."""
    nothing = threading.Event()
    while os.getppid() == parent:
        nothing.wait(_LOOK_UP_S)
    os.kill(os.getpid(), signal.SIGTERM)
    nothing.wait(_PATIENCE_S)
    os.kill(os.getpid(), signal.SIGTERM)
