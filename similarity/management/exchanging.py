"""What `share_builds` and `fetch_builds` have in common."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from similarity.management.arguments import told_in_a_sentence
from similarity.sharing import EXCHANGES, in_a_sentence, keep_up


class ExchangeCommand(BaseCommand):
    exchange: ClassVar[str]
    """One of EXCHANGES."""
    done: ClassVar[str]
    """What it has done to an index, for a sentence."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--every", type=float, metavar="SECONDS", help="Stay, and do it again and again.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with told_in_a_sentence():
                if options["every"]:
                    keep_up(self.exchange, options["every"])
                made = EXCHANGES[self.exchange]()
        except CommandError:
            raise
        except Exception as error:  # an object store has errors of its own; --traceback shows where it was
            raise CommandError(f"Builds cannot be exchanged ({self.exchange}): {in_a_sentence(error)}") from error
        if options["json"]:
            self.stdout.write(json.dumps(vars(made)))
        elif made.changed:
            self.stdout.write(f"{self.done} index {made.build} ({made.size / 2**20:.1f} MiB).")
        else:
            self.stdout.write(f"Nothing has changed since index {made.build}.")
