"""`manage.py builds`: the stored builds, and which of them answers."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.template.defaultfilters import filesizeformat

from similarity.builds import BuildError, Manifest, verify
from similarity.indexes import engine_name
from similarity.management.arguments import told_in_a_sentence
from similarity.publishing import StoredBuild, remove_build, roll_back, stored_builds, use_build

COLUMNS = ("", "NAME", "MODEL", "LOOKS", "DIMENSIONS", "ENGINE", "CREATED (UTC)", "SIZE", "ID")
NUMBERS = {3, 4, 7}


class Command(BaseCommand):
    help = (
        "Lists the stored builds of the index, the youngest first: '*' marks the one that answers, '<' the one that "
        "--rollback goes back to. Running servers notice a switch at their next question. A name means its youngest "
        "build."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        action = parser.add_mutually_exclusive_group()
        action.add_argument("--use", metavar="NAME-OR-ID", help="Publish this build, its files verified first.")
        action.add_argument(
            "--rollback", action="store_true", help="Publish what was before the current one; again goes further back."
        )
        action.add_argument("--remove", metavar="NAME-OR-ID", help="Remove this build; the current one is refused.")
        action.add_argument(
            "--verify", action="store_true", help="Read all files of all builds, and say which are not what they were."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object: what is stored afterwards.")

    def handle(self, *args: Any, **options: Any) -> None:
        said = ""
        with told_in_a_sentence():
            if options["use"]:
                said = _now_answers(use_build(options["use"]))
            elif options["rollback"]:
                said = _now_answers(roll_back())
            elif options["remove"]:
                removed = remove_build(options["remove"])
                said = f"Removed index {removed.id} ({removed.name})."
            builds = stored_builds()
            if options["verify"]:
                said = _verified(builds)
        if options["json"]:
            self.stdout.write(json.dumps({"builds": [build.to_json() for build in builds]}))
        else:
            self.stdout.write(said or _table(builds))


def _verified(builds: list[StoredBuild]) -> str:
    """Raises BuildError, with every build that is damaged."""
    damaged = []
    for build in builds:
        try:
            verify(build.manifest, anew=True)
        except BuildError as error:
            damaged.append(str(error))
    if damaged:
        raise BuildError("\n".join(damaged))
    return f"Every file of {len(builds)} builds is what its manifest says."


def _now_answers(manifest: Manifest) -> str:
    said = f"Published index {manifest.id} ({manifest.name}): {manifest.count} looks of {manifest.model}."
    configured = settings.SIMILARITY["MODEL"]
    if configured and configured != manifest.model:
        said += f"\nVITRINE_MODEL is {configured}: the next build_index publishes a build of that one again."
    return said


def _table(builds: list[StoredBuild]) -> str:
    if not builds:
        return "No index has been built yet. Run: python manage.py build_index --model efficientnet-lite0 (or another)"
    lines = [COLUMNS, *map(_cells, builds)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at in NUMBERS else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(build: StoredBuild) -> tuple[str, ...]:
    made = build.manifest
    return (
        "*" if build.current else "<" if build.former else "",
        made.name,
        made.model,
        str(made.count),
        str(made.dimension),
        engine_name(made.engine),
        f"{made.created_at:%Y-%m-%d %H:%M}",
        filesizeformat(build.size).replace("\xa0", " "),
        made.id,
    )
