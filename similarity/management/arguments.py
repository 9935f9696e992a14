"""What several commands share: arguments, and how trouble is told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DatabaseError
from tqdm import tqdm

from catalog.no_room import is_no_room, sentence
from similarity.backups import Copy
from similarity.builds import BuildError
from similarity.embedders import EmbedderError
from similarity.indexes import VectorIndexError
from similarity.maps.storage import MapError
from similarity.mix import Mix, MixError, parse_mix
from similarity.products import LABELS
from similarity.refining import parse_min_score
from similarity.services import SimilarityUnavailable
from similarity.spaces import SpaceError


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


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 to 1.")
    return number


def score(text: str) -> float | str:
    """A score, or `calibrated`."""
    try:
        return parse_min_score(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def labels(text: str) -> tuple[str, ...]:
    """`gender,category`."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in LABELS:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(LABELS)}.")
    return names


def label_value(text: str) -> tuple[str, str]:
    """`colour=Blue`."""
    name, equals, value = text.partition("=")
    if name not in LABELS or not equals or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not LABEL=VALUE with a label of {', '.join(LABELS)}.")
    return name, value


def files_bar(verb: str) -> Callable[[Iterable[Copy], int], Iterable[Copy]]:
    """A bar on a terminal, silence in a pipe."""

    def show(copies: Iterable[Copy], total: int) -> Iterable[Copy]:
        bar: Iterable[Copy] = tqdm(
            copies, desc=verb, total=total, file=sys.stderr, disable=None, unit=" files", dynamic_ncols=True
        )
        return bar

    return show


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """What an operator can mend becomes a CommandError; Ctrl-C ends with the exit code that shells expect."""
    try:
        yield
    except (
        EmbedderError,
        SpaceError,
        BuildError,
        MapError,
        VectorIndexError,
        SimilarityUnavailable,
        MixError,
    ) as error:
        raise CommandError(str(error)) from error
    except ImproperlyConfigured as error:
        raise CommandError(f"The settings are not right: {error}") from error
    except (DatabaseError, OSError) as error:
        if is_no_room(error):
            raise CommandError(sentence(error)) from error
        if isinstance(error, DatabaseError):
            raise CommandError(
                f"The database cannot be used ({error}). Is it migrated? python manage.py migrate"
            ) from error
        raise CommandError(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}") from error
    except KeyboardInterrupt:
        raise CommandError(
            "Stopped. What was finished is kept; the same command goes on from there.", returncode=130
        ) from None
