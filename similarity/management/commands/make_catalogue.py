"""`manage.py make_catalogue`: a large catalogue for trials, grown from a small one."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from similarity.inventing import Invented, invent
from similarity.management.arguments import told_in_a_sentence, whole_number


class Command(BaseCommand):
    help = (
        "Adds N invented products to the catalogue, without pictures, whose embeddings are grown from those of the "
        "real ones: as like each other as these are, of the same kinds, one in five nearly a copy. For trials at "
        "sizes that nobody has pictures for: afterwards, build_index. To begin with, import a catalogue and build its "
        "index."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("count", type=whole_number(1, 100_000_000), metavar="N", help="How many products.")
        parser.add_argument("--seed", type=whole_number(0, 2**31), default=0, help="Another one, other products.")
        parser.add_argument("--remove", action="store_true", help="Remove those that were invented before, first.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        count: int = options["count"]
        try:
            with (
                told_in_a_sentence(),
                tqdm(total=count, unit=" products", desc="Inventing", disable=None, smoothing=0.1) as bar,
            ):
                made = invent(count, options["seed"], remove=options["remove"], progress=bar.update)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(made.to_json()) if options["json"] else _summary(made))


def _summary(made: Invented) -> str:
    likeness = ", ".join(
        f"{rank}. {of_source:.3f} and {made.likeness[rank]:.3f}" for rank, of_source in made.source_likeness.items()
    )
    return (
        f"Invented {made.count} products from {made.source} real ones in {made.seconds:.0f} s.\n"
        f"Median likeness to the nearest, real and invented: {likeness}; local dimension "
        f"{made.source_dimension:.1f} and {made.dimension:.1f}.\n"
        "They have embeddings and no look yet. Run: python manage.py build_index"
    )
