"""Pictures are checked before they are decoded, decoded before they are kept, and shown as people see them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catalog import decoding, images
from catalog.images import Acceptance, ImageError, accept, open_rgb, store, verify
from catalog.models import Product
from tests.catalog.material import picture


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


BROKEN_FROM = {kind: saved(noise((24, 16)), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")}


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        verify(data)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_it_works(kind: str) -> None:
    data = picture((255, 255, 255), (60, 80), kind)
    verified = verify(data)
    assert (verified.format, verified.width, verified.height) == (kind, 60, 80)
    assert (verified.image.mode, verified.image.size) == ("RGB", (60, 80))
    assert verified.data is data
    assert len(verified.sha256) == 64


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_beginning_of_a_picture_is_taken_for_the_whole(kind: str) -> None:
    data = saved(noise(), kind)
    step = max(1, len(data) // 60)
    for end in [*range(1, len(data), step), len(data) - 1]:
        assert refusal(data[:end])


def test_a_cut_off_gif_and_progressive_jpeg_are_refused() -> None:
    gif, jpeg = saved(noise(), "GIF"), saved(noise(), "JPEG", progressive=True)
    assert refusal(gif[: len(gif) // 2])
    assert refusal(jpeg[: len(jpeg) // 2])


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_whatever_is_broken_is_a_picture_or_a_reason(kind: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(BROKEN_FROM[kind])
    for position, value in flips:
        data[position % len(data)] = value
    try:
        assert verify(bytes(data)).image.mode == "RGB"
    except ImageError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b'<?xml version="1.0"?><svg/>', "SVG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (saved(Image.new("RGB", (5, 5)), "TIFF"), "not a JPEG, PNG, WebP or GIF"),
        (bytes(decoding.MAX_BYTES + 1), "10 MiB"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str) -> None:
    assert words in refusal(data)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises many pixels and brings none: nothing may be decoded to find that out."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((10_001, 10), "10,000"),
        ((5001, 5000), "25 megapixels"),
        ((9000, 9990), "25 megapixels"),
        ((60_000, 60_000), "25 megapixels"),
    ],
)
def test_too_many_pixels_are_refused_before_decoding(size: tuple[int, int], words: str) -> None:
    assert words in refusal(png_header(*size))


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = saved(Image.new("L", (16, 16)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert verify(data)
    assert "scans" in refusal(data[:-2] + scan * 40 + data[-2:])


def test_scans_cannot_hide_behind_a_marker_that_libjpeg_steps_over() -> None:
    data = saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True, restart_marker_rows=1)
    restart, last = data.index(b"\xff\xd0"), data.rindex(b"\xff\xda")
    scans = data[restart + 2 : last] + data[last:-2] * 60
    assert verify(data)
    assert "scans" in refusal(data[: restart + 2] + scans + data[-2:])
    for marker in (0x02, 0x4F, 0xBF):
        segment = bytes([0xFF, marker]) + struct.pack(">H", len(scans) + 2)
        assert "damaged" in refusal(data[:restart] + segment + scans + data[-2:])


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_with_a_second_picture_behind_it_is_a_jpeg(options: dict[str, object]) -> None:
    """As telephones write portraits; Pillow calls them MPO."""
    first = noise((80, 60))
    data = saved(first, "MPO", save_all=True, append_images=[noise((32, 24))], **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, getattr(opened, "n_frames", 1)) == ("MPO", 2)
    verified = verify(data)
    assert (verified.format, verified.image.size) == ("JPEG", (80, 60))
    assert verified.image.tobytes() == verify(saved(first, "JPEG", **options)).image.tobytes()
    with Image.open(io.BytesIO(verified.data)) as kept:
        assert (kept.format, getattr(kept, "n_frames", 1)) == ("JPEG", 1)
    assert b"MPF\0" in data
    assert b"MPF\0" not in verified.data
    assert verified.data.count(b"\xff\xd8\xff") == 1


def test_the_scans_of_a_jpeg_with_a_second_picture_are_counted_too() -> None:
    frames = [Image.new("L", (16, 16)), Image.new("L", (16, 16))]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:], progressive=True)
    end = data.index(b"\xff\xd9")
    last = data.rindex(b"\xff\xda", 0, end)
    assert verify(data)
    assert "scans" in refusal(data[:end] + data[last:end] * 40 + data[end:])


def test_a_preview_inside_a_jpeg_is_not_mistaken_for_scans() -> None:
    data = saved(noise(), "JPEG", comment=b"\xff\xda" * 100 + b"\xff\xd9")
    assert verify(data).width == 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_stands_upright(orientation: int) -> None:
    # Red left, blue right, as people see it; written the way a camera held otherwise writes it.
    upright = Image.new("RGB", (40, 24), (255, 0, 0))
    upright.paste((0, 0, 255), (20, 0, 40, 24))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse Transpose of each orientation
    turned = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    verified = verify(saved(turned, "PNG", exif=exif))
    assert (verified.width, verified.height) == (40, 24)
    assert verified.image.getpixel((2, 12)) == (255, 0, 0)
    assert verified.image.getpixel((38, 12)) == (0, 0, 255)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert verify(saved(clear)).image.getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert verify(saved(palette, "GIF", transparency=0)).image.getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.array([[0, 32_768, 65_535]], dtype=np.uint16))
    pixels = np.asarray(verify(saved(grey)).image)[0, :, 0]
    assert pixels.tolist() == pytest.approx([0, 128, 255], abs=1)


def test_print_colours_become_screen_colours() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    r, g, b = verify(saved(red, "JPEG", quality=95)).image.getpixel((4, 4))  # type: ignore[misc]
    assert r > 240 and g < 15 and b < 15


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert verify(data).image.getpixel((3, 3)) == (255, 0, 0)


def test_open_rgb_reads_files_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(picture((1, 2, 3)))
    assert open_rgb(path).getpixel((0, 0)) == (1, 2, 3)
    with pytest.raises(ImageError, match="cannot be read"):
        open_rgb(tmp_path / "none")


def test_a_stored_picture_has_a_thumbnail_of_the_promised_size(data_dir: Path) -> None:
    stored = store(verify(saved(noise((1001, 333)), "JPEG")))
    product = Product(image_width=stored.width, image_height=stored.height)
    with Image.open(data_dir / "media" / stored.thumbnail) as thumbnail:
        assert thumbnail.format == "WEBP"
        assert thumbnail.size == product.thumbnail_size == (480, 160)
        assert "exif" not in thumbnail.info
    assert stored.image == f"images/{stored.sha256[:2]}/{stored.sha256}.jpg"


def test_storing_again_writes_nothing(data_dir: Path) -> None:
    verified = verify(picture())
    stored = store(verified)
    files = [data_dir / "media" / name for name in (stored.image, stored.thumbnail)]
    before = [file.stat().st_ino for file in files]
    assert store(verified) == stored
    assert [file.stat().st_ino for file in files] == before
    assert not list((data_dir / "media").rglob("*.part"))


@pytest.mark.django_db
def test_a_changed_picture_draws_a_row_and_the_same_one_does_not() -> None:
    product = Product.objects.create(product_id="1", title="x", image_error="HTTP 404.")
    red, blue = store(verify(picture((255, 0, 0)))), store(verify(picture((0, 0, 255))))
    assert accept([Acceptance(product.pk, red, "file:a")]) == {product.pk}
    product.refresh_from_db()
    first = product.embedding_row
    assert first is not None
    assert (product.image_error, product.image_source, product.image_width) == ("", "file:a", 60)
    assert accept([Acceptance(product.pk, red, "file:b")]) == set()
    product.refresh_from_db()
    assert (product.embedding_row, product.image_source) == (first, "file:b")
    accept([Acceptance(product.pk, blue, "file:c")])
    product.refresh_from_db()
    assert product.embedding_row is not None
    assert product.embedding_row > first


def test_a_large_jpeg_may_come_smaller_but_never_below_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(picture((10, 90, 200), (1080, 1440), "JPEG"))
    assert images.open_rgb(path).size == (1080, 1440)
    assert images.open_rgb(path, shorter_px=512).size == (540, 720)
    assert images.open_rgb(path, shorter_px=541).size == (1080, 1440)
    assert images.open_rgb(path, shorter_px=100).size == (135, 180)
    (tmp_path / "small.png").write_bytes(picture(size=(60, 80)))
    assert images.open_rgb(tmp_path / "small.png", shorter_px=512).size == (60, 80)
