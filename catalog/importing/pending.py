"""Uploaded files that wait for somebody to confirm what the preview says.

They lie in the data folder, so that any server process finds them, under a name of 128 random bits; what was chosen and
agreed to lies beside them and not in the browser. Nobody but who uploaded a file can confirm it. A few are kept, for a
day.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from catalog.files import replace_file
from catalog.importing.runs import imports_dir
from catalog.importing.service import ImportOptions, Missing

MOST_BYTES = 64 * 2**20
"""Of one file; larger ones are for the command line, where nobody waits for a page. 100,000 rows are some 18 MiB."""
MOST_PENDING = 20
KEPT_SECONDS = 24 * 3600
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Pending:
    """An upload, and what was chosen for it."""

    name: str
    """As its owner's computer calls it."""
    user: int
    missing: Missing = "keep"
    renamed: dict[str, str] = field(default_factory=dict)
    agreed: str = ""
    """Digest of the plan that was shown."""
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def path(self) -> Path:
        return _folder() / f"{self.token}.csv"

    @property
    def rejects(self) -> Path:
        return self.path.with_suffix(".rejects")

    def options(self, *, dry_run: bool = False, rejects_shown: int = 0, who: str = "") -> ImportOptions:
        return ImportOptions(
            self.path,
            renamed=self.renamed,
            missing=self.missing,
            dry_run=dry_run,
            name=self.name,
            who=who,
            agreed="" if dry_run else self.agreed,
            rejects_shown=rejects_shown,
            rejects=self.rejects if dry_run else None,
        )

    def store(self, chunks: Iterable[bytes]) -> None:
        _sweep()
        with self.path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def note(self) -> None:
        """Keep what was chosen and agreed to."""
        replace_file(self.path.with_suffix(".json"), json.dumps(asdict(self)).encode())

    def remove(self) -> None:
        _remove(self.path)


def find(token: str, user: int) -> Pending | None:
    """The upload of that user, if it is still kept."""
    if not _TOKEN.fullmatch(token):
        return None
    with suppress(FileNotFoundError):
        pending = Pending(**json.loads((_folder() / f"{token}.json").read_bytes()))
        if pending.user == user and pending.path.is_file():
            return pending
    return None


def _folder() -> Path:
    folder = imports_dir() / "pending"
    folder.mkdir(exist_ok=True)
    return folder


def _sweep() -> None:
    """Make room for one more."""
    with_age = sorted((path.stat().st_mtime, path) for path in _folder().glob("*.csv"))
    for at, (modified, path) in enumerate(reversed(with_age), 1):
        if at >= MOST_PENDING or time.time() - modified > KEPT_SECONDS:
            _remove(path)


def _remove(path: Path) -> None:
    """The upload last: it is what the others are found by."""
    for suffix in (".json", ".rejects", ".csv"):
        path.with_suffix(suffix).unlink(missing_ok=True)
