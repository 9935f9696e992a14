"""`manage.py build_index`: embed what is missing, build the index, publish it, judge it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from similarity import products
from similarity.building import BuildReport, build_index
from similarity.management.arguments import told_in_a_sentence
from similarity.maps.building import map_is_behind
from similarity.pipeline import Batch
from similarity.reports import report_on, stored_report
from similarity.runners.base import RUNNERS, Runner


class Command(BaseCommand):
    help = (
        "Embeds the pictures that have no embedding yet, builds the index and publishes it in one step (with "
        "--hold, without publishing it; `builds` lists and switches). "
        "Stopped anywhere, it goes on from there the next time. What it has built is then judged, as by "
        "evaluate_similarity but on three halves, and the report kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model",
            help="efficientnet-lite0 (comes with Vitrine), a Hub id as facebook/dinov2-small, or a folder. "
            "Default: VITRINE_MODEL, else the model of the published index, else facebook/dinov2-small.",
        )
        parser.add_argument(
            "--name",
            help="What the build is called. Default: as the published one where that is of the same model, else as the "
            "model.",
        )
        parser.add_argument(
            "--hold", action="store_true", help="Store the build and do not publish it: `builds --use NAME` does."
        )
        parser.add_argument("--full", action="store_true", help="Embed every picture anew.")
        parser.add_argument(
            "--runner",
            choices=RUNNERS,
            default="local",
            help="Where pictures are embedded: here, or by Ray on many machines.",
        )
        parser.add_argument("--address", help="Ray's, as 10.0.0.1:6379; without it, a cluster of this machine alone.")
        parser.add_argument("--no-report", action="store_true", help="Do not judge what was built.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_sentence():
            with tqdm(unit=" looks", desc="Indexing", disable=None, delay=1) as bar:
                report = build_index(
                    options["model"],
                    name=options["name"],
                    hold=options["hold"],
                    full=options["full"],
                    progress=_progress_bar,
                    indexing=lambda done, total: _advance(bar, done, total),
                    runner=Runner(options["runner"], options["address"]),
                )
            self.stdout.write(json.dumps(report.to_json()) if options["json"] else _summary(report))
            unjudged = report.changed or stored_report(report.index) is None
            judged = report_on(report.index) if unjudged and not options["no_report"] else None
            behind = map_is_behind()
        if judged and not options["json"]:
            self.stdout.write(_about_report(judged))
        if behind and not options["json"]:
            self.stdout.write("The map at /map/ shows an earlier index. To draw it anew: python manage.py build_map")


def _progress_bar(batches: Iterator[Batch], total: int) -> Iterator[Batch]:
    """On a terminal: rate, time left and failures so far. Elsewhere: nothing."""
    failed = 0
    with tqdm(total=total, unit=" pictures", desc="Embedding", disable=None, smoothing=0.1) as bar:
        for batch in batches:
            failed += batch.failed
            if failed:
                bar.set_postfix(failed=failed)
            bar.update(batch.embedded + batch.failed)
            yield batch


def _advance(bar: tqdm[Any], done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _summary(report: BuildReport) -> str:
    lines = []
    if report.embedded:
        lines.append(f"Embedded {report.embedded} pictures with {report.model} ({report.images_per_s} a second).")
    if report.reused:
        lines.append(f"{report.reused} pictures had their embeddings already.")
    if report.failed:
        lines.append(f"{report.failed} pictures could not be read; they stay out of the index.")
    lines.append(_about_build(report))
    if report.built:
        if not report.kind["exact"]:
            lines.append(_about_kind(report.kind))
        lines.append(_about_adapter(report.adapter))
        if report.peak_mib:
            lines.append(f"It took {report.seconds:.0f} s and at most {report.peak_mib} MiB of memory.")
    if not report.published:
        lines.append(f"It is not published. To publish it: python manage.py builds --use {report.index}")
    return "\n".join(lines)


def _about_build(report: BuildReport) -> str:
    size = f"{report.looks} looks of {report.dimension} dimensions, called {report.name}"
    if report.built:
        return f"{'Published' if report.published else 'Stored'} index {report.index}: {size}."
    if report.changed:
        return f"Published index {report.index}, which was stored already: {size}."
    stays = "; it stays published" if report.published else ""
    return f"Nothing has changed since index {report.index} ({report.looks} looks){stays}."


def _about_kind(kind: dict[str, Any]) -> str:
    return (
        f"It is approximate ({kind['factory']}, search effort {kind['effort']}): of the ten nearest it finds "
        f"{kind['recall']:.4f}, asked of {kind['asked']} looks."
    )


def _about_adapter(adapter: dict[str, Any]) -> str:
    """What became of the part that is learned from the catalogue's labels."""
    said = "The adapter (kind) is part of the looks" if adapter["adopted"] else "The adapter (kind) was left out"
    if adapter["precision"] is None:
        return f"{said}: {adapter['reason']}."
    return (
        f"{said}: {adapter['reason']} ({'+'.join(adapter['labels'])}, precision@10 {adapter['precision']:.3f} with it, "
        f"{adapter['without']:.3f} without, on products it was not fitted on)."
    )


def _about_report(judged: dict[str, Any]) -> str:
    """The report in a line; evaluate_similarity tells more."""
    plain = judged["baseline"]["labels"]
    found = [
        f"{label} {scores['p_at_k']:.3f} ({plain[label]['p_at_k']:.3f})"
        for label, scores in judged["labels"].items()
        if scores["p_at_k"] is not None and label in products.LABELS
    ]
    if not found:
        return "No product has a label to judge the index by."
    return f"Judged on products it was not fitted on: precision@{judged['k']} (plain network) {', '.join(found)}."
