"""`manage.py import_fashion`: arguments in, one service called, its report out."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from tqdm import tqdm

from catalog.importing.download import Manners
from catalog.importing.service import (
    CatalogueFileError,
    ImportOptions,
    ImportRefusedError,
    ImportReport,
    Progress,
    import_catalogue,
)
from catalog.no_room import is_no_room, sentence


class Command(BaseCommand):
    help = "Import a catalogue from a CSV file, with its pictures from a folder or from their addresses."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("csv", type=Path, metavar="CSV", help="the catalogue's file (UTF-8)")
        parser.add_argument("--images", type=Path, metavar="DIR", help="folder with the pictures")
        parser.add_argument("--download", action="store_true", help="fetch pictures from ImageURL")
        parser.add_argument("--refetch", action="store_true", help="take again what is here already")
        parser.add_argument(
            "--map",
            type=_renaming,
            action="append",
            default=[],
            metavar="ProductType=type",
            help="our column = the file's (repeatable); nothing after '=': the file has no such column",
        )
        parser.add_argument(
            "--missing",
            choices=["keep", "hide", "delete"],
            default="keep",
            help="what becomes of products that the file no longer has (default: keep)",
        )
        parser.add_argument("--workers", type=int, default=32, help="downloads at once (default: 32)")
        parser.add_argument(
            "--per-host",
            type=int,
            default=Manners.per_host,
            metavar="N",
            help="the most of them from one host, reached only while it answers well (default: %(default)s)",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="import the first N rows only")
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")
        parser.add_argument("--strict", action="store_true", help="import nothing if any row is rejected")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write rejected rows to a CSV file")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a summary")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = ImportOptions(
            path=options["csv"],
            images=options["images"],
            download=options["download"],
            refetch=options["refetch"],
            renamed=dict(options["map"]),
            missing=options["missing"],
            workers=options["workers"],
            limit=options["limit"],
            dry_run=options["dry_run"],
            strict=options["strict"],
            report=options["report"],
            manners=Manners(per_host=options["per_host"]),
        )
        try:
            report = self._import(wanted)
        except (CatalogueFileError, ImportRefusedError) as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, OSError) as error:
            if is_no_room(error):
                raise CommandError(sentence(error)) from error
            if isinstance(error, DatabaseError):
                raise CommandError(f"The database refused: {error}. Has `manage.py migrate` been run?") from error
            raise CommandError(f"The import stopped: {error}. What was accepted so far stays.") from error
        except KeyboardInterrupt as error:
            raise CommandError(
                "Interrupted. What was accepted so far stays; the same command goes on from there.", returncode=130
            ) from error
        self._print(report, options["json"], wanted)
        if report.refused:
            raise CommandError(
                f"{report.rejected:,} of {report.rows:,} rows cannot be imported, so --strict imported nothing."
            )

    def _import(self, wanted: ImportOptions) -> ImportReport:
        # disable=None: a bar on a terminal, silence in a pipe.
        with tqdm(file=sys.stderr, disable=None, unit=" products", dynamic_ncols=True) as bar:

            def show(progress: Progress) -> None:
                bar.total = progress.total
                if progress.failed:
                    bar.set_postfix(failed=progress.failed, refresh=False)
                bar.update(progress.done - bar.n)

            return import_catalogue(wanted, (lambda progress: None) if bar.disable else show)

    def _print(self, report: ImportReport, as_json: bool, wanted: ImportOptions) -> None:
        if as_json:
            self.stdout.write(json.dumps(_as_json(report)))
            rejects_to = self.stderr
        else:
            rejects_to = self.stdout
        for reject in report.first_rejects if report.refused or not as_json else []:
            rejects_to.write(f"line {reject.line}: {reject.reason}")
        if report.rejected > len(report.first_rejects) and not as_json:
            rejects_to.write(f"... and {report.rejected - len(report.first_rejects):,} more rows")
        if not as_json and not report.refused:
            for line in _summary(report, wanted):
                self.stdout.write(line)


def _renaming(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not sign or not ours.strip():
        raise ArgumentTypeError(f"{text!r} is not of the form ProductType=type")
    return ours.strip(), theirs.strip()


def _as_json(report: ImportReport) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "created": report.created,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "rejected": report.rejected,
        "images_ok": report.images_ok,
        "images_failed": report.images_failed,
        "images_reused": report.images_reused,
        "images_to_take": report.images_to_take,
        "missing": report.missing,
        "dry_run": report.dry_run,
        "seconds": report.seconds,
    }


def _summary(report: ImportReport, wanted: ImportOptions) -> list[str]:
    would = "Dry run, nothing was changed: " if report.dry_run else ""
    lines = [
        f"{would}{report.rows:,} rows: {report.created:,} created, {report.updated:,} updated, "
        f"{report.unchanged:,} unchanged, {report.rejected:,} rejected."
    ]
    for product_id, reason in report.first_failures:
        lines.append(f"picture of {product_id}: {reason}")
    if report.images_failed > len(report.first_failures):
        lines.append(f"... and {report.images_failed - len(report.first_failures):,} more pictures")
    if wanted.images is not None or wanted.download:
        pending = f", {report.images_to_take:,} to take" if report.dry_run else ""
        lines.append(
            f"Pictures: {report.images_ok:,} in place ({report.images_reused:,} of them not read again), "
            f"{report.images_failed:,} failed{pending}."
        )
    if wanted.missing != "keep":
        done = {"hide": "hidden", "delete": "deleted"}[wanted.missing]
        would = "would be " if report.dry_run else ""
        lines.append(f"{report.missing:,} products that the file no longer has: {would}{done}.")
    if wanted.report is not None:
        lines.append(f"Rejected rows are in {wanted.report}.")
    lines.append(f"Took {report.seconds:.1f} s.")
    return lines
