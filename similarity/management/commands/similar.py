"""`manage.py similar`: the answer of the page, on the command line."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.images import ImageError, open_rgb
from similarity.management.arguments import (
    label_value,
    labels,
    mix_argument,
    score,
    share,
    told_in_a_sentence,
    whole_number,
)
from similarity.mix import Mix
from similarity.planning import Plan
from similarity.products import get_product
from similarity.refining import Refinement, relaxed_words
from similarity.services import DEFAULT_K, MAX_K, Answer, similar_to, similar_to_image


class Command(BaseCommand):
    help = "Lists the products that look like a product, or like a picture (--image)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("product_id", nargs="?", help="As in the catalogue's ProductId.")
        parser.add_argument("-k", type=whole_number(1, MAX_K), default=DEFAULT_K, help="How many (default: 12).")
        parser.add_argument("--image", type=Path, metavar="FILE", help="Ask with this picture instead.")
        parser.add_argument("--mix", type=mix_argument, help="As kind:1,colour:0.5. Default: the index's own.")
        parser.add_argument(
            "--collapse", action="store_true", help="Count products with the same or nearly the same picture as one."
        )
        parser.add_argument("--diversity", type=share, default=0.0, metavar="0..1", help="More variety. Default: none.")
        parser.add_argument(
            "--min-score",
            type=score,
            metavar="SCORE",
            help="Leave out what scores less; `calibrated`: the index's own.",
        )
        parser.add_argument(
            "--same", type=labels, default=(), metavar="LABELS", help="Matches share these, as gender,category."
        )
        parser.add_argument("--differ", type=labels, default=(), metavar="LABELS", help="Matches differ in these.")
        parser.add_argument(
            "--only",
            action="append",
            type=label_value,
            default=[],
            metavar="LABEL=VALUE",
            help="Matches have this value, as colour=Blue. May be given several times.",
        )
        parser.add_argument("--no-relax", action="store_true", help="Rather fewer matches than some beside the wishes.")
        parser.add_argument(
            "--uncurated", action="store_true", help="As the index ranks, whatever the shop has pinned or hidden."
        )
        parser.add_argument("--plan", action="store_true", help="Say how the index was asked, and why so.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        if (options["product_id"] is None) == (options["image"] is None):
            raise CommandError("Give a product id or --image FILE, one of the two.")
        with told_in_a_sentence():
            answer = _ask(options, _refinement(options))
        if options["json"]:
            self.stdout.write(json.dumps(answer.to_json(explain=options["plan"]), ensure_ascii=False))
        else:
            self.stdout.write(_table(answer))
            for plan in answer.plans if options["plan"] else ():
                self.stdout.write(_sentence(plan))


def _refinement(options: dict[str, Any]) -> Refinement:
    only: dict[str, tuple[str, ...]] = {}
    for label, value in options["only"]:
        only[label] = (*only.get(label, ()), value)
    return Refinement(
        collapse=options["collapse"],
        diversity=options["diversity"],
        min_score=options["min_score"],
        same=options["same"],
        differ=options["differ"],
        only=only,
        relax=not options["no_relax"],
    )


def _ask(options: dict[str, Any], refinement: Refinement) -> Answer:
    product_id: str | None = options["product_id"]
    image: Path | None = options["image"]
    k: int = options["k"]
    mix: Mix | None = options["mix"]
    if image is not None:
        try:
            return similar_to_image(open_rgb(image), k, mix, refinement)
        except ImageError as error:
            raise CommandError(f"{image}: {error}") from error
    assert product_id is not None
    product = get_product(product_id)
    if product is None:
        raise CommandError(f"There is no product with the id {product_id}.")
    return similar_to(product, k, mix, refinement, curated=not options["uncurated"])


def _sentence(plan: Plan) -> str:
    """ "Asked by cells instead of graph-then-filter: …; 9,120 of 1,000,000 looks might answer, 3,100 were compared."""
    tried = f" instead of {plan.instead_of}" if plan.instead_of else ""
    compared = f", {plan.looked_at:,} were compared one by one" if plan.looked_at else ""
    return f"Asked by {plan.how}{tried}: {plan.why}; {plan.selected:,} of {plan.of:,} looks might answer{compared}."


def _table(answer: Answer) -> str:
    lines = []
    if answer.waiting:
        lines.append("The product's picture is not embedded yet. Run: python manage.py build_index")
    elif not answer.matches:
        lines.append("Nothing to compare: the product has no picture, or nothing else is in the index.")
    if answer.missing_parts:
        lines.append(f"Not compared: {', '.join(answer.missing_parts)}.")
    lines += [f"Too few: {relaxed_words(each)}." for each in answer.relaxed]
    for match in answer.matches:
        parts = "  ".join(f"{part} {value:+.3f}" for part, value in match.parts.items())
        more = f"  and {match.more} more like it" if match.more else ""
        score = "  –  " if match.score is None else f"{match.score:.3f}"
        pinned = "  pinned" if match.pinned else ""
        lines.append(f"{score}  {match.product.product_id:<12} {match.product.title}  ({parts}){more}{pinned}")
    return "\n".join(lines)
