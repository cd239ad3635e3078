"""Localisers as ONNX graphs, for encoders whose pooling splits over patches; scores none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from koine.artifact import Artifact
from koine.errors import ExportError
from koine.streams import StreamSpec
from koine.texts import Tokens
from koine.types import ImagesNHWC
from training.encoders.encoder import Encoder
from training.export.artifact import LocaliserDraft
from training.export.backbone import copy_onnx, export_module
from training.export.parity import Parity, check_localiser
from training.export.samples import sample_images
from training.localisation.patches import PatchModule, patch_module

SAMPLES = 16
"""Images on which each localiser is compared."""

log = logging.getLogger(__name__)


class Localisable(NamedTuple):
    """A stream whose activations split over patches, and the graph that does it."""

    module: PatchModule
    encoder: Encoder
    draft: LocaliserDraft


@contextmanager
def localisable(
    encoders: Mapping[str, Encoder], specs: Mapping[str, StreamSpec]
) -> Iterator[dict[str, Localisable]]:
    """The streams that can be localised; their graphs last as long as the block.

    A stream that cannot is served without: the log says why.
    """
    found: dict[str, Localisable] = {}
    with TemporaryDirectory() as folder:
        for name, encoder in encoders.items():
            module = patch_module(encoder)
            if module is None:
                log.warning("stream `%s` has no localiser: %s", name, why_not(encoder))
                continue
            path = Path(folder) / f"{name}.onnx"
            try:
                export_module(module, specs[name], path, output="patches")
            except ExportError as error:
                log.warning("stream `%s` cannot be localised: %s", name, error)
                continue
            draft = LocaliserDraft(
                partial(copy_onnx, path), module.side, module.moves, module.stride
            )
            found[name] = Localisable(module, encoder, draft)
        yield found


def why_not(encoder: Encoder) -> str:
    """Why an encoder's activations do not split over patches."""
    if encoder.modality != "image":
        return f"it reads {encoder.modality}s"
    if encoder.module is None:
        return "it is an ONNX file, whose pooling cannot be taken apart"
    return (
        f"its pooling ({encoder.identity.pooling}) does not split over patches; average pools and "
        "open_clip's ResNet attention pool do"
    )


def check_localisers(artifact: Artifact, found: Mapping[str, Localisable]) -> list[Parity]:
    """torch and ONNX Runtime on the same images. Raises `ExportError` where they differ."""
    return [
        check_localiser(name, one.module, artifact, _pixels(one.encoder))
        for name, one in found.items()
    ]


def _pixels(encoder: Encoder) -> ImagesNHWC:
    batch = encoder.prepare(sample_images(SAMPLES))
    assert not isinstance(batch, Tokens)
    return batch
