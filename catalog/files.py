"""Files that are whole or not there: written aside, flushed, and renamed into place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one, never half of it.

    Folders above it are made. Written through to the disk when this returns, its name included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _aside(path, "wb") as file:
        file.write(content)
    fsync(path.parent)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[IO[str]]:
    """A text file (UTF-8, line ends as written) that takes its place when the block ends without error."""
    with _aside(path, "w", encoding="utf-8", newline="") as file:
        yield file


def nearest(folder: Path) -> Path:
    """The folder, or where it would be made: the lowest one above it that is there. Of a file, its folder."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))


def free_bytes(folder: Path) -> int:
    """What the disk of a folder, which need not be there yet, has left for us."""
    return shutil.disk_usage(nearest(folder)).free


def fsync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _aside(path: Path, mode: str, **options: str) -> Iterator[IO]:  # type: ignore[type-arg]  # text or bytes
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(descriptor, mode, **options) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # mkstemp gives it to its owner alone; web servers have to read it
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
