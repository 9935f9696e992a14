"""A picture that crashes its decoder, or wants more than it may have, costs a process that holds nothing."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalog import decoder
from catalog.decoding import Refused
from tests.processes import until


def a_png(side: int = 64) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[decoder._Children]:
    """None that other tests have used."""
    own = decoder._Children()
    monkeypatch.setattr(decoder, "_children", own)
    yield own
    while not own._idle.empty():
        if child := own._idle.get():
            child.end()


def test_a_picture_comes_back_as_it_is(children: Any) -> None:
    data = a_png()
    kind, image, kept = decoder.take(data)
    with Image.open(io.BytesIO(data)) as opened:
        assert (kind, image.tobytes()) == ("PNG", opened.tobytes())
    assert kept is data


def test_many_threads_share_a_few_children(children: Any) -> None:
    pictures = [a_png(side) for side in range(20, 60)]
    with ThreadPoolExecutor(8) as threads:
        sizes = [image.size for _kind, image, _kept in threads.map(decoder.take, pictures)]
    assert sizes == [(side, side) for side in range(20, 60)]
    assert children._idle.qsize() == os.cpu_count()


def test_a_killed_child_costs_one_picture(children: Any) -> None:
    decoder.take(a_png())
    with children.one() as child:
        os.kill(child._process.pid, signal.SIGKILL)
        child._process.wait()
    with pytest.raises(Refused, match="too much time or memory"):
        decoder.take(a_png())
    assert decoder.take(a_png())[0] == "PNG"


def test_memory_is_limited(children: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_START", decoder._START.replace("; serve({shared})", "") + LIMITED)
    assert decoder.take(a_png())[0] == "PNG"
    with pytest.raises(Refused, match="too much time or memory"):
        decoder.take(a_flat_png(4900))
    assert decoder.take(a_png())[0] == "PNG"


LIMITED = "\nimport catalog.decoder as d; d.MEMORY_BYTES = 200 * 2**20; d.serve({shared})"
SLOW = """
import catalog.decoder as d, time
d.CPU_S = 0
def spin(data):
    while len(data) > 1000: pass
    return dict(kind="PNG", size=(1, 1), file=0), b"", bytes(4)
d._taken = spin
d.serve({shared})"""


def test_processor_time_is_limited(children: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_START", decoder._START.replace("; serve({shared})", "") + SLOW)
    with pytest.raises(Refused, match="too much time or memory"):
        decoder.take(a_png())
    assert decoder.take(b"short")[1].size == (1, 1)


def test_time_is_limited(children: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no processor is used."""
    monkeypatch.setattr(decoder, "WALL_S", 0.2)
    asleep = "\nimport catalog.decoder as d, time; d._taken = lambda data: time.sleep(60); d.serve({shared})"
    monkeypatch.setattr(decoder, "_START", decoder._START.replace("; serve({shared})", "") + asleep)
    with pytest.raises(Refused, match="too much time or memory"):
        decoder.take(a_png())


def test_a_child_ends_with_its_parent() -> None:
    root = Path(decoder.__file__).resolve().parent.parent
    script = (
        "import os; from catalog import decoder\n"
        "with decoder._own_children().one() as child: print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    child = int(done.stdout)

    def is_gone() -> bool:
        try:
            os.kill(child, 0)
            return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
        except (OSError, IndexError):
            return True

    until(is_gone)


def a_flat_png(side: int) -> bytes:
    """Few bytes, many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    start = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((3 * side + 1) * side))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
