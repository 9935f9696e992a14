"""Rejected rows: the first few for people to read, all of them in the file of `--report`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from catalog.exporting import BOM
from catalog.files import written_aside
from catalog.formulas import neutralised, restored
from catalog.importing.csvfile import REJECT_COLUMNS
from catalog.importing.rows import Reject

SHOWN = 10


class RejectLog:
    """Collects rejects; the report takes its place when the import has ended, and not before.

    `kept` is for the page of past imports: begun with the first reject only, and with formulas neutralised.
    """

    def __init__(
        self, report: Path | None, header: Sequence[str], kept: Path | None = None, shown: int = SHOWN
    ) -> None:
        self.first: list[Reject] = []
        self._report = report
        self._kept = kept
        self._shown = shown
        self._header = [*REJECT_COLUMNS, *header]
        self._writer: Any = None
        self._kept_writer: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._report is not None:
            self._writer = self._begin(self._report)
            self._writer.writerow(self._header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, reject: Reject) -> None:
        if len(self.first) < self._shown:
            self.first.append(reject)
        row = [str(reject.line), reject.product_id, reject.reason, *reject.values]
        if self._writer is not None:
            self._writer.writerow(row)
        if self._kept is not None:
            if self._kept_writer is None:
                self._kept_writer = self._begin(self._kept, BOM)
                self._kept_writer.writerow(map(neutralised, self._header))
            # Not neutralised twice where the file was made for spreadsheets.
            self._kept_writer.writerow(neutralised(restored(value)) for value in row)

    def _begin(self, path: Path, start: str = "") -> Any:
        file = self._open.enter_context(written_aside(path))
        file.write(start)
        return csv.writer(file)
