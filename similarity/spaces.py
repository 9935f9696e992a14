"""Spaces: the embeddings of one embedder, on disk, only ever appended to.

A space is a folder of two files and a note of whose vectors they are:

- `vectors-0001.f32`: (n, dim) little-endian float32, in order of arrival;
- `keys-0001.bin`: n records of (row, the picture's SHA-256, CRC-32 of record and vector).

Vectors are flushed to the disk before their keys, so that a key on the disk stands for a whole vector. A
writer that opens the space cuts off what a killed one left half done; a reader takes what has a valid key.
Where a row stands twice, the later one counts.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from catalog.files import fsync, replace_file
from similarity.embedders.base import Identity
from similarity.vectors import Digests, Matrix, Rows, find_rows

KEY_DTYPE = np.dtype([("row", "<i8"), ("sha256", "u1", 32), ("crc", "<u4")])
VECTOR_DTYPE = np.dtype("<f4")


_CHUNK = 4096
_TAKEN = 1024
"""Vectors that are taken from a mapped file at once: for each, wherever it lies, the system maps 64 KiB around it."""
DAMAGED = -1
"""The row of an entry whose vector is not what was written."""


class SpaceError(Exception):
    """A space cannot be used; the message names it and what to do."""


@dataclass(frozen=True)
class Entries:
    """What a space held when it was read. Arrays are in order of arrival and belong together line by line.

    `rows` (n,) int64; `digests` (n, 32) uint8; `vectors` (n, dim) float32, mapped from the file.
    """

    rows: Rows
    digests: Digests
    vectors: NDArray[np.float32]

    def checksum(self, count: int) -> int:
        """Stands for whose the first `count` entries are: the same only while they are of the same pictures.

        A generation's number would not do: a space that was deleted and filled again starts with the first.
        """
        return zlib.crc32(self.digests[:count].tobytes(), zlib.crc32(self.rows[:count].tobytes()))

    def find(self, rows: Rows, digests: Digests) -> NDArray[np.int64]:
        """Positions (n,) of the vectors of these pictures; -1 where there is none, or one of another picture.

        The digest tells a row that a restored backup has given twice: its vector counts as absent.
        """
        at = find_rows(rows, self.rows)
        same = (self.digests[at] == digests).all(axis=1) if len(self.rows) else np.zeros(len(rows), bool)
        return np.where((at >= 0) & same, at, -1)

    def take(self, positions: NDArray[np.int64]) -> Matrix:
        """Vectors (n, dim) at the positions, zeros at -1, as a new matrix."""
        taken = np.zeros((len(positions), self.vectors.shape[1]), dtype=np.float32)
        present = positions >= 0
        at = np.flatnonzero(present)
        for start in range(0, len(at), _TAKEN):
            some = at[start : start + _TAKEN]
            taken[some] = self.vectors[positions[some]]
            let_go(self.vectors)
        return taken


@dataclass(frozen=True)
class Note:
    """What a space says of itself: the length of its vectors, and which pair of files is its present one.

    As these are only ever appended to, whoever finds the `token` again that they were begun with, finds all as it was,
    and perhaps more behind it. A generation's number would not do: a space that was deleted and filled again starts
    with the first. "": of a version that gave none.
    """

    dimension: int
    generation: int
    token: str = ""
    computed_by: tuple[str, ...] = ()
    """Runtime and precision of whatever has written here, in order of their first vector: "openvino bfloat16"."""


class Space:
    """The folder of one identity's vectors, below `root`."""

    def __init__(self, root: Path, identity: Identity) -> None:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(identity.name).name)[:40].strip("-")
        self.identity = identity
        self.name = f"{slug}-{identity.key}"
        self.folder = root / self.name
        self._note_path = self.folder / "space.json"
        self._noted: tuple[object, Note | None] = (None, None)
        self._keys: str | None = None

    def note(self) -> Note | None:
        """What the space says of itself; None before its first vector came. Read again only when it was replaced."""
        try:
            stat = self._note_path.stat()
        except FileNotFoundError:
            return None
        state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if state != self._noted[0]:
            self._noted = (state, self._read_note())
        return self._noted[1]

    def _read_note(self) -> Note | None:
        try:
            content = json.loads(self._note_path.read_text())
            return Note(
                dimension=int(content["dimension"]),
                generation=int(content["generation"]),
                token=str(content.get("token", "")),
                computed_by=tuple(map(str, content.get("computed_by", ()))),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise SpaceError(
                f"{self._note_path} cannot be read ({error}); delete the folder {self.folder} and run build_index."
            ) from error

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever the space's vectors do. It is asked after at every question, and looks at one file only:
        another generation removes that of the one before."""
        for _ in range(2):
            if self._keys is None:
                note = self.note()
                if note is None:
                    return ()
                self._keys = str(self.keys_path(note))
            with suppress(FileNotFoundError):
                stat = os.stat(self._keys)  # noqa: PTH116 - half the time of Path's
                return (stat.st_ino, stat.st_size)
            self._keys = None
        return ()

    def keys_path(self, note: Note) -> Path:
        return self.folder / f"keys-{note.generation:04d}.bin"

    def vectors_path(self, note: Note) -> Path:
        return self.folder / f"vectors-{note.generation:04d}.f32"

    def read(self, *, verify: bool = False, since: int = 0) -> Entries:
        """All that is whole in it now, or all but the first `since` entries; what a writer appends later is not seen.

        With `verify`, every vector is held against its checksum, and one that fails stands as row -1: absent.
        """
        note = self.note()
        if note is None:
            return Entries(np.empty(0, np.int64), np.empty((0, 32), np.uint8), np.empty((0, 0), np.float32))
        keys, vectors = self.read_whole(note, since)
        rows = keys["row"].astype(np.int64)
        if verify:
            rows[_checksums(keys, vectors) != keys["crc"]] = DAMAGED
        return Entries(rows, np.ascontiguousarray(keys["sha256"]), vectors)

    def read_whole(self, note: Note, since: int = 0) -> tuple[NDArray[np.void], NDArray[np.float32]]:
        """Keys and mapped vectors from some entry on, up to the last pair that belongs together."""
        line = VECTOR_DTYPE.itemsize * note.dimension
        try:
            path, begin = self.keys_path(note), since * KEY_DTYPE.itemsize
            whole = begin <= path.stat().st_size
            keys = np.fromfile(path, dtype=KEY_DTYPE, offset=begin) if whole else np.empty(0, KEY_DTYPE)
            held = self.vectors_path(note).stat().st_size // line - since
        except FileNotFoundError:
            if note != (newer := self.note()) and newer is not None:
                return self.read_whole(newer)  # compacted between reading the note and the files
            keys, held = np.empty(0, KEY_DTYPE), 0
        count = max(0, min(len(keys), held))
        if not count:
            return keys[:0], np.empty((0, note.dimension), np.float32)
        vectors = np.memmap(
            self.vectors_path(note), VECTOR_DTYPE, mode="r", offset=since * line, shape=(count, note.dimension)
        )
        while count and _checksums(keys[count - 1 : count], vectors[count - 1 : count])[0] != keys["crc"][count - 1]:
            count -= 1
        return keys[:count], vectors[:count]

    def give_token(self) -> None:
        """To the space of a version that gave none."""
        note = self.note()
        if note is not None and not note.token:
            with self.writing():
                pass  # opening is enough

    @contextmanager
    def writing(self) -> Iterator[SpaceWriter]:
        """The space's one writer; raises SpaceError where another process is writing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=0):
                writer = SpaceWriter(self)
                try:
                    yield writer
                finally:
                    writer.close()
        except Timeout as error:
            raise SpaceError(f"Another process is writing to {self.folder}; wait until it has ended.") from error


class SpaceWriter:
    """Appends to a space that is locked for it."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._files: tuple[int, int] | None = None
        self._note = space.note()
        if self._note is not None and not self._note.token:
            self._publish(replace(self._note, token=_token()))
        elif self._note is not None:
            self._open(self._note)

    def append(self, rows: Rows, digests: Digests, vectors: Matrix, computed_by: str = "") -> None:
        """Add n vectors (n, dim) with their rows (n,) and digests (n, 32). On the disk when this returns.

        `computed_by` is noted: the runtime and its precision.
        """
        if not len(rows):
            return
        if self._note is None or self._files is None:
            by = (computed_by,) if computed_by else ()
            self._publish(Note(vectors.shape[1], generation=1, token=_token(), computed_by=by))
        elif computed_by and computed_by not in self._note.computed_by:
            self.close()
            self._publish(replace(self._note, computed_by=(*self._note.computed_by, computed_by)))
        assert self._note is not None
        assert self._files is not None
        if vectors.shape != (len(rows), self._note.dimension):
            raise SpaceError(
                f"The space {self._space.name} holds vectors of {self._note.dimension} dimensions, "
                f"the embedder made {vectors.shape[1]}; delete {self._space.folder} and run build_index."
            )
        vectors = np.ascontiguousarray(vectors, dtype=VECTOR_DTYPE)
        keys = np.zeros(len(rows), dtype=KEY_DTYPE)
        keys["row"], keys["sha256"] = rows, digests
        keys["crc"] = _checksums(keys, vectors)
        for descriptor, content in zip(self._files, (vectors.tobytes(), keys.tobytes()), strict=True):
            _write_all(descriptor, content)
            os.fsync(descriptor)

    def compact(self, keep: Rows) -> None:
        """Drop all but the sound, last vectors of the rows (n,) to keep.

        The smaller files are written beside the present ones, and the note then names them: killed anywhere,
        the space is the former or the new one. Readers keep what they have open.
        """
        if self._note is None:
            return
        former = self._note
        held = self._space.read(verify=True)
        keys, _ = self._space.read_whole(former)
        last = find_rows(held.rows, held.rows) == np.arange(len(held.rows))
        kept = last & np.isin(held.rows, keep) & (held.rows != DAMAGED)
        following = replace(former, generation=former.generation + 1, token=_token())
        replace_file(self._space.vectors_path(following), np.ascontiguousarray(held.vectors[kept]).tobytes())
        replace_file(self._space.keys_path(following), keys[kept].tobytes())
        self.close()
        self._publish(following)

    def close(self) -> None:
        if self._files is not None:
            for descriptor in self._files:
                os.close(descriptor)
            self._files = None

    def _publish(self, note: Note) -> None:
        content = {"identity": asdict(self._space.identity), "dtype": VECTOR_DTYPE.str, **asdict(note)}
        replace_file(self._space._note_path, json.dumps(content, indent=2).encode())
        self._note = note
        self._open(note)

    def _open(self, note: Note) -> None:
        keys, _ = self._space.read_whole(note)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        vectors_path, keys_path = self._space.vectors_path(note), self._space.keys_path(note)
        self._files = (os.open(vectors_path, flags, 0o644), os.open(keys_path, flags, 0o644))
        sizes = (VECTOR_DTYPE.itemsize * note.dimension, KEY_DTYPE.itemsize)
        for descriptor, size in zip(self._files, sizes, strict=True):
            os.ftruncate(descriptor, len(keys) * size)  # what a killed writer left half done
        for path in (*self._space.folder.glob("keys-*.bin"), *self._space.folder.glob("vectors-*.f32")):
            if path not in (keys_path, vectors_path):
                path.unlink()  # of a compaction that was killed, or of the generation before
        fsync(self._space.folder)


def _checksums(keys: NDArray[np.void], vectors: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(n,) of row, digest and vector, one after another. Mapped vectors are let go of again."""
    found = np.empty(len(keys), dtype=np.uint32)
    named = KEY_DTYPE.fields["crc"][1] if KEY_DTYPE.fields else 0  # row and digest lie side by side before it
    for start in range(0, len(keys), _CHUNK):
        some = slice(start, start + _CHUNK)
        heads = memoryview(np.ascontiguousarray(keys[some]).tobytes())
        bodies = memoryview(np.ascontiguousarray(vectors[some]).tobytes())
        length = vectors.shape[1] * VECTOR_DTYPE.itemsize
        found[some] = [
            zlib.crc32(bodies[at * length : (at + 1) * length], zlib.crc32(heads[head : head + named]))
            for at, head in enumerate(range(0, len(heads), KEY_DTYPE.itemsize))
        ]
        let_go(vectors)
    return found


def let_go(vectors: NDArray[np.float32]) -> None:
    """Do not keep what was read of a mapped file in this process' memory: the system does as long as it has room."""
    mapped = getattr(vectors, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _token() -> str:
    return secrets.token_hex(8)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
