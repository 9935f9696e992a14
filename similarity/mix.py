"""The mix: how much each part of a look weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping

Mix = Mapping[str, float]


class MixError(ValueError):
    """The mix makes no sense; the message says why, for whoever wrote it."""


def parse_mix(text: str) -> Mix:
    """`"style:1,colour:0.5"` → `{"style": 1.0, "colour": 0.5}`.

    Raises MixError for anything else. A weight may be negative (less like that), never infinite, and at
    least one must differ from zero.
    """
    mix: dict[str, float] = {}
    for item in text.split(","):
        name, colon, weight = (piece.strip() for piece in item.partition(":"))
        if not name or not colon:
            raise MixError(f"'{item.strip()}' in the mix is not 'part:weight', as in 'style:1,colour:0.5'.")
        if name in mix:
            raise MixError(f"The mix names '{name}' twice.")
        try:
            mix[name] = float(weight)
        except ValueError:
            raise MixError(f"The weight of '{name}' in the mix is '{weight}', which is no number.") from None
    return check_mix(mix)


def check_mix(mix: Mix) -> Mix:
    """The mix itself, or MixError: weights must be finite, at most 1,000, and not all zero."""
    for name, weight in mix.items():
        if not math.isfinite(weight) or abs(weight) > 1000:
            raise MixError(f"The weight of '{name}' in the mix must lie between -1000 and 1000.")
    if not any(mix.values()):
        raise MixError("All weights of the mix are zero: nothing is left to compare.")
    return mix


def format_mix(mix: Mix) -> str:
    """The opposite of `parse_mix`."""
    return ",".join(f"{name}:{weight:g}" for name, weight in mix.items())
