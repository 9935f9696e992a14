"""Memory of the C library, for jobs that decode picture after picture."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
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
