"""Rejected rows: the first few for people to read, all of them in the file of `--report`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from catalog.files import written_aside
from catalog.importing.rows import Reject

SHOWN = 10


class RejectLog:
    """Collects rejects; the report takes its place when the import has ended, and not before."""

    def __init__(self, report: Path | None, header: Sequence[str]) -> None:
        self.first: list[Reject] = []
        self._report = report
        self._header = header
        self._writer: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._report is not None:
            file = self._open.enter_context(written_aside(self._report))
            self._writer = csv.writer(file)
            self._writer.writerow(["line", "product_id", "reason", *self._header])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, reject: Reject) -> None:
        if len(self.first) < SHOWN:
            self.first.append(reject)
        if self._writer is not None:
            self._writer.writerow([reject.line, reject.product_id, reject.reason, *reject.values])
