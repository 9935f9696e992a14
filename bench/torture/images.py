"""Pictures that were tampered with, sent to a running server: each is answered, and no worker dies of one."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from PIL import Image

from bench.site import DEMO
from bench.torture.ground import PATIENCE_S, Report, Shop

CLIENTS = 6
SEEDS_PX = (96, 128)


def run(count: int, seed: int, folder: Path) -> Report:
    report = Report("images", seed)
    shop = Shop(folder)
    shop.stock()
    answers: Counter[int] = Counter()
    with shop.served() as server, ThreadPoolExecutor(CLIENTS) as clients:
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CLIENTS))

        def send(named: tuple[str, bytes]) -> tuple[str, int | str]:
            name, data = named
            try:
                files = {"image": ("picture.jpg", data, "image/jpeg")}
                answer = session.post(f"{server.address}/api/v1/search/image/", files=files, timeout=PATIENCE_S)
            except requests.RequestException as error:
                return name, type(error).__name__
            return name, answer.status_code

        for name, status in clients.map(send, pictures(count, seed)):
            report.tried += 1
            answers[status if isinstance(status, int) else 0] += 1
            report.expect(status in (200, 400, 413), f"{name}: {status}")
        report.expect(server.deaths() == 0, f"{server.deaths()} workers had to be replaced:\n{server.said()[-2000:]}")
        report.figures = {"worker_deaths": server.deaths(), "5xx": sum(n for s, n in answers.items() if s >= 500)}
        report.figures["answers"] = {str(status): number for status, number in sorted(answers.items())}
    return report


def pictures(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """What is sent: first what was made to hurt, then pictures of every format with a wound or several."""
    made = list(crafted())[:count]
    yield from made
    chance = random.Random(seed)
    whole = list(whole_pictures())
    for number in range(count - len(made)):
        name, data = chance.choice(whole)
        wound = chance.choice(WOUNDS)
        hurt = wound(data, chance, whole)
        for _ in range(chance.choice((0, 0, 0, 1, 4))):
            hurt = chance.choice(WOUNDS)(hurt, chance, whole)
        yield f"#{number} {name} {wound.__name__}", hurt


# --- what is whole -------------------------------------------------------------------------------
def whole_pictures() -> Iterator[tuple[str, bytes]]:
    for number, path in enumerate(sorted((DEMO / "images").glob("*.jpg"))[:4]):
        with Image.open(path) as opened:
            size = SEEDS_PX[number % 2]
            image = opened.convert("RGB").resize((size, size))
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a description"
        kinds: dict[str, tuple[Image.Image, dict[str, object]]] = {
            "jpeg": (image, {"format": "JPEG", "exif": exif}),
            "progressive": (image, {"format": "JPEG", "progressive": True, "subsampling": 0}),
            "cmyk": (image.convert("CMYK"), {"format": "JPEG"}),
            "grey": (image.convert("L"), {"format": "JPEG", "restart_marker_blocks": 2}),
            "png": (image, {"format": "PNG", "exif": exif}),
            "png16": (image.convert("I;16"), {"format": "PNG"}),
            "palette": (image.convert("P"), {"format": "PNG", "transparency": 3}),
            "alpha": (image.convert("RGBA"), {"format": "PNG"}),
            "bits": (image.convert("1"), {"format": "PNG"}),
            "webp": (image, {"format": "WEBP", "exif": exif}),
            "lossless": (image.convert("RGBA"), {"format": "WEBP", "lossless": True}),
            "moving webp": (image, {"format": "WEBP", "save_all": True, "append_images": [image.rotate(90)]}),
            "gif": (image, {"format": "GIF"}),
            "moving gif": (image, {"format": "GIF", "save_all": True, "append_images": [image.rotate(90)]}),
        }
        for name, (picture, options) in kinds.items():
            buffer = io.BytesIO()
            picture.save(buffer, **options)  # type: ignore[arg-type]
            yield name, buffer.getvalue()


# --- wounds --------------------------------------------------------------------------------------
Whole = list[tuple[str, bytes]]


def flipped(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    hurt = bytearray(data)
    for _ in range(chance.choice((1, 2, 8, 64))):
        if hurt:
            hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
    return bytes(hurt)


def flipped_in_the_head(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    return flipped(data[:200], chance, whole) + data[200:]


def cut(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def hollow(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start + chance.randrange(1 + len(data) // 4) :]


def repeated(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.randrange(1, 400)]
    return data[:start] + piece * chance.choice((2, 3, 50)) + data[start:]


def stuffed(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + chance.randbytes(chance.randrange(1, 300)) + data[start:]


def extreme(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    """A number of two or four bytes at one of its ends."""
    hurt, start = bytearray(data), chance.randrange(max(1, min(len(data), chance.choice((64, 4000)))))
    value = chance.choice((0, 1, 0x7F, 0x80, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    form = chance.choice(("<I", ">I", "<H", ">H"))
    size = struct.calcsize(form)
    hurt[start : start + size] = struct.pack(form, value & (256**size - 1))
    return bytes(hurt)


def joined(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    """The beginning of one file and the end of another."""
    other = chance.choice(whole)[1]
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other)) :]


def resealed(data: bytes, chance: random.Random, whole: Whole) -> bytes:
    """A PNG with a changed chunk whose checksum is right, so that decoders look at it; others are flipped."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return flipped(data, chance, whole)
    out, at, chunks = bytearray(data[:8]), 8, []
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return flipped(data, chance, whole)
    struck = chance.randrange(len(chunks))
    for number, (kind, body) in enumerate(chunks):
        new = flipped(body, chance, whole) if number == struck else body
        out += struct.pack(">I", len(new)) + kind + new + struct.pack(">I", zlib.crc32(kind + new))
    return bytes(out)


WOUNDS: tuple[Callable[[bytes, random.Random, Whole], bytes], ...] = (
    *(flipped, flipped_in_the_head, cut, hollow, repeated, stuffed, extreme, extreme, joined, resealed),
)


# --- what was made to hurt ------------------------------------------------------------------------
def crafted() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "a byte", b"\xff"
    for width, height in ((9400, 9400), (9999, 9999), (1, 65000), (65000, 1), (25_000, 1000), (5001, 5000)):
        yield f"PNG of {width} x {height} in few bytes", png_bomb(width, height)
    yield "PNG that says 2**31 - 1 a side", png_head(2**31 - 1, 2**31 - 1) + b"\0" * 64
    yield "PNG of no width", png_head(0, 10)
    yield "PNG whose text unpacks to 64 MiB", png_with_text(64 * 2**20)
    yield "PNG with 20,000 empty chunks", png_head(8, 8) + chunk(b"IDAT", b"") * 20_000
    for scans in (33, 200, 2000):
        yield f"progressive JPEG with {scans} scans", many_scans(scans, (2000, 2000))
    yield "progressive JPEG whose scans hide behind a reserved marker", hidden_scans(60)
    yield "JPEG with a second picture behind its end", two_pictures()
    yield "JPEG of 65,500 x 65,500", jpeg_sized(65_500, 65_500)
    yield "JPEG that is only markers", b"\xff\xd8" + b"\xff\xfe\x00\x02" * 200_000
    yield "JPEG with 60,000 bytes of fill", b"\xff\xd8" + b"\xff" * 60_000 + b"\xd9"
    yield (
        "GIF of 65,535 x 65,535",
        b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    )
    yield "GIF with 5,000 frames", moving_gif(5000)
    yield "WebP of 16,383 x 16,383", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xfe\x3f\0\xfe\x3f\0VP8L\0\0\0\0"
    yield "11 MiB", b"\xff\xd8\xff" + b"\0" * (11 * 2**20)
    for kind in (
        "TIFF",
        "BMP",
        "PPM",
        "ICO",
        "PCX",
        "TGA",
        "SGI",
        "EPS",
        "PDF",
        "JPEG2000",
        "AVIF",
        "DDS",
        "IM",
        "XBM",
    ):
        buffer = io.BytesIO()
        try:
            Image.new("1" if kind == "XBM" else "RGB", (64, 64)).save(buffer, kind)
        except (OSError, KeyError):  # this Pillow cannot write it
            continue
        yield f"{kind} named .jpg", buffer.getvalue()
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'
    yield "a page", b"<!doctype html><script>alert(1)</script>"
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."
    yield "an archive", b"PK\x03\x04" + b"\0" * 400
    yield "a bomb in gzip", zlib.compress(b"\0" * 10**7)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_head(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_bomb(width: int, height: int) -> bytes:
    packer, packed, line = zlib.compressobj(9), bytearray(), b"\0" * (1 + 3 * width)
    for _ in range(height):
        packed += packer.compress(line)
    packed += packer.flush()
    return png_head(width, height) + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")


def png_with_text(size: int) -> bytes:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * size, 9))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" * 25) * 8))
    return png_head(8, 8) + text + pixels + chunk(b"IEND", b"")


def many_scans(scans: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last scan is said again and again."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 40, 10)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def hidden_scans(scans: int) -> bytes:
    """A restart marker has become the head of a segment that holds all further scans; libjpeg steps over the head."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 40, 10)).save(buffer, "JPEG", progressive=True, restart_marker_rows=1)
    data = buffer.getvalue()
    restart, last = data.index(b"\xff\xd0"), data.rindex(b"\xff\xda")
    hidden = data[restart + 2 : last] + data[last:-2] * scans
    return data[:restart] + b"\xff\x02" + struct.pack(">H", len(hidden) + 2) + hidden + data[-2:]


def two_pictures() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 40, 10)).save(
        buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))]
    )
    return buffer.getvalue()


def jpeg_sized(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def moving_gif(frames: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (4, 4)).save(buffer, "GIF")
    data = buffer.getvalue()
    at = data.index(b",")
    return data[:at] + data[at:-1] * frames + b";"
