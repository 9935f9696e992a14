"""`manage.py restore DIR`: an empty data folder becomes the shop that a backup was made of."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat

from similarity.backups import check, restore
from similarity.database_copies import BackupError
from similarity.management.arguments import files_bar, told_in_a_sentence


class Command(BaseCommand):
    help = (
        "Makes the data folder (VITRINE_DATA_DIR) and the database (DATABASE_URL), which have to be empty, what they "
        "were when the backup was made, and brings the database up to the present version. Every file is compared with "
        "its SHA-256 on the way."
    )
    # There is no database yet that could be checked.
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="what manage.py backup has written")
        parser.add_argument("--check", action="store_true", help="only read it all, and say whether it is whole")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        do = check if options["check"] else restore
        with told_in_a_sentence():
            try:
                found = do(folder, files_bar("read"))
            except BackupError as error:
                raise CommandError(str(error)) from error
            what = f"{found.products:,} products in {len(found.files):,} files ({filesizeformat(found.size)})"
            when = f"{found.created_at:%Y-%m-%d %H:%M} UTC"
            if options["check"]:
                self.stdout.write(f"The backup of {when} is whole: {what}.")
                return
            call_command("migrate", verbosity=0)
        self.stdout.write(f"{settings.DATA_DIR} is again as it was at {when}: {what}.")
