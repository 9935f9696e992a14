"""`manage.py build_map`: lay all pictures out by likeness on one plane, for the page /map/."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.template.defaultfilters import filesizeformat
from tqdm import tqdm

from similarity.management.arguments import told_in_a_sentence
from similarity.maps.building import MapReport, build_map
from similarity.products import count_embedded


class Command(BaseCommand):
    help = (
        "Lays the pictures of the published index out by likeness on one plane and draws its sprite sheets, for the "
        "page /map/. Running servers notice. Does nothing where the map that is shown is of that index already."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--full", action="store_true", help="Make the map anew, whatever is there.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        with (
            told_in_a_sentence(),
            tqdm(total=count_embedded(), unit=" pictures", desc="Drawing", disable=None, delay=1) as bar,
        ):
            report = build_map(full=options["full"], drawn=bar.update)
        self.stdout.write(json.dumps(report.to_json()) if options["json"] else _summary(report))


def _summary(report: MapReport) -> str:
    if not report.built:
        return f"The map shows index {report.build} already ({report.products} pictures); it stays as it is."
    took = sum(report.seconds.values())
    lines = [
        f"Laid {report.products} pictures of index {report.build} out on {report.columns} × {report.rows} cells in "
        f"{took:.1f} s: map {report.map}.",
        f"Its sprite sheets are {report.tiles} tiles, {filesizeformat(report.size)} in all.".replace("\xa0", " "),
    ]
    quality = report.quality
    if quality["trustworthiness"] is not None:
        lines.append(
            f"Of each picture's 10 nearest, {quality['within_10']:.0%} are among its 10 nearest on the map, "
            f"{quality['within_30']:.0%} among 30; trustworthiness {quality['trustworthiness']:.3f} "
            f"(asked of {quality['asked']})."
        )
    return "\n".join(lines)
