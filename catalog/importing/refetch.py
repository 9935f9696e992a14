"""Fetching the pictures of a few products again, while somebody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from catalog import images
from catalog.importing.download import Fetcher, Manners
from catalog.importing.pictures import Failed, Kept, NoneNamed, PictureTaker, Taken
from catalog.importing.upsert import Placed, Status
from catalog.models import Product

MOST = 20
HURRIED = Manners(
    connect_timeout_s=3, read_timeout_s=4, total_timeout_s=5, tries=1, longest_wait_s=5, give_up_s=8, per_host=6
)
"""One short try each, so that MOST pictures of a host that drips them take 20 s: web servers give their workers up
after 30 s."""


@dataclass(frozen=True)
class Refetched:
    """What became of a product's picture: whether it is another one now, or why it was not fetched."""

    product: Product
    changed: bool = False
    trouble: str = ""


def refetch(products: Sequence[Product], manners: Manners = HURRIED) -> list[Refetched]:
    """Fetch pictures from their products' addresses; what was given by hand stays.

    Failures are noted on the products, as an import does. Raises ValueError for more than MOST products.
    """
    if len(products) > MOST:
        raise ValueError(f"At most {MOST} pictures are fetched at once; these are {len(products)}.")
    by_key = {product.pk: product for product in products}
    taken: list[Taken] = []
    troubles: dict[int, str] = {}
    failed: dict[int, str] = {}
    taker = PictureTaker(None, Fetcher(manners), refetch=True, workers=len(products))
    with closing(taker.take(map(_placed, products))) as outcomes:
        for outcome in outcomes:
            match outcome:
                case Taken():
                    taken.append(outcome)
                case Failed(placed, reason):
                    failed[placed.key] = reason
                case Kept(placed):
                    by_hand = placed.image_source.startswith(images.BY_HAND)
                    troubles[placed.key] = "The picture was given by hand." if by_hand else "There is no address."
                case NoneNamed(placed):
                    troubles[placed.key] = "There is no address."
    images.refuse(failed)
    changed = images.accept(images.Acceptance(each.placed.key, each.stored, each.source) for each in taken)
    troubles |= failed
    return [Refetched(product, key in changed, troubles.get(key, "")) for key, product in by_key.items()]


def _placed(product: Product) -> Placed:
    return Placed(
        key=product.pk,
        product_id=product.product_id,
        status=Status.UNCHANGED,
        image_name=product.image_name,
        image_url=product.image_url,
        image=product.image.name or "",
        thumbnail=product.thumbnail.name or "",
        image_source=product.image_source,
        image_error=product.image_error,
    )
