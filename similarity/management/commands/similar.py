"""`manage.py similar`: the answer of the page, on the command line."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.images import ImageError, open_rgb
from similarity.management.arguments import mix_argument, told_in_a_sentence, whole_number
from similarity.mix import Mix
from similarity.products import get_product
from similarity.services import DEFAULT_K, MAX_K, Answer, similar_to, similar_to_image


class Command(BaseCommand):
    help = "Lists the products that look like a product, or like a picture (--image)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("product_id", nargs="?", help="As in the catalogue's ProductId.")
        parser.add_argument("-k", type=whole_number(1, MAX_K), default=DEFAULT_K, help="How many (default: 12).")
        parser.add_argument("--image", type=Path, metavar="FILE", help="Ask with this picture instead.")
        parser.add_argument("--mix", type=mix_argument, help="As kind:1,colour:0.5. Default: the index's own.")
        parser.add_argument("--collapse", action="store_true", help="Count products with the same picture as one.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        if (options["product_id"] is None) == (options["image"] is None):
            raise CommandError("Give a product id or --image FILE, one of the two.")
        with told_in_a_sentence():
            answer = _ask(
                options["product_id"], options["image"], options["k"], options["mix"], collapse=options["collapse"]
            )
        if options["json"]:
            self.stdout.write(json.dumps(answer.to_json(), ensure_ascii=False))
        else:
            self.stdout.write(_table(answer))


def _ask(product_id: str | None, image: Path | None, k: int, mix: Mix | None, *, collapse: bool) -> Answer:
    if image is not None:
        try:
            return similar_to_image(open_rgb(image), k, mix, collapse=collapse)
        except ImageError as error:
            raise CommandError(f"{image}: {error}") from error
    assert product_id is not None
    product = get_product(product_id)
    if product is None:
        raise CommandError(f"There is no product with the id {product_id}.")
    return similar_to(product, k, mix, collapse=collapse)


def _table(answer: Answer) -> str:
    lines = []
    if answer.waiting:
        lines.append("The product's picture is not embedded yet. Run: python manage.py build_index")
    elif not answer.matches:
        lines.append("Nothing to compare: the product has no picture, or nothing else is in the index.")
    if answer.missing_parts:
        lines.append(f"Not compared: {', '.join(answer.missing_parts)}.")
    for match in answer.matches:
        parts = "  ".join(f"{part} {value:+.3f}" for part, value in match.parts.items())
        more = f"  and {match.more} more with this picture" if match.more else ""
        lines.append(f"{match.score:.3f}  {match.product.product_id:<12} {match.product.title}  ({parts}){more}")
    return "\n".join(lines)
