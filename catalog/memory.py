"""Memory of the C library and of Python, for long jobs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
from collections.abc import Iterator
from pathlib import Path

_MADV_WILLNEED, _MADV_POPULATE_READ = 3, 22
"""Of madvise(2); the latter since Linux 5.14."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
_PIECE_BYTES = 16 * 2**20
_KEPT_BYTES = 128 * 2**20
_LARGEST_KEPT_BYTES = 32 * 2**20
"""glibc allows no more."""


def keep_freed_memory() -> None:
    """From now on, memory that this process has freed stays with it, up to 128 MiB of each heap.

    By default glibc gives a decoded picture's megabytes back to the system and asks for them again for the next
    one, which the system then clears page by page: 2,000 page faults, a fifth of the time of a picture of 1,440 px
    (docs/performance.md). Both thresholds are needed: either of them alone switches off glibc's own adjusting of the
    other, and doubles the faults. Where the C library is another one, nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Let Python look for no garbage in cycles meanwhile. For short work that makes many objects and no cycles, which
    it would go through again and again: a tenth of an import's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def prefault_memory(address: int, size: int) -> None:
    """Have these bytes of mapped files in memory, and in this process' page table: a first question would fault in a
    thousand pages, one after another. Where the system cannot, nothing happens.

    Piece by piece: who asks the system for memory meanwhile waits for one piece and not for all.
    """
    page, end = mmap.PAGESIZE, address + size
    with contextlib.suppress(AttributeError, OSError):
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for first in range(address // page * page, end if size else 0, _PIECE_BYTES):
            length = min(_PIECE_BYTES, end - first)
            if madvise(first, length, _MADV_POPULATE_READ):
                madvise(first, length, _MADV_WILLNEED)


def peak_mib() -> int | None:
    """The most memory that this process has had at once, in MiB; None where the system does not say (proc(5))."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
    except (OSError, ValueError, IndexError):
        return None
