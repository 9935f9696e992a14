"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from similarity.mix import Mix, MixError, parse_mix


def mix_argument(text: str) -> Mix:
    """`--mix style:1,colour:0.5`."""
    try:
        return parse_mix(text)
    except MixError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number within bounds, both included."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {lowest} to {highest}.")
        return int(text)

    return parse
