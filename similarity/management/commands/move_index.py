"""`manage.py move_index`: the published index, copied to another engine."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from tqdm import tqdm

from similarity.management.arguments import told_in_a_sentence
from similarity.moving import Move, move_index


class Command(BaseCommand):
    help = (
        "Copies the looks of the published index to another engine, compares what both answer, and stores the copy as "
        "a build that can be published. Visitors are answered all the while. Stopped anywhere, it goes on from there "
        "the next time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to",
            required=True,
            metavar="ENGINE",
            help=f"{', '.join(settings.ENGINES)}, or the dotted path of another.",
        )
        parser.add_argument("--publish", action="store_true", help="Let the copy answer at once.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_sentence(), tqdm(unit=" looks", desc="Moving", disable=None, delay=1) as bar:

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            moved = move_index(options["to"], publishing=options["publish"], progress=advance)
        self.stdout.write(json.dumps(moved.to_json()) if options["json"] else _summary(moved))


def _summary(moved: Move) -> str:
    agreement = moved.agreement
    lines = [
        f"Copied the {moved.looks} looks of index {moved.former} to {moved.engine}, in {moved.seconds:.0f} s.",
        f"Asked of {agreement.asked} products, {agreement.equal} have the very same answers, and {agreement.found:.4f} "
        "of the ten nearest are found.",
    ]
    if moved.published:
        lines.append(f"Published index {moved.index}; running servers answer from it. To go back: builds --rollback")
    else:
        lines.append(
            f"Stored as index {moved.index}. To switch without a break: python manage.py builds --use {moved.index}"
        )
    lines.append(f"From now on, build with VITRINE_ENGINE={moved.engine}: the next build_index keeps the looks there.")
    return "\n".join(lines)
