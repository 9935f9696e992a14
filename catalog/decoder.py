"""Decoding what strangers send, in processes of its own that may take so much memory and time and no more.

A decoder is a hundred thousand lines of C that meet hostile bytes. Where one crashes, runs for ever or wants all
memory, a process ends that knows nothing and holds nothing; the one that serves visitors says that the picture is not
taken, and begins another at the next.

    bytes of a file  →  child: check, decode, strip  →  (format, RGB picture, the file without metadata)

Each process that decodes keeps as many children as it decodes pictures at once, at most as many as there are cores.
A child ends with whoever made it, for its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from PIL import Image

from catalog.decoding import MAX_BYTES, MAX_PIXELS, TOO_COSTLY, Refused, check_length, decode
from catalog.metadata import stripped

CPU_S = 10
"""Processor time that a picture may take: a hundred times what one of 25 megapixels from an encoder needs."""
WALL_S = 30
MEMORY_BYTES = 1024 * 2**20
"""Address space: the interpreter's own 150 MiB, and three copies of 25 megapixels in four channels."""
WAIT_S = 60
"""The longest wait for a child that others keep busy."""
_ROOT = Path(__file__).resolve().parent.parent
_START = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from catalog.decoder import serve; serve({{shared}})"
_HEAD = struct.Struct("<I")
_IN_MEMORY = "RGBX"
"""How Pillow itself lays RGB out, so that copying it in and out converts nothing."""
_FILE_BYTES, _PIXEL_BYTES = MAX_BYTES + 4096, 4 * MAX_PIXELS
"""The two parts of the memory that parent and child share; stripped files may be a little longer than they were."""
_LET_GO_BYTES = _FILE_BYTES + 8 * 2**20
"""Shared memory that was used beyond this is given back."""


# --- the child ----------------------------------------------------------------------------------
def serve(shared: int) -> None:
    """Answer one picture after another until the parent closes our standard input. `shared`: the descriptor of the
    memory in which the file comes, and file and pixels go.
    """
    import resource

    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    memory = mmap.mmap(shared, _FILE_BYTES + _PIXEL_BYTES)
    Image.init()  # its plugins, before files are forbidden
    hard = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 16,
    }
    for limit, value in hard.items():
        resource.setrlimit(limit, (value, value))
    while head := requests.read(_HEAD.size):
        data = memory[: _HEAD.unpack(head)[0]]
        used = resource.getrusage(resource.RUSAGE_SELF)
        # Above the soft limit the kernel sends SIGXCPU, which ends us.
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + CPU_S, resource.RLIM_INFINITY)
        )
        try:
            answer, file, pixels = _taken(data)
            memory[: len(file)] = file
            memory[_FILE_BYTES : _FILE_BYTES + len(pixels)] = pixels
        except Refused as error:
            answer = {"refused": error.sentence, "values": error.values}
        except MemoryError:
            answer = {"refused": TOO_COSTLY, "values": {}}
        text = json.dumps(answer).encode()
        answers.write(_HEAD.pack(len(text)) + text)
        answers.flush()


def _taken(data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    kind, image, orientation = decode(data)
    kept = stripped(kind, data, orientation)
    file = b"" if kept is data else kept
    return {"kind": kind, "size": image.size, "file": len(file)}, file, image.tobytes("raw", _IN_MEMORY)


# --- the parent ---------------------------------------------------------------------------------
def _memory_file() -> IO[bytes]:
    """A file without a name that two processes share. In /dev/shm it could outgrow that: containers have 64 MiB there,
    and who writes to a mapped file that finds no room is killed by SIGBUS.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pictures", os.MFD_CLOEXEC), "r+b")
    return tempfile.TemporaryFile()


class _Child:
    """A process that decodes. Used by one thread at a time."""

    def __init__(self) -> None:
        with _memory_file() as shared:
            shared.truncate(_FILE_BYTES + _PIXEL_BYTES)
            self._memory = mmap.mmap(shared.fileno(), _FILE_BYTES + _PIXEL_BYTES)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
                [sys.executable, "-P", "-s", "-c", _START.format(shared=shared.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                pass_fds=[shared.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's affair
            )

    def ask(self, data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
        """(head, file, pixels). Raises OSError, EOFError where the child ended, TimeoutError."""
        assert self._process.stdin is not None
        deadline = time.monotonic() + WALL_S
        self._memory[: len(data)] = data
        self._process.stdin.write(_HEAD.pack(len(data)))
        self._process.stdin.flush()
        (length,) = _HEAD.unpack(self._read(_HEAD.size, deadline))
        head: dict[str, Any] = json.loads(self._read(length, deadline))
        if "refused" in head:
            return head, b"", b""
        width, height = head["size"]
        end = _FILE_BYTES + 4 * width * height
        answer = head, self._memory[: head["file"]], self._memory[_FILE_BYTES:end]
        if end > _LET_GO_BYTES:
            self._memory.madvise(mmap.MADV_REMOVE)
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        buffer = bytearray(size)
        view, at = memoryview(buffer), 0
        while at < size:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            got = os.readv(descriptor, [view[at:]])
            if not got:
                raise EOFError
            at += got
        return bytes(buffer)

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()
        self._memory.close()


class _Children:
    """Those of this process that have nothing to do, and how many more it may have."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(os.cpu_count() or 1):
            self._idle.put(None)

    @contextlib.contextmanager
    def one(self) -> Iterator[_Child]:
        """A child of one's own for a while; whatever goes wrong with it, it is the last it did."""
        try:
            child = self._idle.get(timeout=WAIT_S)
        except queue.Empty:
            raise Refused(TOO_COSTLY) from None
        try:
            if child is None:
                child = _Child()
            yield child
        except BaseException:
            if child is not None:
                child.end()
            child = None
            raise
        finally:
            self._idle.put(child)


_children: _Children | None = None
_lock = threading.Lock()


def _own_children() -> _Children:
    """Not those of the process that this one was forked from."""
    global _children
    with _lock:
        if _children is None or _children.process != os.getpid():
            _children = _Children()
        return _children


def take(data: bytes) -> tuple[str, Image.Image, bytes]:
    """(format, RGB picture, the file without metadata) of bytes that a stranger sent. Raises Refused."""
    check_length(len(data))
    try:
        with _own_children().one() as child:
            head, file, pixels = child.ask(data)
    except (OSError, EOFError) as error:  # it was ended by a limit, or crashed
        raise Refused(TOO_COSTLY) from error
    if "refused" in head:
        raise Refused(head["refused"], **head["values"])
    return head["kind"], Image.frombytes("RGB", tuple(head["size"]), pixels, "raw", _IN_MEMORY), file or data
