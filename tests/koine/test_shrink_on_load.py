"""JPEGs decoded at a fraction of their size, and decoding that copies nothing it need not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from koine.images import decode_image, preprocess_image
from koine.streams import ImagePreprocess
from tests.koine.hostile import encoded

HALF = (0.5, 0.5, 0.5)


def photograph(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Edges, slopes and grain down to single pixels, of a photograph's contrast."""
    rng = np.random.default_rng(width + height)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    patches = Image.fromarray(rng.integers(0, 255, (height // 60, width // 60, 3), dtype=np.uint8))
    pixels_HWC = np.asarray(coarse.resize((width, height)), float) * 0.6
    pixels_HWC += np.asarray(patches.resize((width, height), Image.Resampling.NEAREST)) * 0.3
    pixels_HWC += rng.normal(12, 6, (height, width, 3))
    return Image.fromarray(pixels_HWC.clip(0, 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("keep_side", "size"),
    [(None, (640, 480)), (481, (640, 480)), (241, (640, 480)), (240, (320, 240)),
     (121, (320, 240)), (120, (160, 120)), (60, (80, 60)), (1, (80, 60)), (0, (80, 60))],
)  # fmt: skip
@pytest.mark.parametrize("progressive", [False, True])
def test_the_shorter_side_keeps_what_is_asked(
    keep_side: int | None, size: tuple[int, int], progressive: bool
) -> None:
    for picture in (photograph(640, 480), photograph(640, 480, "L"), photograph(640, 480, "CMYK")):
        data = encoded(picture, "JPEG", progressive=progressive)
        decoded = decode_image(data, keep_side=keep_side)
        assert (decoded.size, decoded.mode) == (size, "RGB")
        if size == (640, 480):
            assert decoded.tobytes() == decode_image(data).tobytes()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((641, 480), (641, 480)), ((642, 480), (321, 240)), ((644, 484), (161, 121))],
)
def test_only_whole_fractions_are_taken(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert decode_image(encoded(photograph(*size), "JPEG"), keep_side=60).size == expected


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_other_formats_are_decoded_whole(file_format: str) -> None:
    data = encoded(photograph(640, 480), file_format)
    assert decode_image(data, keep_side=60).tobytes() == decode_image(data).tobytes()


def test_a_shrunk_image_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(photograph(640, 480), "JPEG", exif=exif)
    whole, shrunk = decode_image(data), decode_image(data, keep_side=240)
    assert (whole.size, shrunk.size) == ((480, 640), (240, 320))
    difference = np.asarray(whole.resize((240, 320), Image.Resampling.BOX), float) - shrunk
    assert np.abs(difference).mean() < 2


def test_the_limit_of_pixels_is_that_of_the_whole_image() -> None:
    from koine.errors import ImageError

    with pytest.raises(ImageError, match="640×480 pixels and at most 300,000"):
        decode_image(encoded(photograph(640, 480), "JPEG"), max_pixels=300_000, keep_side=60)


@pytest.mark.parametrize(("factor", "mean", "peak"), [(4, 0.5, 10), (2, 1.5, 20)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("scale", [2, 4])
def test_pixels_stay_near_those_of_the_whole_image(
    scale: int, factor: int, mean: float, peak: int, interpolation: str
) -> None:
    """Tolerances: about twice what real photographs showed (docs/log.md, 2026-11-24)."""
    spec = ImagePreprocess.model_validate(
        {"resize_size": 64, "crop_size": 56, "interpolation": interpolation,
         "mean": HALF, "std": HALF}
    )  # fmt: skip
    side = scale * factor * 64
    data = encoded(photograph(side + 128, side), "JPEG", quality=90)
    shrunk = decode_image(data, keep_side=factor * 64)
    assert shrunk.height == side // scale
    difference = preprocess_image(decode_image(data), spec).astype(int)
    difference -= preprocess_image(shrunk, spec)
    assert 0 < np.abs(difference).mean() <= mean
    assert np.abs(difference).max() <= peak


@pytest.mark.parametrize("orientation", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_are_those_of_pillows_own_transposing(
    file_format: str, orientation: int | None
) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    data = encoded(photograph(150, 90), file_format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    decoded = decode_image(data)
    assert decoded.size == expected.size
    assert decoded.tobytes() == expected.tobytes()


def test_an_upright_image_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photograph(150, 90), "JPEG")
    monkeypatch.setattr(Image.Image, "copy", lambda self: pytest.fail("the image was copied"))
    assert decode_image(data).size == (150, 90)
