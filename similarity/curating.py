"""What the shop itself says of panels: products pinned to the top of one, or hidden from it.

A choice is of one product's panel and says nothing of the other's. The judge never sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Max

from similarity.models import Curation
from similarity.products import Product, by_key


@dataclass(frozen=True)
class Choices:
    """`pinned` in their order, visible or not; `hidden`."""

    pinned: tuple[Product, ...] = ()
    hidden: tuple[Product, ...] = ()


NONE = Choices()


def choices_for(product: Product) -> Choices:
    """What was chosen for a product's panel. One query, and another one where something was."""
    chosen = list(Curation.objects.filter(product=product).values_list("other_id", "kind"))
    if not chosen:
        return NONE
    others = by_key([key for key, _ in chosen])
    return Choices(
        tuple(others[key] for key, kind in chosen if kind == Curation.Kind.PINNED and key in others),
        tuple(others[key] for key, kind in chosen if kind == Curation.Kind.HIDDEN and key in others),
    )


def pin(product: Product, other: Product) -> None:
    """Let the other stand in the product's panel, behind those that are pinned already.

    Raises ValueError where both are the same.
    """
    with transaction.atomic():
        pinned = Curation.objects.filter(product=product, kind=Curation.Kind.PINNED).exclude(other=other)
        last: int | None = pinned.aggregate(last=Max("position"))["last"]
        _choose(product, other, Curation.Kind.PINNED, 0 if last is None else last + 1)


def hide(product: Product, other: Product) -> None:
    """Never show the other in the product's panel. Raises ValueError where both are the same."""
    _choose(product, other, Curation.Kind.HIDDEN, 0)


def undo(product: Product, other: Product) -> None:
    """Let the index decide of the other again."""
    Curation.objects.filter(product=product, other=other).delete()


def _choose(product: Product, other: Product, kind: Curation.Kind, position: int) -> None:
    if product.pk == other.pk:
        raise ValueError(f"{product} cannot be chosen for its own panel.")
    Curation.objects.update_or_create(product=product, other=other, defaults={"kind": kind, "position": position})
