"""A picture's file without what says more than the picture: where it was taken, by whom, with what, and what came
before it was cropped.

Only what decoding needs is copied (pixels, palettes, transparency, colour profiles, frames), byte for byte, so that
nothing is lost by encoding again; which way is up is written anew. All else is left out: EXIF with its place and
preview, XMP, IPTC, comments, whatever stands behind the end (a second picture, too).

Sources: ITU-T T.81 (JPEG), the PNG Specification (3rd edition), Google's WebP container, GIF89a.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from catalog.decoding import DAMAGED, EXIF_ORIENTATION, JPEG_MARKER, UNKNOWN, Refused

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD")
)
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))
_WEBP_HAS_EXIF, _WEBP_HAS_XMP = 0x08, 0x04
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


def stripped(kind: str, data: bytes, orientation: int = 1) -> bytes:
    """The same picture without metadata; the very same object where it has none. `kind` as `decoding.decode` says.

    Raises Refused where the file is built in a way that nobody can follow.
    """
    kept_of = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif}.get(kind)
    if kept_of is None:
        raise Refused(UNKNOWN)
    try:
        kept = b"".join(kept_of(data, orientation))
    except (IndexError, struct.error, StopIteration) as error:
        raise Refused(DAMAGED) from error
    return data if kept == data else kept


def _jpeg(data: bytes, orientation: int) -> Iterator[bytes]:
    yield data[:2]
    if orientation != 1:
        body = b"Exif\0\0" + _tiff(orientation)
        yield b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    position, in_scan = 2, False
    while found := JPEG_MARKER.search(data, position):
        if in_scan:
            yield data[position : found.start()]
        marker, begin = found[0][1], found.start()
        position = found.end()
        if marker == 0xD9:
            yield found[0]
            return
        if marker in (0x01, 0xD8):
            continue
        length = max(2, int.from_bytes(data[position : position + 2], "big"))
        body = data[position + 2 : position + length]
        position += length
        if _is_kept_of_jpeg(marker, body):
            yield data[begin:position]
        # A scan's data run on behind what stands between its packets, as decoders read them.
        in_scan = marker == 0xDA or (in_scan and not _is_kept_of_jpeg(marker, body))
    raise IndexError


def _is_kept_of_jpeg(marker: int, body: bytes) -> bool:
    if marker == 0xE0:
        return body.startswith(b"JFIF\0")
    if marker == 0xE2:
        return body.startswith(b"ICC_PROFILE\0")
    if marker == 0xEE:
        return body.startswith(b"Adobe")  # how its colours are to be read
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _png(data: bytes, orientation: int) -> Iterator[bytes]:
    yield _PNG_SIGNATURE
    position = len(_PNG_SIGNATURE)
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise IndexError
        if name in _PNG_KEPT:
            yield data[position:end]
        if name == b"IHDR" and orientation != 1:
            body = _tiff(orientation)
            yield struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        if name == b"IEND":
            return
        position = end
    raise IndexError


def _webp(data: bytes, orientation: int) -> Iterator[bytes]:
    chunks = list(_webp_chunks(data))
    extended = next((at for at, (name, _body) in enumerate(chunks) if name == b"VP8X"), None)
    if extended is not None:
        flags = bytearray(chunks[extended][1])
        flags[0] &= ~(_WEBP_HAS_EXIF | _WEBP_HAS_XMP)
        if orientation != 1:
            flags[0] |= _WEBP_HAS_EXIF
            chunks.append((b"EXIF", _tiff(orientation)))
        chunks[extended] = (b"VP8X", bytes(flags))
    content = b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        for at, (name, body) in enumerate(chunks)
        if name in _WEBP_KEPT or (name == b"EXIF" and orientation != 1 and at == len(chunks) - 1)
    )
    yield b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position, end = 12, min(len(data), int.from_bytes(data[4:8], "little") + 8)
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            raise IndexError
        yield name, body
        position += 8 + length + length % 2


def _gif(data: bytes, _orientation: int) -> Iterator[bytes]:
    position = 13 + _gif_colours(data[10])
    yield data[:position]
    while position < len(data):
        begin, block = position, data[position]
        if block == 0x3B:
            break
        if block == 0x2C:
            position = _gif_blocks_end(data, begin + 11 + _gif_colours(data[begin + 9]))
            yield data[begin:position]
        elif block == 0x21:
            label, length = data[begin + 1], data[begin + 2]
            position = _gif_blocks_end(data, begin + 2)
            if label == 0xF9 or (label == 0xFF and data[begin + 3 : begin + 3 + length] in _GIF_LOOPS):
                yield data[begin:position]
        else:
            position += 1  # decoders step over what is no block
    yield b"\x3b"


def _gif_colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks_end(data: bytes, position: int) -> int:
    """Behind the blocks that begin there, each with its length before it, the last of none."""
    while position < len(data) and (length := data[position]):
        position += 1 + length
    return position + 1


def _tiff(orientation: int) -> bytes:
    """EXIF that says which way is up, and no more."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, EXIF_ORIENTATION, 3, 1, orientation, 0, 0)
