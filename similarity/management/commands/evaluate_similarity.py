"""`manage.py evaluate_similarity`: how often neighbours share the catalogue's labels."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from similarity.evaluation import Evaluation, EvaluationError, evaluate_similarity, write_matches
from similarity.management.arguments import mix_argument, told_in_a_sentence, whole_number
from similarity.mix import format_mix


class Command(BaseCommand):
    help = (
        "Judges the model of the published index by the catalogue's own labels, beside the plain network: fitted on "
        "one half of the products and measured on the other, five times. Products with the same picture lie in the "
        "same half and never count as each other's match; queries without a label are left out and counted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("-k", type=whole_number(1, 1000), default=10, help="Neighbours judged (default: 10).")
        parser.add_argument("--mix", type=mix_argument, help="As style:1,colour:0.5. Default: the index's own.")
        parser.add_argument(
            "--whole", action="store_true", help="Judge the published index as it is, over all that it was fitted on."
        )
        parser.add_argument("--fit-ids", type=Path, metavar="FILE", help="Fit on these products, one id a line.")
        parser.add_argument("--test-ids", type=Path, metavar="FILE", help="Judge these, one id a line.")
        parser.add_argument("--matches", type=Path, metavar="FILE", help="Write every neighbour as CSV.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        fit_ids, test_ids = (_ids(options[name]) for name in ("fit_ids", "test_ids"))
        if (fit_ids is None) != (test_ids is None):
            raise CommandError("--fit-ids and --test-ids belong together: give both.")
        if options["whole"] and fit_ids is not None:
            raise CommandError("--whole judges what the index was fitted on; it goes without --fit-ids.")
        with told_in_a_sentence():
            try:
                evaluation = evaluate_similarity(
                    options["k"], options["mix"], whole=options["whole"], fit_ids=fit_ids, test_ids=test_ids
                )
            except EvaluationError as error:
                raise CommandError(str(error)) from error
        if options["matches"]:
            try:
                write_matches(evaluation, options["matches"])
            except OSError as error:
                raise CommandError(f"--matches {options['matches']}: {error.strerror}.") from error
        self.stdout.write(json.dumps(evaluation.to_json()) if options["json"] else _table(evaluation))


def _ids(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read ({error}).") from error


def _table(evaluation: Evaluation) -> str:
    labels, baseline = evaluation.labels, evaluation.baseline
    width = max(map(len, labels))
    k = evaluation.k
    how = "the published index, on all that it was fitted on" if evaluation.whole else _how(evaluation)
    lines = [
        f"{evaluation.products} products, {evaluation.model}, mix {format_mix(evaluation.mix)}",
        f"{how}; beside it the plain network",
        "",
        f"{'label':<{width}}  {'p@1':>6}  {f'p@{k}':>6}  {'spread':>6}  {'plain':>6}  {'ratio':>6}  {f'nDCG@{k}':>7}  "
        f"{f'mAP@{k}':>7}  {'queries':>7}  left out",
    ]
    for name, scores in labels.items():
        plain = baseline[name].p_at_k
        ratio = scores.p_at_k / plain if scores.p_at_k is not None and plain else None
        lines.append(
            f"{name:<{width}}  {_figure(scores.p_at_1)}  {_figure(scores.p_at_k)}  {_figure(evaluation.spread(name))}  "
            f"{_figure(plain)}  {_figure(ratio)}  {_figure(scores.ndcg_at_k, 7)}  {_figure(scores.map_at_k, 7)}  "
            f"{scores.queries:>7}  {scores.left_out:>8}"
        )
    adopted = sum(bool(fold.adapter and fold.adapter.adopted) for fold in evaluation.folds)
    if not evaluation.whole:
        lines += ["", f"The adapter was adopted in {adopted} of {len(evaluation.folds)} fits."]
    return "\n".join(lines)


def _how(evaluation: Evaluation) -> str:
    folds = len(evaluation.folds)
    return (
        f"fitted on some products and measured on others, {folds} times"
        if folds > 1
        else (
            f"fitted on {evaluation.folds[0].fitted_on} products, measured on {len(evaluation.folds[0].judged)} others"
        )
    )


def _figure(value: float | None, width: int = 6) -> str:
    return f"{'–':>{width}}" if value is None else f"{value:{width}.3f}"
