"""The import as a story: survey the file, write its rows, take its pictures, see what it no longer has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone

from catalog import images
from catalog.importing.csvfile import CatalogueFile, CatalogueFileError
from catalog.importing.download import Fetcher, Manners
from catalog.importing.pictures import Failed, Folder, Kept, NoneNamed, Outcome, PictureTaker, Taken
from catalog.importing.plan import Plan
from catalog.importing.rejects import SHOWN, RejectLog
from catalog.importing.rows import ColumnMap, ParsedRow, Reject, map_columns
from catalog.importing.runs import recorded, rejects_path
from catalog.importing.statements import roomy_sqlite
from catalog.importing.survey import Survey, absent, rows_of, survey
from catalog.importing.upsert import BATCH_ROWS, Placed, Status, known_rows, upsert
from catalog.memory import collection_paused
from catalog.models import ImportRun, Product

Missing = Literal["keep", "hide", "delete"]

_ACCEPT_EVERY = 16
_ACCEPT_AFTER_S = 1.0
"""Pictures that are stored but not yet their products': what a killed import fetches twice. Larger transactions were
measured to be no cheaper."""


class ImportRefusedError(Exception):
    """The options do not fit each other or the file; nothing was written."""


class OutcomeChangedError(Exception):
    """The import would do something else than was agreed to; nothing was written."""


@dataclass(frozen=True)
class ImportOptions:
    """What `import_fashion` is asked for."""

    path: Path
    images: Path | None = None
    download: bool = False
    refetch: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Our column → the file's."""
    missing: Missing = "keep"
    workers: int = 32
    limit: int | None = None
    dry_run: bool = False
    strict: bool = False
    report: Path | None = None
    manners: Manners = field(default_factory=Manners)
    name: str = ""
    """What people call the file, where that is not the path's name."""
    who: str = ""
    """Who imports; nobody: somebody on the command line."""
    agreed: str = ""
    """Digest of the plan that somebody has agreed to: all of it happens, or nothing and OutcomeChangedError."""
    rejects_shown: int = SHOWN
    rejects: Path | None = None
    """Where a dry run keeps what it would reject, as the page of past imports does of other runs."""

    @property
    def file_name(self) -> str:
        return self.name or self.path.name

    @property
    def told(self) -> dict[str, Any]:
        """What the list of past imports tells of them: those that are not as usual."""
        usual = ImportOptions(self.path)
        names = ("images", "download", "refetch", "renamed", "missing", "limit", "strict")
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}


@dataclass
class ImportReport:
    """What an import did, or would do."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    missing: int = 0
    """Products that were hidden or deleted because the file no longer has them."""
    images_ok: int = 0
    """The file's products whose picture is in place."""
    images_failed: int = 0
    images_reused: int = 0
    """Of those in place, how many were not read again."""
    images_to_take: int = 0
    """In a dry run: how many would be read or fetched."""
    seconds: float = 0.0
    dry_run: bool = False
    refused: bool = False
    """Whether `strict` found rejects and nothing was written."""
    run: ImportRun | None = None
    """How it was recorded; a dry run is not."""
    first_rejects: list[Reject] = field(default_factory=list)
    first_failures: list[tuple[str, str]] = field(default_factory=list)
    """(product id, reason) of pictures."""


@dataclass(frozen=True)
class Progress:
    """How far the import is: products that are done with, of how many."""

    done: int
    total: int
    failed: int


def _unseen(progress: Progress) -> None:
    """For callers who do not watch."""


def import_catalogue(
    options: ImportOptions, on_progress: Callable[[Progress], None] = _unseen, plan: Plan | None = None
) -> ImportReport:
    """Import a file. Raises CatalogueFileError or ImportRefusedError before anything is written.

    `plan` is told of every change. All imports but dry runs are recorded (`catalog.importing.runs`).
    """
    began = time.monotonic()
    _check(options)
    report = ImportReport(dry_run=options.dry_run)
    if options.dry_run or not options.path.is_file():
        _import(options, report, on_progress, plan, options.rejects)
    else:
        with recorded(options.path, options.file_name, options.who, options.told, report) as report.run:
            _import_as_agreed(options, report, on_progress, plan, report.run)
            if report.refused:
                report.run.error = f"{report.rejected:,} of {report.rows:,} rows are rejected: nothing was imported."
    report.seconds = round(time.monotonic() - began, 3)
    return report


def _import_as_agreed(
    options: ImportOptions,
    report: ImportReport,
    on_progress: Callable[[Progress], None],
    plan: Plan | None,
    run: ImportRun,
) -> None:
    if not options.agreed:
        _import(options, report, on_progress, plan, rejects_path(run))
        return
    plan = plan or Plan(run.sha256)
    try:
        # Nobody else writes meanwhile (SQLite), or what was merged is what was locked (others): no gap to slip through.
        with transaction.atomic():
            _import(options, report, on_progress, plan, rejects_path(run))
            _hold_to_what_was_agreed(options, plan)
    except BaseException:
        report.created = report.updated = report.unchanged = report.missing = 0
        raise


def _hold_to_what_was_agreed(options: ImportOptions, plan: Plan) -> None:
    if plan.digest() != options.agreed:
        raise OutcomeChangedError(
            f"{options.file_name} would change something else now than was shown; nothing was imported."
        )


def _import(
    options: ImportOptions,
    report: ImportReport,
    on_progress: Callable[[Progress], None],
    plan: Plan | None,
    rejects: Path | None,
) -> None:
    with CatalogueFile(options.path, options.file_name) as file:
        columns = map_columns(options.file_name, file.header, options.renamed)
        # A run that takes pictures needs every product; any other only what is not the same as last time.
        takes_pictures = options.images is not None or options.download
        with collection_paused():
            known = frozenset() if takes_pictures else known_rows()
            surveyed = survey(file, columns, options.limit, known)
        del known  # some 60 bytes a product
        if options.missing != "keep" and not surveyed.accepted:
            raise ImportRefusedError(
                f"{options.file_name} has no row that can be imported: "
                f"--missing {options.missing} would {options.missing} the whole catalogue."
            )
        report.rows, report.rejected = surveyed.rows, surveyed.rejected
        report.refused = options.strict and surveyed.rejected > 0
        with RejectLog(options.report, columns.header, rejects, options.rejects_shown) as log:
            run = _Run(options, file, columns, surveyed, log, report, on_progress, plan)
            if report.refused:
                run.list_rejects()
            else:
                with roomy_sqlite():
                    run.write()
        report.first_rejects = log.first


def _check(options: ImportOptions) -> None:
    if options.limit is not None and options.missing != "keep":
        raise ImportRefusedError(
            f"--limit reads a part of the file, so --missing {options.missing} cannot know what is missing."
        )
    if options.limit is not None and options.limit < 1:
        raise ImportRefusedError("--limit is at least 1.")
    if not 1 <= options.workers <= 64:
        raise ImportRefusedError("--workers is between 1 and 64.")
    if not 1 <= options.manners.per_host <= 64:
        raise ImportRefusedError("--per-host is between 1 and 64.")
    if options.refetch and not options.download and options.images is None:
        raise ImportRefusedError("--refetch takes pictures again, from --images or by --download; give one of them.")
    if options.report is not None and (options.report.is_dir() or not options.report.parent.is_dir()):
        raise ImportRefusedError(f"--report {options.report}: there is no folder for this file.")
    report = options.report
    if report is not None and report.exists() and options.path.exists() and report.samefile(options.path):
        raise ImportRefusedError("--report names the catalogue itself, which it would overwrite; name another.")
    if options.images is not None and not options.images.is_dir():
        raise ImportRefusedError(f"{options.images}: there is no such folder of images.")


@dataclass
class _Run:
    """One import under way, after the file was found sound."""

    options: ImportOptions
    file: CatalogueFile
    columns: ColumnMap
    surveyed: Survey
    log: RejectLog
    report: ImportReport
    on_progress: Callable[[Progress], None]
    plan: Plan | None
    _done: int = 0

    def list_rejects(self) -> None:
        for _ in self._accepted():
            pass

    def write(self) -> None:
        self.file.check_unchanged()
        self.report.unchanged += self.surveyed.unchanged
        self._advance(self.surveyed.unchanged)
        pictures = self._picture_taker()
        if pictures is None or self.options.dry_run:
            for placed in self._placed(with_pictures=pictures is not None):
                self._foresee(pictures, placed)
        else:
            collected = _Collected(self.report)
            # Closed by us, not by the garbage collector: its threads end here, also after Ctrl-C.
            with closing(collected), closing(pictures.take(self._placed(with_pictures=True))) as outcomes:
                for outcome in outcomes:
                    collected.add(outcome)
                    self._advance(1)
        if self.options.missing != "keep":
            self.report.missing = self._settle_missing(self.options.missing)

    # --- rows ---------------------------------------------------------------------------------
    def _accepted(self) -> Iterator[ParsedRow]:
        """Rows to write; rejected ones go to the log on the way."""
        for row in rows_of(self.file, self.columns, self.surveyed, self.options.limit):
            if isinstance(row, Reject):
                self.log.add(row)
                self._advance(1)
            else:
                yield row

    def _placed(self, *, with_pictures: bool) -> Iterator[Placed]:
        """Write the rows batch by batch, and pass on what needs a picture."""
        rows = self._accepted()
        all_new = not Product.objects.exists()
        while True:
            with collection_paused():
                batch = list(islice(rows, BATCH_ROWS))
                if not batch:
                    return
                self.file.check_unchanged()
                written = upsert(
                    batch, with_pictures=with_pictures, dry_run=self.options.dry_run, all_new=all_new, plan=self.plan
                )
            self.report.created += written.created
            self.report.updated += written.updated
            self.report.unchanged += written.unchanged
            if not with_pictures:
                self._advance(len(batch))
            yield from written.placed

    def _advance(self, count: int) -> None:
        self._done += count
        self.on_progress(Progress(self._done, self.surveyed.rows, self.report.images_failed))

    def _settle_missing(self, missing: Literal["hide", "delete"]) -> int:
        """Hide or delete what the file does not name. A rejected row names its product all the same."""
        self.file.check_unchanged()
        products = Product.objects.order_by("pk")
        if missing == "hide":
            products = products.filter(missing_since=None)
        keys = list(absent(self.surveyed.ids, products.values_list("pk", "product_id").iterator(10_000)))
        if self.plan is not None:
            self.plan.note_missing(keys)
        if not self.options.dry_run:
            for start in range(0, len(keys), BATCH_ROWS):
                gone = Product.objects.filter(pk__in=keys[start : start + BATCH_ROWS])
                if missing == "delete":
                    gone.delete()
                else:
                    now = timezone.now()
                    gone.update(missing_since=now, updated_at=now)
        return len(keys)

    # --- pictures -----------------------------------------------------------------------------
    def _picture_taker(self) -> PictureTaker | None:
        options = self.options
        if options.images is None and not options.download:
            return None
        return PictureTaker(
            Folder(options.images) if options.images is not None else None,
            Fetcher(options.manners) if options.download else None,
            refetch=options.refetch,
            workers=options.workers,
        )

    def _foresee(self, pictures: PictureTaker | None, placed: Placed) -> None:
        """In a dry run: what would become of a product's picture."""
        self._advance(1)
        if pictures is None:
            return
        match pictures.decide(placed):
            case Kept():
                self.report.images_ok += 1
                self.report.images_reused += 1
            case Failed(_, reason):
                self.report.images_failed += 1
                _note(self.report, placed.product_id, reason)
            case NoneNamed():
                pass
            case _:
                self.report.images_to_take += 1


class _Collected:
    """Outcomes on their way into the database, in short transactions."""

    def __init__(self, report: ImportReport) -> None:
        self._report = report
        self._taken: list[Taken] = []
        self._reasons: dict[int, str] = {}
        self._since = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        placed = outcome.placed
        match outcome:
            case Kept():
                self._report.images_ok += 1
                self._report.images_reused += 1
                return
            case Taken():
                self._taken.append(outcome)
            case Failed(_, reason):
                self._report.images_failed += 1
                _note(self._report, placed.product_id, reason)
                if reason != placed.image_error:
                    self._reasons[placed.key] = reason
            case NoneNamed():
                if placed.image_error:
                    self._reasons[placed.key] = ""
        waiting = len(self._taken) + len(self._reasons)
        if waiting >= _ACCEPT_EVERY or time.monotonic() - self._since > _ACCEPT_AFTER_S:
            self.close()

    def close(self) -> None:
        """Write what is there; also the last thing that happens when an import is interrupted."""
        taken, self._taken = self._taken, []
        reasons, self._reasons = self._reasons, {}
        if reasons:
            images.refuse(reasons)
        if taken:
            acceptances = (images.Acceptance(each.placed.key, each.stored, each.source) for each in taken)
            changed = images.accept(acceptances, announced=False)
            self._report.images_ok += len(taken)
            self._count_as_updated(each.placed for each in taken if each.placed.key in changed)
        self._since = time.monotonic()

    def _count_as_updated(self, placed: Iterator[Placed]) -> None:
        """A product whose row is the same but whose picture is another has changed."""
        moved = sum(each.status is Status.UNCHANGED for each in placed)
        self._report.unchanged -= moved
        self._report.updated += moved


def _note(report: ImportReport, product_id: str, reason: str) -> None:
    if len(report.first_failures) < 10:
        report.first_failures.append((product_id, reason))


__all__ = [
    "CatalogueFileError",
    "ImportOptions",
    "ImportRefusedError",
    "ImportReport",
    "OutcomeChangedError",
    "Progress",
    "import_catalogue",
]
