"""`manage.py export_index DIR`: the index for plain FAISS and notebooks."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from similarity.exporting import export_index
from similarity.management.arguments import told_in_a_sentence


class Command(BaseCommand):
    help = "Writes vector.index (FAISS), image_ids.json and product_ids.json, all in one order."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="Made where it does not exist.")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_sentence():
            report = export_index(options["folder"])
        self.stdout.write(
            f"Wrote vector.index ({report.products} looks of {report.dimension} dimensions), image_ids.json and "
            f"product_ids.json to {report.folder}."
        )
