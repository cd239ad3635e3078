"""Small files that would cost a careless decoder gigabytes or minutes; all made here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def jpeg(segments: bytes = b"", *, size: int | None = None) -> bytes:
    """A JPEG of 16×16 pixels with further segments; `size`: what its header claims."""
    data = encoded(Image.new("RGB", (16, 16)), "JPEG")
    if size is not None:
        data = data.replace(struct.pack(">HH", 16, 16), struct.pack(">HH", size, size), 1)
    return data[:2] + segments + data[2:]


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, len(body) + 2) + body


def jpeg_scans(extra: int, mode: str = "L", side: int = 64) -> bytes:
    """A progressive JPEG whose last scan is there `extra` times more."""
    image = Image.new("L", (side, side), 128).convert(mode)
    data = encoded(image, "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * extra + data[-2:]


def jpeg_sequential_scans(extra: int) -> bytes:
    """A baseline JPEG with a scan for each channel, which libjpeg collects just as well."""
    data = encoded(Image.new("L", (64, 64), 128), "JPEG")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    channels = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    three = segment(0xC0, data[frame + 4 : frame + 9] + b"\x03" + channels)
    after = frame + 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")
    pixels = data[scan + 10 : -2]  # 2 of marker, 2 of length, 6 for one channel
    one = [segment(0xDA, bytes((1, number, 0, 0, 63, 0))) + pixels for number in (1, 2, 3)]
    return data[:frame] + three + data[after:scan] + b"".join(one) + one[2] * extra + data[-2:]


def exif_overlap(total: int) -> bytes:
    """EXIF whose tags all hold the same bytes: read one by one they are a million times those."""
    tags = min(65_535, total // 24)
    entries = (struct.pack("<HHII", tag, 1, total // 2, total // 2) for tag in range(tags))
    return (b"II*\0" + struct.pack("<IH", 8, tags) + b"".join(entries)).ljust(total, b"\0")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of 8×8 pixels with further chunks before and after its pixels."""
    rows = zlib.compress((b"\0" + b"\0" * 24) * 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = header + before + chunk(b"IDAT", rows) + after
    return b"\x89PNG\r\n\x1a\n" + pixels + chunk(b"IEND", b"")


def png_texts(count: int) -> bytes:
    """Compressed texts; the one wide character makes Python keep 4 bytes for each."""
    text = zlib.compress(b"a" * 1_000_000 + "😀".encode())
    return b"".join(chunk(b"iTXt", b"key%d\0\1\0\0\0" % n + text) for n in range(count))


def gif(extensions: bytes = b"", *, screen: int = 8, frame: int = 1) -> bytes:
    header = b"GIF89a" + struct.pack("<HH", screen, screen) + b"\x80\0\0" + b"\0" * 6
    image = b"," + struct.pack("<HHHH", 0, 0, frame, frame) + b"\0\x02\x02\x44\x01\0;"
    return header + extensions + image


def webp(canvas: int) -> bytes:
    """An animation of two 8×8 frames on a canvas of that side."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    side = (canvas - 1).to_bytes(3, "little")
    return data[:24] + side + side + data[30:]


def tiff(tags: dict[int, int | tuple[int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF: `data` at byte 8, then the directory; a pair is count and offset."""
    entries = b""
    for tag, value in sorted(tags.items()):
        count, number = value if isinstance(value, tuple) else (1, value)
        entries += struct.pack("<HHII", tag, 4, count, number)
    directory = struct.pack("<H", len(tags)) + entries + b"\0" * 4
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def tiff_grey(width: int, height: int, compression: int = 1) -> dict[int, int | tuple[int, int]]:
    return {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1}


def tiff_strips(count: int, *, rows: int = 4) -> bytes:
    """An 8×8 grey image with `count` strips, which all lie at the same place."""
    pixels, offsets = b"\0" * 8 * rows, struct.pack("<I", 8) * count
    counts = struct.pack("<I", 8 * rows) * count
    layout = {278: rows, 273: (count, 8 + len(pixels))}
    layout |= {279: (count, 8 + len(pixels) + len(offsets))}
    return tiff(tiff_grey(8, 8) | layout, pixels + offsets + counts)


def tiff_tile(side: int) -> bytes:
    """A 64×64 image in one tile of `side`², deflated."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    layout = {322: side, 323: side, 324: 8, 325: len(body)}
    return tiff(tiff_grey(64, 64, compression=8) | layout, body)


def tiff_overlap(tags: int) -> bytes:
    blob = bytes(tags * 12)
    layout = {273: 8, 278: 8, 279: 64} | {1000 + n: (len(blob) // 4, 8) for n in range(tags)}
    return tiff(tiff_grey(8, 8) | layout, blob)


def bmp(width: int, height: int, compression: int, body: bytes) -> bytes:
    start = 54 + 1024
    header = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
    header += struct.pack("<IiiHHI", 40, width, height, 1, 8, compression)
    header += struct.pack("<IIIII", len(body), 0, 0, 256, 0)
    return header + bytes(1024) + body


SIZES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: jpeg(size=65_500),
    "PNG": lambda: encoded(Image.new("1", (10_000, 10_000)), "PNG"),
    "WEBP": lambda: webp(60_000),
    "GIF screen": lambda: gif(screen=65_535),
    "GIF frame": lambda: gif(frame=65_535),
    "TIFF": lambda: tiff(tiff_grey(60_000, 60_000) | {273: 8, 278: 60_000, 279: 64}, bytes(64)),
    "BMP": lambda: bmp(60_000, 60_000, 0, b""),
}
"""Pixels beyond the limit, by the header."""
STRUCTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG segments": (lambda: jpeg(segment(0xFE, b"") * 300_000), "1,024 segments"),
    "JPEG EXIF": (lambda: jpeg(segment(0xE1, b"Exif\0\0ab") * 1000), "16 segments of EXIF"),
    "JPEG stray bytes": (lambda: jpeg(b"\xff" * 100_000), "65,536 stray bytes"),
    "JPEG scans": (lambda: jpeg_scans(1000, side=1000), "32 scans"),
    "JPEG sequential scans": (lambda: jpeg_sequential_scans(1000), "32 scans"),
    "PNG texts": (lambda: png(png_texts(64)), "8 compressed texts"),
    "PNG texts after": (lambda: png(after=png_texts(64)), "8 compressed texts"),
    "PNG profile": (
        lambda: png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20_000_000)))),
        "header is damaged",
    ),
    "PNG chunks": (lambda: png(chunk(b"prVt", b"") * 300_000), "chunks for its size"),
    "GIF blocks": (lambda: gif(b"!\xfe" + b"\1a" * 2_000_000 + b"\0"), "65,536 blocks"),
    "GIF extensions": (lambda: gif(b"!\xfe\0" * 1_000_000), "65,536 blocks"),
    "TIFF strips": (lambda: tiff_strips(300_000), "64 strips"),
    "TIFF tile": (lambda: tiff_tile(10_000), "tiles of 10,000×10,000 pixels for an image of"),
    "TIFF tags": (lambda: tiff_overlap(20_000), "4,096 tags"),
    "BMP runs": (lambda: bmp(60_000_000, 1, 1, b"\1\0\0\0"), "60,000,000 pixels in"),
}
"""Within the limit of pixels, and refused for the rest, with what the message says."""
HARMLESS: dict[str, Callable[[], bytes]] = {
    "JPEG EXIF": lambda: jpeg(segment(0xE1, b"Exif\0\0" + exif_overlap(60_000))),
    "PNG EXIF": lambda: png(chunk(b"eXIf", exif_overlap(1_000_000))),
    "PNG texts": lambda: png(png_texts(8)),
    "TIFF tags": lambda: tiff_overlap(4000),
    "WEBP frames": lambda: encoded(
        Image.new("RGB", (200, 200)),
        "WEBP",
        save_all=True,
        append_images=[Image.new("RGB", (200, 200), (n % 256, 0, 0)) for n in range(400)],
    ),
}
"""Hostile too, and decoded: they must not cost more for it."""
