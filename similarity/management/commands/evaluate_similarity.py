"""`manage.py evaluate_similarity`: how often neighbours share the catalogue's labels."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from similarity.evaluation import Evaluation, evaluate_similarity
from similarity.management.arguments import mix_argument, told_in_a_sentence, whole_number
from similarity.mix import format_mix


class Command(BaseCommand):
    help = (
        "Judges the published index by the catalogue's own labels, leave-one-out. Products with the same picture "
        "never count as each other's match; queries without a label are left out and counted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("-k", type=whole_number(1, 1000), default=10, help="Neighbours judged (default: 10).")
        parser.add_argument("--mix", type=mix_argument, help="style:1 judges the plain network. Default: the index's.")
        parser.add_argument(
            "--whole", action="store_true", default=True, help="Measure over the whole catalogue (the default)."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_sentence():
            evaluation = evaluate_similarity(options["k"], options["mix"])
        self.stdout.write(json.dumps(evaluation.to_json()) if options["json"] else _table(evaluation))


def _table(evaluation: Evaluation) -> str:
    width = max(len(name) for name in evaluation.labels)
    lines = [
        f"{evaluation.products} products, {evaluation.model}, mix {format_mix(evaluation.mix)}, leave-one-out",
        "",
        f"{'label':<{width}}  {'p@1':>6}  {f'p@{evaluation.k}':>6}  {'queries':>7}  left out",
    ]
    for name, precision in evaluation.labels.items():
        at_1, at_k = ("     –" if value is None else f"{value:6.3f}" for value in (precision.p_at_1, precision.p_at_k))
        lines.append(f"{name:<{width}}  {at_1}  {at_k}  {precision.queries:>7}  {precision.left_out:>8}")
    return "\n".join(lines)
