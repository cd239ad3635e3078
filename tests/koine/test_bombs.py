"""Hostile files cost little memory, and the limits leave what usual programs write alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.bombs import MAX_JPEG_SCANS, refuse_bombs
from koine.errors import ImageError
from koine.images import decode_image
from tests.koine import hostile
from tests.koine.hostile import encoded

MEMORY_MB = 50
MEASURE = """
import io, json, sys, warnings
from PIL import Image
from koine.errors import ImageError
from koine.images import FORMATS, decode_image

def peak_mb():  # not `getrusage`: its peak begins at what the parent process had
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

warnings.simplefilter("ignore")
for name in FORMATS:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, name)
    decode_image(buffer.getvalue())
data = open(sys.argv[1], "rb").read()
before, message = peak_mb(), None
try:
    decode_image(data)
except ImageError as error:
    message = str(error)
print(json.dumps([peak_mb() - before, message]))
"""
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells the peak")


def cost(data: bytes, folder: Path) -> tuple[float, str | None]:
    """Megabytes that decoding took at most, and the message of the refusal."""
    file = folder / "bomb"
    file.write_bytes(data)
    words = [sys.executable, "-c", MEASURE, str(file)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    megabytes, message = json.loads(ran.stdout)
    return megabytes, message


@linux
@pytest.mark.parametrize("name", hostile.SIZES)
def test_pixels_beyond_the_limit_cost_no_memory(name: str, tmp_path: Path) -> None:
    megabytes, message = cost(hostile.SIZES[name](), tmp_path)
    assert message is not None
    assert "at most 64,000,000 are read; shrink it" in message
    assert megabytes < MEMORY_MB


@linux
@pytest.mark.parametrize("name", hostile.STRUCTURES)
def test_costly_structures_are_refused(name: str, tmp_path: Path) -> None:
    make, expected = hostile.STRUCTURES[name]
    megabytes, message = cost(make(), tmp_path)
    assert message is not None
    assert expected in message
    assert "send" in message
    assert megabytes < MEMORY_MB


@linux
@pytest.mark.parametrize("name", hostile.HARMLESS)
def test_hostile_metadata_costs_no_memory(name: str, tmp_path: Path) -> None:
    megabytes, message = cost(hostile.HARMLESS[name](), tmp_path)
    assert message is None
    assert megabytes < MEMORY_MB


@linux
def test_the_measure_sees_what_pixels_cost(tmp_path: Path) -> None:
    megabytes, message = cost(encoded(Image.new("1", (5000, 5000)), "PNG"), tmp_path)
    assert message is None
    assert megabytes > 90  # 25 million pixels of 4 bytes


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_progressive_images_are_read(mode: str) -> None:
    data = hostile.jpeg_scans(0, mode)
    assert data.count(b"\xff\xda") > 5
    assert decode_image(data).size == (64, 64)


def test_scans_are_counted_to_the_limit() -> None:
    first = hostile.jpeg_scans(0).count(b"\xff\xda")
    assert decode_image(hostile.jpeg_scans(MAX_JPEG_SCANS - first)).size == (64, 64)
    with pytest.raises(ImageError, match="32 scans"):
        decode_image(hostile.jpeg_scans(MAX_JPEG_SCANS - first + 1))


def test_scans_of_pictures_behind_the_first_do_not_count() -> None:
    assert decode_image(hostile.jpeg_scans(0) + b"\xff\xda" * 1000).size == (64, 64)
    further = hostile.jpeg_scans(0) * 20
    assert decode_image(further).size == (64, 64)


def test_a_scan_for_each_channel_is_read() -> None:
    assert decode_image(hostile.jpeg_sequential_scans(0)).size == (64, 64)


def test_baseline_pixels_are_not_searched_for_scans() -> None:
    data = encoded(Image.new("RGB", (64, 64)), "JPEG")
    refuse_bombs(data[:-2] + b"\xff\xda" * 1000)  # libjpeg stops after the first scan


def test_sixteen_segments_of_exif_are_read() -> None:
    parts = b"".join(hostile.segment(0xE1, b"Exif\0\0" + bytes(10)) for _ in range(16))
    assert decode_image(hostile.jpeg(parts)).size == (16, 16)


def test_tiffs_of_strips_tiles_and_planes_are_read() -> None:
    assert decode_image(hostile.tiff_strips(2)).size == (8, 8)
    layout = hostile.tiff_grey(40, 20) | {322: 32, 323: 32, 324: (2, 8 + 1024), 325: (2, 1032)}
    offsets = np.array([8, 8, 1024, 1024], "<u4").tobytes()
    assert decode_image(hostile.tiff(layout, bytes(1024) + offsets)).size == (40, 20)
    planes = hostile.tiff_grey(8, 8) | {258: (3, 8), 262: 2, 277: 3, 284: 2, 278: 1}
    places = np.array([8, 8, 8] + [8] * 24 + [8] * 24, "<u4").tobytes()
    planes |= {273: (24, 20), 279: (24, 116)}
    assert decode_image(hostile.tiff(planes, places)).size == (8, 8)


def test_run_length_coded_bmps_are_read() -> None:
    assert decode_image(hostile.bmp(4, 2, 1, b"\4\1\0\0\4\2\0\1")).size == (4, 2)


def test_big_endian_big_tiffs_are_refused() -> None:
    with pytest.raises(ImageError, match="big-endian BigTIFF is not read"):
        decode_image(b"MM\0+\0\x08\0\0" + bytes(100))


def test_a_tiff_with_two_widths_is_refused() -> None:
    data = bytearray(hostile.tiff_strips(2))
    place = data.index(bytes((1, 1, 4, 0)))  # tag 257, LONG
    data[place : place + 2] = bytes((0, 1))
    with pytest.raises(ImageError, match="tag 256 twice"):
        decode_image(bytes(data))


@pytest.mark.parametrize("name", [*hostile.STRUCTURES, "small TIFF"])
def test_no_place_to_break_off_raises_another_error(name: str) -> None:
    data = hostile.STRUCTURES.get(name, (lambda: hostile.tiff_strips(2), ""))[0]()[:3000]
    for end in range(len(data)):
        with contextlib.suppress(ImageError):
            refuse_bombs(data[:end])
