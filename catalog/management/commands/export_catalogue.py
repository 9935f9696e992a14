"""`manage.py export_catalogue`: the products as a CSV file that `import_fashion` reads."""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.exporting import export_catalogue, write_catalogue


class Command(BaseCommand):
    help = "Write the catalogue as a CSV file: the ten columns, then those that came with the file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="where to write it; - for standard output")
        parser.add_argument(
            "--spreadsheet", action="store_true", help="for opening in one: formulas neutralised, with byte order mark"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["file"] == "-":
            self._to_stdout(options["spreadsheet"])
            return
        path = Path(options["file"])
        try:
            count = export_catalogue(path, spreadsheet=options["spreadsheet"])
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"{count:,} products written to {path}.")

    def _to_stdout(self, spreadsheet: bool) -> None:
        # Past Django's wrapper, which ends every write with a line of its own, and past the locale's encoding.
        stdout: Any = getattr(self.stdout, "_out", sys.stdout)
        if hasattr(stdout, "buffer"):
            text = io.TextIOWrapper(stdout.buffer, encoding="utf-8", newline="", write_through=True)
            try:
                write_catalogue(text, spreadsheet=spreadsheet)
            except BrokenPipeError:
                # Whoever read has enough (`| head`): no trace, and nothing left to flush at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
            finally:
                text.detach()
        else:
            write_catalogue(stdout, spreadsheet=spreadsheet)
