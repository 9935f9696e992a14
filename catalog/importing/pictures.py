"""Pictures for products: which are in place already, and taking those that are not.

Threads read, fetch, decode and store; the database is touched by nobody here.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from catalog import images
from catalog.images import ImageError, StoredImage
from catalog.importing.download import Fetcher
from catalog.importing.hosts import Interrupted
from catalog.importing.upsert import Placed
from catalog.memory import keep_freed_memory

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_IN_FLIGHT_PER_WORKER = 4


@dataclass(frozen=True)
class Kept:
    """The product's picture is in place and was not looked at again."""

    placed: Placed


@dataclass(frozen=True)
class Taken:
    """A picture was read, verified and stored; the product shall have it."""

    placed: Placed
    stored: StoredImage
    source: str


@dataclass(frozen=True)
class Failed:
    placed: Placed
    reason: str


@dataclass(frozen=True)
class NoneNamed:
    """The file says nothing about a picture, and the folder has none under the product's id."""

    placed: Placed


Outcome = Kept | Taken | Failed | NoneNamed


@dataclass(frozen=True)
class FoundFile:
    path: Path
    source: str
    """Name, size and time: the same again is the same file."""


class Folder:
    """The folder of `--images`. Nothing outside is ever read, whatever a row or a link says."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve(strict=True)
        self._prefix = f"{self.root}{os.sep}"

    def find(self, image_name: str, product_id: str) -> FoundFile | None:
        """The file named, else one named after the product. Raises ImageError for a name that leads outside."""
        if image_name and (found := self._look_at(image_name)):
            return found
        for suffix in _SUFFIXES:
            if found := self._look_at(product_id + suffix):
                return found
        return None

    def _look_at(self, name: str) -> FoundFile | None:
        path = self._prefix + name
        try:
            state = os.lstat(path)  # not pathlib: called for every product of an import
            if "/" in name or "\\" in name or name in (".", "..") or stat.S_ISLNK(state.st_mode):
                path = self._within(path, name)
                state = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ImageError(f"{name} cannot be read: {error.strerror}.") from error
        if not stat.S_ISREG(state.st_mode):
            return None
        return FoundFile(Path(path), f"file:{name}:{state.st_size}:{state.st_mtime_ns}")

    def _within(self, path: str, name: str) -> str:
        real = os.path.realpath(path, strict=True)
        if not real.startswith(self._prefix):
            raise ImageError(f"{name} lies outside the folder of images.")
        return real


class PictureTaker:
    """Takes pictures from a folder, from addresses, or from the folder first and then from addresses."""

    def __init__(self, folder: Folder | None, fetcher: Fetcher | None, *, refetch: bool, workers: int) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._refetch = refetch
        cores = len(os.sched_getaffinity(0))
        self._workers = max(cores, workers if fetcher else 0)
        # A decoded picture takes up to 25 megapixels times a few bytes: no more at once than can be worked on, and
        # one that waits for the disk.
        self._decoding = threading.Semaphore(cores + 1)

    def take(self, products: Iterable[Placed]) -> Generator[Outcome]:
        """An outcome for every product, in the order in which they are done.

        Works on a few pictures per thread at a time and pulls products only as fast as that, so that
        memory does not grow with the catalogue.
        """
        keep_freed_memory()
        done: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        in_flight = 0
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="picture")
        try:
            for placed in products:
                work = self.decide(placed)
                if not isinstance(work, _Work):
                    yield work
                    continue
                pool.submit(self._do, work).add_done_callback(done.put)
                in_flight += 1
                while in_flight >= self._workers * _IN_FLIGHT_PER_WORKER or (in_flight and not done.empty()):
                    yield done.get().result()
                    in_flight -= 1
            while in_flight:
                yield done.get().result()
                in_flight -= 1
        finally:
            if self._fetcher:
                self._fetcher.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            if self._fetcher:
                self._fetcher.close()

    def decide(self, placed: Placed) -> Outcome | _Work:
        """What is to be done for a product. Looks at names and times of files only."""
        stored = images.are_stored(placed.image, placed.thumbnail)
        if stored and placed.image_source.startswith(images.BY_HAND):
            return Kept(placed)
        if placed.image_source == images.REMOVED:
            return NoneNamed(placed)
        in_place = bool(stored and placed.image_source and not placed.image_error)
        trouble = ""
        found = None
        if self._folder:
            try:
                found = self._folder.find(placed.image_name, placed.product_id)
            except ImageError as error:
                trouble = str(error)
        url = placed.image_url if self._fetcher else ""
        if found and in_place and placed.image_source == found.source and not self._refetch:
            return Kept(placed)
        if found:
            return _Work(placed, found, url)
        if in_place and not trouble and not (self._refetch and url):
            return Kept(placed)
        if url:
            return _Work(placed, None, url)
        if trouble or placed.image_name or placed.image_url:
            return Failed(placed, trouble or self._nothing_found(placed))
        return NoneNamed(placed)

    def _nothing_found(self, placed: Placed) -> str:
        if self._folder:
            return f"The folder of images has no {placed.image_name or placed.product_id + '.jpg'}."
        return "The file names no address."

    def _do(self, work: _Work) -> Outcome:
        """In a thread: try the file, then the address."""
        reasons: list[str] = []
        if work.found:
            try:
                return self._taken(work.placed, images.read(work.found.path), work.found.source)
            except ImageError as error:
                reasons.append(str(error))
        if work.url and self._fetcher:
            try:
                return self._taken(work.placed, self._fetcher.fetch(work.url), f"url:{work.url}")
            except ImageError as error:
                reasons.append(str(error))
            except Interrupted:
                reasons.append("The import was interrupted.")
        if len(reasons) == 2:
            return Failed(work.placed, f"In the folder: {reasons[0]} At its address: {reasons[1]}")
        return Failed(work.placed, reasons[0])

    def _taken(self, placed: Placed, data: bytes, source: str) -> Taken:
        with self._decoding:
            return Taken(placed, images.store(images.verify(data)), source)


@dataclass(frozen=True)
class _Work:
    """A picture that has to be looked at: where it may be had."""

    placed: Placed
    found: FoundFile | None
    url: str
