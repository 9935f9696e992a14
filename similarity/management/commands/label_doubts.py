"""`manage.py label_doubts`: labels that a product's neighbours disagree with."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from similarity import products
from similarity.doubts import Doubt, label_doubts
from similarity.management.arguments import told_in_a_sentence, whole_number


class Command(BaseCommand):
    help = (
        "Lists products whose neighbours bear another label than they do, the most doubtful first. Neighbours are the "
        "network's own; for colours, those of the colour part."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--label", action="append", choices=products.LABELS, help="Only this label; may be given several times."
        )
        parser.add_argument("--limit", type=whole_number(1, 1_000_000), default=20, help="How many (default: 20).")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_sentence():
            doubts = label_doubts(options["label"] or products.LABELS)
        shown = doubts[: options["limit"]]
        if options["json"]:
            found = {"count": len(doubts), "doubts": [doubt.to_json() for doubt in shown]}
            self.stdout.write(json.dumps(found, ensure_ascii=False))
            return
        for doubt in shown:
            self.stdout.write(_line(doubt))
        more = len(doubts) - len(shown)
        unseen = f", {more} of them not shown (--limit)" if more else ""
        self.stdout.write(f"Labels in doubt: {len(doubts)}{unseen}.")


def _line(doubt: Doubt) -> str:
    examples = ", ".join(doubt.neighbours[:3])
    return (
        f"{doubt.product_id:<12} {doubt.label} is {doubt.value}; {doubt.other:.0%} of what looks like it is "
        f"{doubt.suggestion}, {doubt.own:.0%} {doubt.value} (as {examples})"
    )
