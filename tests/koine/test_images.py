"""Decoding of every kind of image file, and golden pixels against open_clip and timm."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision.transforms import InterpolationMode, Resize

import koine.images
from koine.errors import ImageError
from koine.images import FORMATS, decode_image, preprocess_image
from koine.streams import ImagePreprocess

HALF = (0.5, 0.5, 0.5)
SIZES = [(224, 224), (256, 256), (1, 1), (640, 480), (481, 641), (37, 500), (500, 37), (255, 257)]
SIZES += [(225, 224), (300, 301), (2, 300), (1024, 1023)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise over a slope: every pixel differs, so that any shift or rounding shows."""
    noise = np.random.default_rng(width * 10_007 + height)
    pixels_HWC = noise.integers(0, 160, (height, width, 3))
    pixels_HWC += np.linspace(0, 95, width).astype(int)[None, :, None]
    return Image.fromarray(pixels_HWC.astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def spec(resize_size: int, crop_size: int, **fields: object) -> ImagePreprocess:
    return ImagePreprocess.model_validate(
        {"resize_size": resize_size, "crop_size": crop_size, "mean": HALF, "std": HALF, **fields}
    )


def without_normalising(transform: object) -> Callable[[Image.Image], np.ndarray]:
    """A library's own transform up to its ToTensor, as uint8 HWC."""
    steps = transform.transforms  # type: ignore[attr-defined]
    names = [type(step).__name__ for step in steps]
    steps = steps[: next(i for i, name in enumerate(names) if "ToTensor" in name)]

    def run(image: Image.Image) -> np.ndarray:
        for step in steps:
            image = step(image)
        return np.asarray(image)

    return run


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("side", [224, 63])
def test_pixels_are_open_clips(
    size: tuple[int, int], interpolation: str, resize: str, side: int
) -> None:
    theirs = image_transform_v2(
        PreprocessCfg(size=side, interpolation=interpolation, resize_mode=resize), is_train=False
    )
    image = picture(*size)
    ours = preprocess_image(image, spec(side, side, interpolation=interpolation, resize=resize))
    np.testing.assert_array_equal(ours, without_normalising(theirs)(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(("crop", "crop_pct"), [(224, 0.875), (224, 0.9), (75, 0.95), (64, 1.0)])
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_pixels_are_timms(
    size: tuple[int, int], interpolation: str, crop: int, crop_pct: float, crop_mode: str
) -> None:
    theirs = transforms_imagenet_eval(
        img_size=crop, crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation
    )
    resize = "squash" if crop_mode == "squash" else "shortest"
    ours = spec(int(crop / crop_pct), crop, interpolation=interpolation, resize=resize)
    image = picture(*size)
    np.testing.assert_array_equal(preprocess_image(image, ours), without_normalising(theirs)(image))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    crop=st.integers(1, 90),
    margin=st.integers(0, 40),
)
def test_pixels_are_timms_for_any_size(width: int, height: int, crop: int, margin: int) -> None:
    from torchvision.transforms import CenterCrop

    image = picture(width, height)
    resized = Resize(crop + margin, interpolation=InterpolationMode.BICUBIC)(image)
    np.testing.assert_array_equal(
        preprocess_image(image, spec(crop + margin, crop)), np.asarray(CenterCrop(crop)(resized))
    )


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "YCbCr"])
def test_other_modes_are_converted_as_the_libraries_convert(mode: str) -> None:
    image = picture(60, 40).convert("L").convert(mode) if mode == "LA" else picture(60, 40, mode)
    file_format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    data = encoded(image, file_format)
    with Image.open(io.BytesIO(data)) as reference:
        np.testing.assert_array_equal(
            np.asarray(decode_image(data)), np.asarray(reference.convert("RGB"))
        )


def test_cmyk_jpeg_keeps_its_colours() -> None:
    red = Image.new("RGB", (32, 32), (200, 30, 40)).convert("CMYK")
    decoded = np.asarray(decode_image(encoded(red, "JPEG", quality=95))).astype(int)
    assert np.abs(decoded - [200, 30, 40]).max() <= 6  # JPEG's loss at quality 95


@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "JPEG"])
def test_each_lossless_format_gives_its_pixels(file_format: str) -> None:
    image = picture(20, 14, "P").convert("RGB")  # GIF holds 256 colours
    options = {"lossless": True} if file_format == "WEBP" else {}
    source = image.convert("P", palette=Image.Palette.ADAPTIVE) if file_format == "GIF" else image
    np.testing.assert_array_equal(
        np.asarray(decode_image(encoded(source, file_format, **options))),
        np.asarray(source.convert("RGB")),
    )


def test_transparent_palette_drops_alpha_without_a_warning() -> None:
    image = picture(16, 16, "P")
    data = encoded(image, "PNG", transparency=bytes(range(256)))
    np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(file_format: str) -> None:
    grey_HW = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)
    decoded = np.asarray(decode_image(encoded(Image.fromarray(grey_HW), file_format)))
    np.testing.assert_array_equal(decoded, np.repeat((grey_HW >> 8)[..., None], 3, axis=2))
    assert np.unique(decoded).size > 200


def test_sixteen_bit_rgb_keeps_its_high_byte() -> None:
    import struct
    import zlib

    row = struct.pack(">B6H", 0, 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0x00FF, 0x0100)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert np.asarray(decode_image(data)).tolist() == [[[0x12, 0x56, 0x9A], [0xFF, 0x00, 0x01]]]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as reference:
        assert getattr(reference, "n_frames", 1) == 3
    decoded = decode_image(data)
    assert decoded.size == (12, 9)
    assert decoded.getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste("red", (0, 0, 16, 16))  # the corner tells all eight apart with the sides
    upright.paste("blue", (32, 16, 48, 32))
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright if orientation == 1 else upright.transpose(inverse[orientation])  # type: ignore[arg-type]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"exif": exif}
    options |= {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        file_format, {}
    )
    decoded = decode_image(encoded(stored, file_format, **options))
    assert decoded.size == (48, 32)
    difference = np.asarray(decoded).astype(int) - np.asarray(upright).astype(int)
    assert np.abs(difference).max() <= 8  # JPEG's loss; a wrong corner differs by 255


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_unreadable_exif_leaves_the_image_as_it_is() -> None:
    image = picture(10, 6)
    data = encoded(image, "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(image))


def test_one_pixel_becomes_a_whole_square() -> None:
    data = encoded(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG")
    pixels = preprocess_image(decode_image(data), spec(256, 224))
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == [10, 20, 30]).all()
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


def message(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, **options)
    return str(caught.value)


def test_bytes_that_are_no_image_are_refused_by_name() -> None:
    assert "empty (0 bytes); send" in message(b"")
    text = message(b"this is a text file called photo.jpg\n")
    assert "37 bytes that begin with b'this is '" in text
    assert "send JPEG, PNG, WEBP, GIF, TIFF or BMP" in text
    svg = message(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert "no image of a known format" in svg
    eps = message(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "no image of a known format" in eps


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.95, 0.5])
def test_truncated_images_are_refused(file_format: str, part: float) -> None:
    data = encoded(picture(90, 70), file_format)
    assert "send the whole file" in message(data[: int(len(data) * part)])


def test_a_truncated_jpeg_says_what_came() -> None:
    data = encoded(picture(90, 70), "JPEG")[:3000]
    text = message(data)
    assert "the JPEG image (90×70, 3,000 bytes) is truncated or damaged" in text


def test_a_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 200_000
    text = message(bomb)
    assert "more than 89,478,485 pixels and at most 64,000,000 are read; shrink it" in text
    large = encoded(picture(100, 80), "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    assert "has 100×80 pixels and at most 7,999 are read; shrink it" in message(
        large, max_pixels=7_999
    )


def test_the_limit_itself_is_allowed() -> None:
    assert decode_image(encoded(picture(100, 80), "PNG"), max_pixels=8_000).size == (100, 80)


def test_pixels_without_an_agreed_range_are_refused() -> None:
    floats = Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32))
    assert "32-bit pixels (mode F)" in message(encoded(floats, "TIFF"))


def test_preprocessing_refuses_undecoded_modes() -> None:
    with pytest.raises(ImageError, match="got mode L; decode it first"):
        preprocess_image(picture(8, 8, "L"), spec(8, 8))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2, 9001), (9001, 33)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_huge_aspects_stay_small_and_true(
    size: tuple[int, int], interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(*size)
    wanted = spec(20, 16, interpolation=interpolation)
    whole = preprocess_image(image, wanted).astype(int)
    monkeypatch.setattr(koine.images, "MAX_RESIZED_PIXELS", 1000)
    kept = preprocess_image(image, wanted).astype(int)
    assert np.abs(kept - whole).max() <= 1  # Pillow's box is float32
    assert whole.std() > 5


def test_a_long_strip_is_preprocessed_within_bounds() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = preprocess_image(picture(1, 60_000), spec(256, 224))
    assert pixels.shape == (224, 224, 3)
    # Resized whole it would take 256 × 15,360,000 pixels, 15 GB; the peak is in kB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@settings(max_examples=300, deadline=None)
@given(
    file_format=st.sampled_from(FORMATS),
    place=st.floats(0, 1, exclude_max=True),
    patch=st.binary(min_size=1, max_size=12),
)
def test_damaged_bytes_raise_no_other_error(file_format: str, place: float, patch: bytes) -> None:
    data = bytearray(encoded(picture(23, 17), file_format))
    start = int(place * len(data))
    data[start : start + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        try:
            image = decode_image(bytes(data), max_pixels=1_000_000)
        except ImageError as error:
            assert "send" in str(error)  # noqa: PT017 - most examples raise nothing
        else:
            assert image.mode == "RGB"
