"""Backups: a folder from which an empty data folder becomes the shop that it was.

    shop-2026-11-23/
      manifest.json        what is in it: size and SHA-256 of every file, when, of how many products
      database.sqlite3     as it stood at one moment; database.pgdump where it is PostgreSQL
      media/               the pictures
      spaces/ builds/ maps/   embeddings, indexes and maps, so that nothing has to be computed again

The database is copied first (`similarity.database_copies`), in one transaction that holds nobody up. What it names lies
on disk by then, and stays: pictures, builds and maps are never changed in place, spaces are copied while no builder is
at work. Neither the secret key is in it, nor what makes itself anew: collected styles, caches, converted networks.

A backup is written under another name and renamed when it is whole. So is what is restored: the database comes last,
and a folder without one is no shop yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections

from catalog.files import free_bytes, fsync, nearest, replace_file
from similarity.builds import build_lock
from similarity.database_copies import KINDS, BackupError, DatabaseCopy, of_settings

FORMAT = 1
MANIFEST = "manifest.json"
PARTS = ("media", "spaces", "builds", "maps")
_PASSED_OVER = frozenset({"lock", "lock.holder", "switch.lock", "converted", "verified", "owner"})
"""Locks, caches, what is noted of files by their inodes, and who gives back what lies on servers."""
_UNDER_WAY = ".restoring"
_CHUNK = 2**20

Progress = Callable[[Iterable["Copy"], int], Iterable["Copy"]]


@dataclass(frozen=True)
class Copy:
    """A file that is copied: its name in the backup, and where it comes from."""

    name: str
    source: Path


@dataclass(frozen=True)
class BackupManifest:
    """What a backup holds. `files`: name → [bytes, SHA-256]."""

    created_at: datetime
    products: int
    files: dict[str, tuple[int, str]]
    format: int = FORMAT

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(size for size, _ in self.files.values())

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "created_at": self.created_at.isoformat()}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> BackupManifest:
        content: dict[str, Any] = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError("it was written by another version of Vitrine")
        files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in content["files"].items()}
        return cls(datetime.fromisoformat(content["created_at"]), int(content["products"]), files)


def _silent(copies: Iterable[Copy], total: int) -> Iterable[Copy]:
    return copies


# --- making one ----------------------------------------------------------------------------------
def back_up(
    target: Path, *, previous: Path | None = None, wait_s: float = 0.0, progress: Progress = _silent
) -> BackupManifest:
    """Write a backup to `target`, a folder that is not there yet. It is whole or not there when this ends.

    Pictures that a `previous` backup on the same disk holds become hard links to its files: they cost no room.
    Raises BackupError, and BuilderBusy where another process is building (and still is `wait_s` later).
    """
    if target.exists():
        raise BackupError(f"{target} is there already; name a folder that is not.")
    database = of_settings()
    former = read_manifest(previous) if previous is not None else None
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)  # it holds what people typed, and hashes of passwords
    try:
        with build_lock(wait_s):
            products = database.write(aside / database.name)
            files = {database.name: _described(aside / database.name)}
            copies = list(_to_copy())
            known = {name: held for name, held in former.files.items() if name.startswith("media/")} if former else {}
            _check_room(aside, sum(_size_of(copy.source) for copy in copies if copy.name not in known))
            for copy in progress(copies, len(copies)):
                there = aside / copy.name
                there.parent.mkdir(parents=True, exist_ok=True)
                held = known.get(copy.name)
                if held and previous and _linked(previous / copy.name, there, copy.source, held[0]):
                    files[copy.name] = held
                    continue
                # A former build may be removed while we are at it: then nobody goes back to it.
                with suppress(FileNotFoundError):
                    files[copy.name] = _copied(copy.source, there)
        manifest = BackupManifest(datetime.now(UTC), products, files)
        replace_file(aside / MANIFEST, manifest.to_json().encode())
        os.sync()
        aside.rename(target)
        fsync(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return manifest


def _places() -> dict[str, Path]:
    similarity = settings.SIMILARITY
    folders = (settings.MEDIA_ROOT, *(similarity[name] for name in ("SPACES_DIR", "BUILDS_DIR", "MAPS_DIR")))
    return dict(zip(PARTS, map(Path, folders), strict=True))


def _to_copy() -> Iterator[Copy]:
    """Every file that belongs to the shop, CURRENT before what it names."""
    for part, root in _places().items():
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in _PASSED_OVER and not name.startswith("."))
            for name in sorted(names):
                if name not in _PASSED_OVER and not name.startswith("."):
                    path = Path(folder) / name
                    yield Copy(f"{part}/{path.relative_to(root).as_posix()}", path)


def _check_room(folder: Path, needed: int) -> None:
    if (free := free_bytes(folder)) < needed:
        raise BackupError(f"{folder.parent} has {free / 2**20:,.0f} MiB left; the backup needs {needed / 2**20:,.0f}.")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _linked(former: Path, there: Path, source: Path, size: int) -> bool:
    """Names of pictures are made of their content: a file of the same name and size is the same."""
    try:
        if source.stat().st_size != size or former.stat().st_size != size:
            return False
        there.hardlink_to(former)
    except OSError:  # another disk, or none that knows links
        return False
    return True


def _copied(source: Path, there: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file, there.open("wb") as copy:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _described(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


# --- going back to one -----------------------------------------------------------------------------
def read_manifest(folder: Path) -> BackupManifest:
    """Raises BackupError where there is no backup."""
    try:
        return BackupManifest.from_json((folder / MANIFEST).read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{folder} is no backup that can be used: {error}") from error


def check(folder: Path, progress: Progress = _silent) -> BackupManifest:
    """Read a backup from end to end. Raises BackupError naming a file that is missing or not as it was written."""
    manifest = read_manifest(folder)
    for copy in progress([Copy(name, folder / name) for name in manifest.files], len(manifest.files)):
        try:
            found = _described(_within(folder, copy.name))
        except OSError as error:
            raise BackupError(f"{copy.source} cannot be read: {error.strerror}.") from error
        if found != manifest.files[copy.name]:
            raise BackupError(f"{copy.source} is not as it was written; the backup cannot be trusted.")
    return manifest


def restore(folder: Path, progress: Progress = _silent) -> BackupManifest:
    """Make the data folder and the database, which have to be empty, what they were when the backup was made. All of it
    or nothing: killed in the middle, the same command begins again.

    Raises BackupError where the backup is damaged, or there is a shop already.
    """
    manifest = read_manifest(folder)
    database = _database_for(manifest)
    database.refuse_unless_empty()
    data, places = Path(settings.DATA_DIR), _places()
    aside = data / _UNDER_WAY
    taken = [place for place in places.values() if place.exists()]
    if taken and not aside.is_dir():
        raise BackupError(
            f"{taken[0]} is there already, and nothing is overwritten: let VITRINE_DATA_DIR name an empty folder, or "
            f"move what is in {data} away."
        )
    for path in (aside, *taken):
        shutil.rmtree(path, ignore_errors=True)
    _check_room(nearest(data), manifest.size)
    copies = [Copy(name, _within(folder, name)) for name in manifest.files]
    for copy in progress(copies, len(copies)):
        there = aside / copy.name
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = _copied(copy.source, there)
        except FileNotFoundError as error:
            raise BackupError(f"{copy.source} is missing; nothing was restored.") from error
        if found != manifest.files[copy.name]:
            raise BackupError(f"{copy.source} is not as it was written; nothing was restored.")
    os.sync()
    connections.close_all()
    for part, place in places.items():
        if (aside / part).is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(aside / part, place)
    database.read(aside / database.name)
    shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _database_for(manifest: BackupManifest) -> DatabaseCopy:
    database = of_settings()
    if database.name not in manifest.files:
        held = next((kind for kind in KINDS.values() if kind.name in manifest.files), None)
        if held is None:
            raise BackupError("The backup holds no database that can be used.")
        raise BackupError(
            f"The backup holds a catalogue in {held.kind}, and the settings name {database.kind}: {held.otherwise}."
        )
    return database


def _within(folder: Path, name: str) -> Path:
    """A file of the backup: a name may not lead out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BackupError(f"{folder / MANIFEST} names {name!r}, which leads out of the backup.")
    return path
