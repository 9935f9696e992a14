"""`manage.py backup DIR`: everything the shop has, in a folder of its own."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat

from similarity.backups import back_up
from similarity.database_copies import BackupError, PostgresCopy
from similarity.management.arguments import files_bar, told_in_a_sentence


class Command(BaseCommand):
    help = (
        "Copies database, pictures, embeddings, indexes and maps to a new folder, while the shop goes on. "
        "manage.py restore makes an empty data folder a shop again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is not there yet")
        parser.add_argument(
            "--previous", type=Path, metavar="DIR", help="a former backup on the same disk; its pictures are linked"
        )
        parser.add_argument(
            "--wait", type=float, default=600, metavar="S", help="how long to wait for a build that runs (default: 600)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        with told_in_a_sentence():
            try:
                made = back_up(
                    folder, previous=options["previous"], wait_s=options["wait"], progress=files_bar("copied")
                )
            except BackupError as error:
                raise CommandError(str(error)) from error
        name = shlex.quote(str(folder))
        empty = "VITRINE_DATA_DIR=/an/empty/folder"
        if PostgresCopy.name in made.files:
            empty += " DATABASE_URL=postgres://…/an_empty_database"
        self.stdout.write(
            f"{made.products:,} products in {len(made.files):,} files ({filesizeformat(made.size)}) are in {folder}. "
            f"Check it, or restore it where nothing is yet:\n"
            f"  python manage.py restore --check {name}\n"
            f"  {empty} python manage.py restore {name}"
        )
