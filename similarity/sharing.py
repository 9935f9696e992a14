"""Builds for several machines: one puts what it publishes on a storage that all reach, the others fetch it.

    <storage>/
      CURRENT                     the published build: id and SHA-256 of its manifest
      20261122T101500-174305/     its files, and manifest.json, which comes last

The storage is Django's (STORAGES["builds"]): a folder of a network file system, or an object store. Nothing that it
says is believed: the line in CURRENT says what the manifest's digest is, the manifest what those of the files are. A
machine keeps what it fetches beside its own builds, and answers from it as from any: what is damaged, or not there
yet, is not published, and the former build goes on answering. What comes to be damaged here is fetched again. Where
looks lie on a server, they are the builder's, and stay when a machine that has fetched the build removes it
(`similarity.indexes.served`); the builder keeps those of the build that CURRENT names.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import InvalidStorageError, Storage, storages

from catalog.files import free_bytes, fsync
from similarity.builds import (
    BuildError,
    Manifest,
    NoBuild,
    Publication,
    build_lock,
    builds_dir,
    fetched_path,
    publications,
    published_manifest,
    remove_unfinished,
    verify,
)
from similarity.publishing import KEPT_FORMER, is_current, note_shared, publish, remove_superseded

logger = logging.getLogger(__name__)

CURRENT = "CURRENT"
MANIFEST = "manifest.json"
DAMAGED = ".damaged-"
MOST_MANIFEST_BYTES = 2**24
_ID = re.compile(r"\d{8}T\d{6}-\d{6}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CHUNK = 2**20


@dataclass(frozen=True)
class Exchanged:
    """What was shared or fetched: the build that is current on both sides now. `changed`: it was not before; `size` is
    in bytes, of what was copied."""

    build: str
    changed: bool
    size: int


def share_builds() -> Exchanged:
    """Put the published build on the storage, and let CURRENT there name it. Those that are published no more go.

    Raises BuildError where none is published, and where one is damaged; nothing there names it then.
    """
    storage = _storage()
    published = publications()[: 1 + KEPT_FORMER]
    current = published[0]
    manifest = published_manifest(current)
    line, former = f"{current.build_id} {current.manifest_sha256}", _read(storage, CURRENT).decode(errors="replace")
    note_shared([line, former])  # killed on the way, either may stand there
    size = 0
    if not storage.exists(f"{manifest.id}/{MANIFEST}"):
        verify(manifest, anew=True)
        for name in [*manifest.files, MANIFEST]:
            size += _put(storage, builds_dir() / manifest.id / name, f"{manifest.id}/{name}")
    changed = former != f"{line}\n"
    if changed:
        _replace(storage, CURRENT, ContentFile(f"{line}\n".encode()))
    note_shared([line])
    _remove_others(storage, {each.build_id for each in published})
    return Exchanged(manifest.id, changed, size)


def fetch_builds() -> Exchanged:
    """Have here, and publish here, what is published on the storage.

    What is here already is looked at as whoever serves it does, and fetched again where it is damaged: beside it, so
    that nothing changes under a reader. Raises NoBuild where nothing is, BuildError where it cannot be trusted or there
    is no room for it; what answers here goes on answering then.
    """
    storage = _storage()
    publication = _shared_publication(storage)
    with build_lock():
        remove_unfinished()
        for path in builds_dir().glob(f"{DAMAGED}*"):  # nobody reads it any more, and its looks are others'
            shutil.rmtree(path, ignore_errors=True)
        if not fetched_path().exists():
            fetched_path().touch()
        whole = _is_whole(publication)
        if whole and _is_published(publication):
            return Exchanged(publication.build_id, changed=False, size=0)
        size = 0 if whole else _fetch(storage, publication)
        manifest = published_manifest(publication)
        verify(manifest)
        publish(manifest)
        remove_superseded(but=manifest.id)
    assert is_current(manifest)
    return Exchanged(manifest.id, changed=True, size=size)


def _is_published(publication: Publication) -> bool:
    try:
        return publications()[0] == publication
    except NoBuild:
        return False
    except BuildError as error:
        logger.warning("It is published anew: %s", error)
        return False


def _is_whole(publication: Publication) -> bool:
    """Whether the build is here, and what it was when it was shared, as far as whoever serves it would notice."""
    if not (builds_dir() / publication.build_id).exists():
        return False
    try:
        verify(published_manifest(publication))
    except (BuildError, OSError) as error:
        logger.warning("It is fetched again: %s", error)
        return False
    return True


EXCHANGES = {"share": share_builds, "fetch": fetch_builds}


def keep_up(exchange: str, every_s: float) -> None:
    """Do one of EXCHANGES again and again. What goes wrong is logged once and tried again, whatever the storage raises:
    an object store has errors of its own. Settings that are not right end it."""
    trouble = ""
    while True:
        try:
            made = EXCHANGES[exchange]()
        except ImproperlyConfigured:
            raise
        except Exception as error:  # noqa: BLE001
            said = in_a_sentence(error)
            if said != trouble:
                logger.warning("Builds cannot be exchanged (%s) at the moment: %s", exchange, said)
            trouble = said
        else:
            trouble = ""
            if made.changed:
                logger.info("Build %s is current now (%d bytes)", made.build, made.size)
        time.sleep(every_s)


def in_a_sentence(error: Exception) -> str:
    """What went wrong in an exchange; of what an object store raised, with the name of its error."""
    return str(error) if isinstance(error, (BuildError, OSError)) else f"{type(error).__name__}: {error}"


def _storage() -> Storage:
    try:
        return storages["builds"]
    except InvalidStorageError as error:
        raise ImproperlyConfigured(
            "VITRINE_SHARE does not say where builds are shared: a folder that all machines reach, or s3://bucket/…"
        ) from error


def _shared_publication(storage: Storage) -> Publication:
    try:
        with storage.open(CURRENT) as file:
            fields = file.read(4096).decode().split()
    except FileNotFoundError:
        raise NoBuild("Nothing has been shared yet; where the index is built: python manage.py share_builds") from None
    except UnicodeDecodeError:
        fields = []
    if len(fields) != 2 or not _ID.fullmatch(fields[0]) or not re.fullmatch(r"[0-9a-f]{64}", fields[1]):
        raise BuildError("CURRENT on the shared storage names no build.")
    return Publication(*fields)


def _fetch(storage: Storage, publication: Publication) -> int:
    """Its files, each what the manifest says, in a folder of the build's name; how many bytes."""
    build_id = publication.build_id
    text = _read(storage, f"{build_id}/{MANIFEST}")
    if hashlib.sha256(text).hexdigest() != publication.manifest_sha256:
        raise BuildError(f"The manifest of build {build_id} on the shared storage is not what was published.")
    manifest = _parsed(text, build_id)
    needed = sum(int(file["size"]) for file in manifest.files.values())
    if (free := free_bytes(builds_dir())) < needed:
        left, size = f"{free / 2**20:,.0f} MiB", f"{needed / 2**20:,.0f} MiB"
        raise BuildError(f"{builds_dir()} has {left} left, and build {build_id} has {size}.")
    aside = builds_dir() / f".unfinished-{build_id}"
    aside.mkdir(parents=True)
    try:
        for name, file in manifest.files.items():
            _get(storage, f"{build_id}/{name}", aside / name, int(file["size"]), str(file["sha256"]))
        (aside / MANIFEST).write_bytes(text)
        for path in aside.iterdir():
            fsync(path)
        fsync(aside)
        if (builds_dir() / build_id).exists():  # damaged; whoever has mapped it keeps what they have
            (builds_dir() / build_id).rename(builds_dir() / f"{DAMAGED}{build_id}-{time.time_ns()}")
        aside.rename(builds_dir() / build_id)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync(builds_dir())
    return needed


def _parsed(text: bytes, build_id: str) -> Manifest:
    try:
        manifest = Manifest.from_json(text.decode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"The manifest of build {build_id} on the shared storage cannot be used ({error}).") from error
    if manifest.id != build_id or not all(_NAME.fullmatch(name) for name in manifest.files):
        raise BuildError(f"The manifest of build {build_id} on the shared storage makes no sense.")
    return manifest


def _get(storage: Storage, name: str, path: Path, size: int, sha256: str) -> None:
    digest, got = hashlib.sha256(), 0
    try:
        with storage.open(name) as source, path.open("wb") as copy:
            while got <= size and (chunk := source.read(_CHUNK)):
                digest.update(chunk)
                copy.write(chunk)
                got += len(chunk)
    except FileNotFoundError:
        raise BuildError(f"{name} is missing on the shared storage.") from None
    if got != size or digest.hexdigest() != sha256:
        raise BuildError(f"{name} on the shared storage is not the file that its manifest describes.")


def _read(storage: Storage, name: str) -> bytes:
    """All of a small file; nothing where it is not there."""
    try:
        with storage.open(name) as file:
            return bytes(file.read(MOST_MANIFEST_BYTES))
    except FileNotFoundError:
        return b""


def _put(storage: Storage, path: Path, name: str) -> int:
    with path.open("rb") as file:
        _replace(storage, name, File(file))
    return path.stat().st_size


def _replace(storage: Storage, name: str, content: File[bytes]) -> None:
    saved = storage.save(name, content)
    if saved != name:  # a storage that was not told to overwrite
        storage.delete(saved)
        raise ImproperlyConfigured("STORAGES['builds'] has to overwrite files (allow_overwrite, file_overwrite).")


def _remove_others(storage: Storage, kept: set[str]) -> None:
    for folder in storage.listdir("")[0]:
        if _ID.fullmatch(folder) and folder not in kept:
            for name in sorted(storage.listdir(folder)[1], key=lambda name: name != MANIFEST):  # the manifest first
                storage.delete(f"{folder}/{name}")
            with suppress(OSError, NotImplementedError):
                storage.delete(folder)
