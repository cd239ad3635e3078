"""Which streams get a localiser, and what the others are told."""

import pytest

from training.demo.streams import ENCODERS, STREAMS
from training.encoders.config import EncoderConfig
from training.encoders.load import load_encoder
from training.export.localisers import localisable


def test_streams_without_one_say_why(caplog: pytest.LogCaptureFixture) -> None:
    token = EncoderConfig(
        kind="timm",
        modality="image",
        name="vit_tiny_patch16_224",
        weights="random:0",
        pooling="cls",
        kwargs={"img_size": 32, "depth": 1},
    )
    encoders = {
        "clip_text": load_encoder(STREAMS["clip_text"], ENCODERS),
        "token": load_encoder(token),
        "vision": load_encoder(STREAMS["vision"], ENCODERS),
    }
    specs = {name: encoder.stream(name) for name, encoder in encoders.items()}
    with localisable(encoders, specs) as found:
        assert list(found) == ["vision"]
        assert (found["vision"].draft.side, found["vision"].draft.moves) == (8, 4)
    assert [record.message for record in caplog.records if "localiser" in record.message] == [
        "stream `clip_text` has no localiser: it reads texts",
        "stream `token` has no localiser: its pooling (cls) does not split over patches; average "
        "pools and open_clip's ResNet attention pool do",
    ]
