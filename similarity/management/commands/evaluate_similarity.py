"""`manage.py evaluate_similarity`: how often neighbours share the catalogue's labels."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from similarity.evaluation import (
    ClassScore,
    Comparison,
    Evaluation,
    EvaluationError,
    compare_models,
    evaluate_similarity,
    write_matches,
)
from similarity.evaluation_page import write_page
from similarity.management.arguments import mix_argument, told_in_a_sentence, whole_number
from similarity.mix import format_mix

COMMON, WORST = 8, 4
"""Values of a label that --per-class shows: the most frequent, and the worst of the others."""
LEAST_QUERIES = 10
"""Of fewer queries, a value's precision says little: it is not called one of the worst."""


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
        parser.add_argument(
            "--models",
            type=_models,
            metavar="A,B",
            help="Compare the embeddings of several models, as build_index --model names them, on the same products.",
        )
        parser.add_argument("--per-class", action="store_true", help="Show single types, genders, colours … too.")
        parser.add_argument("--html", type=Path, metavar="FILE", help="Write a page with figures, plots and pictures.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        fit_ids, test_ids = (_ids(options[name]) for name in ("fit_ids", "test_ids"))
        if (fit_ids is None) != (test_ids is None):
            raise CommandError("--fit-ids and --test-ids belong together: give both.")
        if options["whole"] and fit_ids is not None:
            raise CommandError("--whole judges what the index was fitted on; it goes without --fit-ids.")
        if options["models"]:
            for name in ("whole", "matches", "per_class"):
                if options[name]:
                    raise CommandError(f"--{name.replace('_', '-')} is for one model; it goes without --models.")
        found: Evaluation | Comparison
        k, mix = options["k"], options["mix"]
        with told_in_a_sentence():
            try:
                if options["models"]:
                    found = compare_models(options["models"], k, mix, fit_ids=fit_ids, test_ids=test_ids)
                else:
                    found = evaluate_similarity(k, mix, whole=options["whole"], fit_ids=fit_ids, test_ids=test_ids)
            except EvaluationError as error:
                raise CommandError(str(error)) from error
        if options["matches"] and isinstance(found, Evaluation):
            with _writing("--matches", options["matches"]):
                write_matches(found, options["matches"])
        if options["html"]:
            with _writing("--html", options["html"]):
                write_page(found, options["html"])
        if options["json"]:
            self.stdout.write(json.dumps(found.to_json()))
        elif isinstance(found, Comparison):
            self.stdout.write(_comparison_table(found))
        else:
            self.stdout.write(_table(found))
            if options["per_class"]:
                self.stdout.write(_classes_table(found))


def _models(text: str) -> list[str]:
    """`--models A,B`: at least two names, each once."""
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise ArgumentTypeError(f"'{text}' does not name two models or more, each once: A,B.")
    return names


@contextmanager
def _writing(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{option} {path}: {error.strerror}.") from error


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
        plain, ratio = baseline[name].p_at_k, evaluation.ratio(name)
        lines.append(
            f"{name:<{width}}  {_figure(scores.p_at_1)}  {_figure(scores.p_at_k)}  {_figure(evaluation.spread(name))}  "
            f"{_figure(plain)}  {_figure(ratio)}  {_figure(scores.ndcg_at_k, 7)}  {_figure(scores.map_at_k, 7)}  "
            f"{scores.queries:>7}  {scores.left_out:>8}"
        )
    adopted = sum(bool(fold.adapter and fold.adapter.adopted) for fold in evaluation.folds)
    if not evaluation.whole:
        lines += ["", f"The adapter was adopted in {adopted} of {len(evaluation.folds)} fits."]
    return "\n".join(lines)


def _classes_table(evaluation: Evaluation) -> str:
    """The most frequent values of every label, and the worst of the others."""
    lines = []
    for label, scores in evaluation.classes.items():
        chosen = _telling(scores)
        if chosen:
            width = max(len(label), *map(len, chosen))
            lines += ["", f"{label:<{width}}  {f'p@{evaluation.k}':>6}  {'plain':>6}  {'queries':>7}"]
            lines += [
                f"{value:<{width}}  {_figure(scores[value].p_at_k)}  {_figure(scores[value].plain)}  "
                f"{scores[value].queries:>7}"
                for value in chosen
            ]
            if len(scores) > len(chosen):
                lines.append(f"and {len(scores) - len(chosen)} more (--json, --html)")
    return "\n".join(lines)


def _telling(scores: Mapping[str, ClassScore]) -> Sequence[str]:
    """The COMMON values with most queries, then the WORST of the others that have enough."""
    values = list(scores)
    others = [value for value in values[COMMON:] if scores[value].queries >= LEAST_QUERIES]
    return values[:COMMON] + sorted(others, key=lambda value: scores[value].p_at_k)[:WORST]


def _comparison_table(comparison: Comparison) -> str:
    """A column of the mix and one of the plain network for each model."""
    evaluations = comparison.evaluations
    some = next(iter(evaluations.values()))
    width = max(map(len, some.labels))
    columns = [max(16, len(name)) for name in evaluations]
    lines = [
        f"{comparison.products} products that all of them have embedded, mix {format_mix(comparison.mix)}",
        f"precision@{comparison.k}, {_how(some)}: the mix with its spread, and the plain network",
        "",
        "  ".join([" " * width, *(f"{name:>{column}}" for name, column in zip(evaluations, columns, strict=True))]),
        "  ".join(["label".ljust(width), *(f"{'mix':>{column - 9}} ±    {'plain'}" for column in columns)]),
    ]
    for label in some.labels:
        cells = [
            f"{_figure(each.labels[label].p_at_k, column - 11)} {_figure(each.spread(label), 5)} "
            f"{_figure(each.baseline[label].p_at_k, 4)}"
            for each, column in zip(evaluations.values(), columns, strict=True)
        ]
        lines.append("  ".join([label.ljust(width), *cells]))
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
