"""What a small file would make its decoder spend, read from its structure; decodes nothing.

Pillow holds the size of an image against a limit, but its parsers and libjpeg follow the rest of a
file as far as it goes: thousands of scans, segments, chunks, tags and strips. Each limit here is
far above what cameras, browsers and editors write. A file whose structure breaks off is left to
Pillow, which says what is wrong with it; WebP is too, since libwebp reads no more than one frame.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from koine.errors import ImageError

MAX_SEGMENTS = 1024
"""Of a JPEG before its pixels, 64 kB each, and chunks of a small PNG; Pillow keeps them all, at up
to 30 times their bytes."""
MAX_JPEG_EXIF_SEGMENTS = 16
"""Pillow joins them one by one, which takes the square of their number."""
MAX_JPEG_SCANS = 32
"""Encoders write 10 for colour and 18 for CMYK; each costs a pass over the whole image."""
MAX_STRAY_BYTES = 65_536
"""Between JPEG segments; Pillow steps over them one at a time."""
MAX_PNG_COMPRESSED_TEXTS = 8
"""Each grows to 1 MB, and to 4 MB as a Python string."""
MAX_GIF_BLOCKS = 65_536
"""Of metadata before the first frame: 16 MB where they are full."""
MAX_TIFF_TAGS = 4096
MAX_TIFF_STRIPS = 65_536
"""Strips or tiles; Pillow makes a Python object of each, some 300 bytes for 4 in the file."""
MAX_TIFF_TILE_PIXELS = 2**22
"""Of one tile, where the image itself is smaller: libtiff decodes tiles whole."""
MAX_RLE_PIXELS = 4_000_000
MAX_RLE_BYTES = 8_000_000
"""Of a run-length coded BMP, which Pillow decodes in Python, at a tenth of a microsecond each."""

_JPEG_BARE = frozenset({0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
"""Markers that Pillow steps over without reading a length."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_TIFF_SIZES = (256, 257, 322, 323)
_TIFF_LAYOUT = frozenset({256, 257, 273, 277, 278, 284, 322, 323, 324})
_TIFF_UNITS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}


def refuse_bombs(data: bytes) -> None:
    """Raise ImageError where the file's structure would cost far more than its pixels do."""
    if data.startswith(b"\xff\xd8\xff"):
        _jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _png(data)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        _gif(data)
    elif data.startswith((b"II", b"MM")):
        _tiff(data)
    elif data.startswith(b"BM"):
        _bmp(data)


def _refusal(kind: str, what: str, limit: int) -> ImageError:
    return ImageError(
        f"the {kind} has more than {limit:,} {what}, which no usual program writes; save the "
        "image anew and send that"
    )


def _jpeg(data: bytes) -> None:
    """Count the segments before the first scan, and the scans where there may be several."""
    position, segments, exifs, stray, several, components = 2, 0, 0, 0, False, 0
    while (start := data.find(b"\xff", position)) >= 0:
        stray += start - position
        position = start + 1
        while data[position : position + 1] == b"\xff" and stray <= MAX_STRAY_BYTES:
            stray, position = stray + 1, position + 1
        if stray > MAX_STRAY_BYTES:
            raise _refusal("JPEG", "stray bytes between its segments", MAX_STRAY_BYTES)
        segments += 1
        if segments > MAX_SEGMENTS:
            raise _refusal("JPEG", "segments before its pixels", MAX_SEGMENTS)
        marker = data[position] if position < len(data) else 0
        position += 1
        if marker in _JPEG_BARE:
            continue
        body = position + 2
        if marker == 0xDA:
            if several or data[body : body + 1] != bytes((components,)):
                _jpeg_scans(data, position)
            return
        exifs += marker == 0xE1 and data.startswith(b"Exif\0\0", body)
        if exifs > MAX_JPEG_EXIF_SEGMENTS:
            raise _refusal("JPEG", "segments of EXIF", MAX_JPEG_EXIF_SEGMENTS)
        if marker in _JPEG_FRAMES and body + 5 < len(data):
            several, components = several or marker in _JPEG_PROGRESSIVE, data[body + 5]
        position += max(2, int.from_bytes(data[position:body], "big"))


def _jpeg_scans(data: bytes, position: int) -> None:
    """Count scans up to the end of the image; entropy-coded bytes hold no marker but restarts."""
    if data.count(b"\xff\xda", position) < MAX_JPEG_SCANS:
        return  # those of thumbnails and further pictures are among them
    scans, segments = 1, 0
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[0][1], found.end()
        if marker == 0xD9:
            return
        scans, segments = scans + (marker == 0xDA), segments + 1
        if scans > MAX_JPEG_SCANS or segments > MAX_SEGMENTS:
            raise _refusal("JPEG", "scans", MAX_JPEG_SCANS)
        if marker not in _JPEG_BARE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))


def _png(data: bytes) -> None:
    """Count the chunks that Pillow reads, and those that it decompresses in memory."""
    position, chunks, texts, animated, pixels = 8, 0, 0, False, False
    limit = MAX_SEGMENTS + len(data) // 1024  # encoders write IDAT chunks of 8 kB and more
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if name == b"IEND" or (name == b"fcTL" and animated and pixels):
            return
        animated, pixels = animated or name == b"acTL", pixels or name == b"IDAT"
        chunks += 1
        texts += name in (b"zTXt", b"iCCP")
        if name == b"iTXt":  # keyword, NUL, then 1 where it is compressed
            end = data.find(b"\0", position + 8, position + 8 + length)
            texts += end >= 0 and data[end + 1 : end + 2] == b"\x01"
        if chunks > limit:
            raise _refusal("PNG", "chunks for its size", limit)
        if texts > MAX_PNG_COMPRESSED_TEXTS:
            raise _refusal("PNG", "compressed texts", MAX_PNG_COMPRESSED_TEXTS)
        position += 12 + length


def _gif(data: bytes) -> None:
    """Count the blocks of extensions before the first frame."""
    flags = data[10] if len(data) > 10 else 0
    position, blocks = 13 + ((6 << (flags & 7)) if flags & 0x80 else 0), 0
    while position < len(data) and data[position] not in b",;":
        blocks += 1
        if data[position] == ord("!"):
            position += 2
            while position < len(data) and data[position] and blocks <= MAX_GIF_BLOCKS:
                position, blocks = position + 1 + data[position], blocks + 1
        position += 1
        if blocks > MAX_GIF_BLOCKS:
            raise _refusal("GIF", "blocks before its first frame", MAX_GIF_BLOCKS)


class _Tag(NamedTuple):
    kind: int
    values: int
    value: bytes


def _tiff(data: bytes) -> None:
    """Hold the first directory's strips and tiles against the image that they make up."""
    order = "<" if data.startswith(b"II") else ">"
    if data.startswith(b"MM\0+"):  # Pillow takes it for a small TIFF, libtiff for what it is
        raise ImageError("big-endian BigTIFF is not read; save the image anew and send that")
    tags = _tiff_tags(data, order)
    if any(tags[tag].values != 1 for tag in _TIFF_SIZES if tag in tags):
        raise ImageError("the TIFF's header is damaged: a size has several values; send it anew")
    width, height = (_tiff_value(tags, tag, order, 0) for tag in (256, 257))
    tile_width = _tiff_value(tags, 322, order, width)
    rows = _tiff_value(tags, 323, order, _tiff_value(tags, 278, order, height))
    if min(width, height, tile_width, rows) <= 0:
        return
    if 322 in tags and tile_width * rows > max(2 * width * height, MAX_TIFF_TILE_PIXELS):
        raise ImageError(
            f"the TIFF has tiles of {tile_width:,}×{rows:,} pixels for an image of "
            f"{width:,}×{height:,}; save the image anew and send that"
        )
    planes = _tiff_value(tags, 277, order, 1) if _tiff_value(tags, 284, order, 1) == 2 else 1
    needed = -(-width // tile_width) * -(-height // rows) * planes
    limit = min(max(needed, 64), MAX_TIFF_STRIPS)
    if max((tags[tag].values for tag in (273, 324) if tag in tags), default=0) > limit:
        raise _refusal("TIFF", "strips or tiles", limit)


def _tiff_tags(data: bytes, order: str) -> dict[int, _Tag]:
    """The tags of the first directory that decide on memory, as far as the file goes."""
    big = data[2:4] == b"+\0"
    offset_format, count_format, fields = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    entry = struct.Struct(order + fields)
    tags: dict[int, _Tag] = {}
    try:
        (position,) = struct.unpack_from(order + offset_format, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_format, data, position)
        if count > MAX_TIFF_TAGS:
            raise _refusal("TIFF", "tags", MAX_TIFF_TAGS)
        position += struct.calcsize(count_format)
        for i in range(count):
            tag, kind, number, value = entry.unpack_from(data, position + i * entry.size)
            if tag in tags:  # Pillow and libtiff might each take another one
                raise ImageError(f"the TIFF's header is damaged: tag {tag} twice; send it anew")
            if tag in _TIFF_LAYOUT:
                tags[tag] = _Tag(kind, number, value)
    except (struct.error, OverflowError):
        pass
    return tags


def _tiff_value(tags: dict[int, _Tag], tag: int, order: str, missing: int) -> int:
    if tag not in tags or tags[tag].kind not in _TIFF_UNITS:
        return missing
    unit = _TIFF_UNITS[tags[tag].kind]
    if struct.calcsize(unit) > len(tags[tag].value):
        return missing
    return int(struct.unpack_from(order + unit, tags[tag].value)[0])


def _bmp(data: bytes) -> None:
    """Bound run-length coded pixels: Pillow decodes those in Python."""
    if len(data) < 34 or int.from_bytes(data[14:18], "little") == 12:
        return
    width, height, _, _, compression = struct.unpack_from("<IiHHI", data, 18)
    pixels = width * abs(height)
    if compression in (1, 2) and (pixels > MAX_RLE_PIXELS or len(data) > MAX_RLE_BYTES):
        raise ImageError(
            f"the BMP is run-length coded and has {pixels:,} pixels in {len(data):,} bytes; at "
            f"most {MAX_RLE_PIXELS:,} in {MAX_RLE_BYTES:,} are read: send it as PNG"
        )
