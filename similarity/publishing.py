"""Which of the stored builds answers: publishing one, going back, removing, and what is kept.

CURRENT names the build that answers and, below it, those that did before: the order of publication. Its one rename
changes both, so that whoever is killed leaves the former order or the new one. A switch waits for no builder: going
back is possible while a night's embedding runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from filelock import FileLock, Timeout

from catalog.files import fsync, replace_file
from similarity.builds import (
    MAX_NAME,
    BuilderBusy,
    BuildError,
    Manifest,
    NoBuild,
    Publication,
    builds_dir,
    current_path,
    manifest_path,
    publications,
    published_manifest,
    readable_manifests,
    remove_aside,
    verify,
)
from similarity.embedders.base import file_sha256
from similarity.indexes import engine_name, get_engine
from similarity.indexes.served import ServedIndex

KEPT_FORMER = 2
"""Former builds that are kept whatever their name: a reader that is just opening one never loses it."""
LOCK_TIMEOUT_S = 60.0
"""How long a switch waits for another one, which may be verifying a large build."""
LIST = "Run: python manage.py builds"


@dataclass(frozen=True)
class StoredBuild:
    """A build that can be published. `former`: what going back leads to. `size` is in bytes."""

    manifest: Manifest
    current: bool
    former: bool
    size: int

    @property
    def engine(self) -> str:
        """What people call what its looks lie in."""
        return engine_name(self.manifest.engine)

    def to_json(self) -> dict[str, Any]:
        return {
            "build": self.manifest.id,
            "name": self.manifest.name,
            "current": self.current,
            "former": self.former,
            "model": self.manifest.model,
            "looks": self.manifest.count,
            "dimension": self.manifest.dimension,
            "engine": self.engine,
            "created_at": self.manifest.created_at.isoformat(),
            "size": self.size,
        }


def stored_builds() -> list[StoredBuild]:
    """All builds whose manifest can be read, the youngest first."""
    ids: list[str | None] = []
    with suppress(BuildError):  # none is current before the first; of a damaged CURRENT, serving tells
        ids += [each.build_id for each in publications()]
    current, former, *_ = [*ids, None, None]
    return [
        StoredBuild(
            manifest=manifest,
            current=manifest.id == current,
            former=manifest.id == former,
            size=sum(file["size"] for file in manifest.files.values()),
        )
        for manifest in readable_manifests()
    ]


def find_build(name_or_id: str) -> Manifest:
    """The build with this id, or else the youngest with this name. Raises BuildError, naming those that there are."""
    manifests = list(readable_manifests())
    for manifest in manifests:
        if manifest.id == name_or_id:
            return manifest
    for manifest in manifests:
        if manifest.name == name_or_id:
            return manifest
    names = ", ".join(sorted({manifest.name for manifest in manifests})) or "none"
    raise BuildError(f"There is no build with the name or id '{name_or_id}'; the names are: {names}. {LIST}")


def check_name(name: str) -> None:
    """Raises BuildError where a build cannot be called so."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or len(name) > MAX_NAME or re.match(r"\d{8}T\d", name):
        raise BuildError(
            f"A build cannot be called '{name}': letters, digits, '.', '_' and '-', at most {MAX_NAME}, beginning with "
            "a letter or digit, and not as the ids of builds look."
        )


def is_current(manifest: Manifest) -> bool:
    """Whether CURRENT names this very build, its manifest unchanged."""
    try:
        current = publications()[0]
        return current == _publication_of(manifest)
    except (BuildError, OSError):
        return False


def publish(manifest: Manifest) -> None:
    """Let a build answer that was stored a moment ago; a running server notices at its next question."""
    with _switching():
        _make_current(manifest)


def use_build(name_or_id: str, instead_of: str | None = None) -> Manifest:
    """Let this build answer, once its files are found to be what its manifest says. Returns its manifest.

    `instead_of`: the id of the build that the asker saw answering. Raises BuildError where another one does, and where
    there is no such build or a file of it is damaged.
    """
    with _switching():
        _check_current(instead_of)
        manifest = find_build(name_or_id)
        verify(manifest, anew=True)
        _make_current(manifest)
    return manifest


def roll_back(instead_of: str | None = None) -> Manifest:
    """Let the build answer that did before the current one; once more leads further back. Returns its manifest.

    The build that is left is not gone back to again, and stays stored. Raises BuildError as `use_build`, and where
    none was published before.
    """
    with _switching():
        _check_current(instead_of)
        current, *former = publications()
        if not former:
            raise BuildError(f"No build that is still there was published before {current.build_id}. {LIST}")
        manifest = published_manifest(former[0])
        verify(manifest, anew=True)
        _write_publications(former)
    return manifest


def remove_build(name_or_id: str) -> Manifest:
    """Remove a stored build. Raises BuildError where it is the current one, where nobody can tell which is, and where
    other machines answer from the looks that would go with it."""
    with _switching():
        manifest = find_build(name_or_id)
        with suppress(NoBuild):
            if manifest.id == publications()[0].build_id:
                raise BuildError(f"Build {manifest.id} is the current one; publish another one first. {LIST}")
        if manifest.id in shared_builds() and _is_served(manifest):
            raise BuildError(
                f"Build {manifest.id} is what other machines fetch, and its looks lie on a server for them too. "
                "Let them have another one first: python manage.py share_builds"
            )
        _remove(manifest.id)
    return manifest


def remove_superseded(but: str) -> None:
    """All builds but this one, the current, those published before it, the youngest of every name, and what is shared.

    Nothing is removed where nobody can tell which build is current.
    """
    with _switching():
        try:
            kept = {each.build_id for each in publications()[: 1 + KEPT_FORMER]} | {but}
        except NoBuild:
            kept = {but}
        except BuildError:
            return
        kept |= shared_builds()
        names = set()
        for manifest in readable_manifests():
            if manifest.name not in names:
                names.add(manifest.name)
                kept.add(manifest.id)
        for path in builds_dir().glob("[0-9]*"):
            if path.is_dir() and path.name not in kept:
                _remove(path.name)


def shared_builds() -> set[str]:
    """The builds that the shared storage may name: others answer from them, and from their looks on a server, however
    long nobody has shared a younger one. Told by a note here, as the storage may be away."""
    if "builds" not in settings.STORAGES:
        return set()
    try:
        lines = _shared_path().read_text().splitlines()
    except OSError:
        return set()
    return {line.split()[0] for line in lines if line.strip()}


def note_shared(lines: Sequence[str]) -> None:
    """What CURRENT on the shared storage says, or may say: lines of id and manifest's SHA-256."""
    text = "".join(f"{line}\n" for line in dict.fromkeys(map(str.strip, lines)) if line)
    if not _shared_path().is_file() or _shared_path().read_text() != text:
        replace_file(_shared_path(), text.encode())


def _shared_path() -> Path:
    return builds_dir() / "shared"


def _is_served(manifest: Manifest) -> bool:
    with suppress(ImproperlyConfigured):
        return issubclass(get_engine(manifest.engine), ServedIndex)
    return True


@contextmanager
def _switching() -> Iterator[None]:
    """Held while CURRENT or the set of builds is changed: for moments, unlike the build lock."""
    builds_dir().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(builds_dir() / "switch.lock", timeout=LOCK_TIMEOUT_S):
            yield
    except Timeout:
        raise BuilderBusy("Another process is switching between builds; try again in a moment.") from None


def _check_current(expected: str | None) -> None:
    if expected is None:
        return
    found = publications()[0].build_id
    if found != expected:
        raise BuildError(f"Another build was published in the meantime: {found}. Look again before you switch.")


def _make_current(manifest: Manifest) -> None:
    """The build first, then those that were published before it, each once."""
    try:
        before = publications()
    except BuildError:
        before = []  # the first one, or a damaged file: it is mended, and its order is lost
    made = _publication_of(manifest)
    kept = [each for each in before if each.build_id != manifest.id and manifest_path(each.build_id).exists()]
    _write_publications([made, *kept])


def _publication_of(manifest: Manifest) -> Publication:
    return Publication(manifest.id, file_sha256(manifest_path(manifest.id)))


def _write_publications(order: Sequence[Publication]) -> None:
    replace_file(current_path(), "".join(f"{each.build_id} {each.manifest_sha256}\n" for each in order).encode())


def _remove(build_id: str) -> None:
    """Under another name first, so that a kill leaves no half build; the next builder clears the rest away."""
    aside = builds_dir() / f".unfinished-{build_id}"
    (builds_dir() / build_id).rename(aside)
    fsync(builds_dir())
    remove_aside(aside)
