"""Requests that arrive together share a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 8
"""Pictures that one batch takes: more would keep the first one waiting."""


@dataclass(eq=False)
class _Waiting:
    batch: NDArray[Any]
    done: threading.Event = field(default_factory=threading.Event)
    result: NDArray[np.float32] | None = None
    error: BaseException | None = None


class Gatherer:
    """Runs batches one after another; whoever waits meanwhile is taken along in the next.

    There is no thread and no delay of its own: a lone request runs at once in its own thread, and takes those
    who came since the last run with it.
    """

    def __init__(self, infer: Callable[[NDArray[Any]], NDArray[np.float32]]) -> None:
        self._infer = infer
        self._running = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._waiting_lock = threading.Lock()

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """What `infer` gives of a batch (n, …): (n, …) float32. What it raises is raised in every thread of it."""
        mine = _Waiting(batch)
        with self._waiting_lock:
            self._waiting.append(mine)
        with self._running:
            while not mine.done.is_set():
                self._run_some()
        if mine.error is not None:
            raise mine.error
        assert mine.result is not None
        return mine.result

    def _run_some(self) -> None:
        with self._waiting_lock:
            taken = [self._waiting.pop(0)]
            while self._waiting and sum(len(one.batch) for one in taken) + len(self._waiting[0].batch) <= MOST:
                taken.append(self._waiting.pop(0))
        try:
            results = self._infer(np.concatenate([one.batch for one in taken]))
            ends = np.cumsum([len(one.batch) for one in taken])
            for one, end in zip(taken, ends, strict=True):
                one.result = results[end - len(one.batch) : end]
        except BaseException as error:  # noqa: BLE001 (handed to those who wait, never swallowed)
            for one in taken:
                one.error = error
        finally:
            for one in taken:
                one.done.set()
