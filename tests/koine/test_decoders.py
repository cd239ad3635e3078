"""Decoding in numpy is torch's `AlignedDictionary.decode`, from what the artifact holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from koine import decoders
from koine.artifact import Artifact
from koine.codes import PAD, Codes
from koine.decoders import Decoders
from koine.encoder import ConceptEncoder
from koine.errors import ArtifactError
from koine.manifest import DECODERS
from tests.tiny import NUM_CONCEPTS, K, random_weights
from training.model import AlignedDictionary, ModelConfig, TopK

WIDTHS = {"tiny_a": 24, "tiny_b": 16, "tiny_text": 20, "imported": 10}
TOLERANCE = 2e-6
"""A few float32 roundings of values near 1: the K products are summed in another order."""


@pytest.fixture(scope="module")
def model() -> AlignedDictionary:
    """The torch model that the tiny artifact's weights are of."""
    model = AlignedDictionary(ModelConfig(num_concepts=NUM_CONCEPTS, k=K), WIDTHS)
    for seed, (name, d_in) in enumerate(WIDTHS.items()):
        arrays = random_weights(d_in, seed).arrays()
        model.of(name).load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()})
    return model


@pytest.fixture(scope="module")
def codes(tiny_artifact: Artifact) -> dict[str, Codes]:
    encoder = ConceptEncoder(tiny_artifact, providers=["CPUExecutionProvider"], threads=1)
    rng = np.random.default_rng(3)
    acts = {n: rng.normal(size=(50, d)).astype(np.float32) for n, d in WIDTHS.items()}
    acts["tiny_b"][:7] *= 0  # nothing to see: few concepts, so that there are pads
    return encoder.encode(acts)


@pytest.mark.parametrize("to", WIDTHS)
@pytest.mark.parametrize("source", WIDTHS)
def test_decoding_is_that_of_torch(
    tiny_artifact: Artifact,
    model: AlignedDictionary,
    codes: dict[str, Codes],
    source: str,
    to: str,
) -> None:
    indices_NK, values_NK, _ = codes[source]
    with torch.no_grad():
        pads_as_zeros = np.where(indices_NK == PAD, 0, indices_NK).astype(np.int64)
        want = model.decode(to, TopK(torch.from_numpy(pads_as_zeros), torch.from_numpy(values_NK)))
    got = Decoders(tiny_artifact.file(DECODERS)).decode(to, indices_NK, values_NK)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=TOLERANCE)


def test_pads_add_nothing_and_no_codes_are_the_bias(tiny_artifact: Artifact) -> None:
    opened = Decoders(tiny_artifact.file(DECODERS))
    indices = np.array([[5, PAD], [PAD, PAD]], np.int32)
    got = opened.decode("imported", indices, np.array([[2, 9], [9, 9]], np.float32))
    w = random_weights(10, 3)
    bias_D = w.pre_bias_D / w.scale + w.shift_D
    np.testing.assert_allclose(got[1], bias_D, rtol=0, atol=TOLERANCE)
    want_D = 2 * w.dictionary_CD[5] / w.scale + bias_D
    np.testing.assert_allclose(got[0], want_D, rtol=0, atol=TOLERANCE)


def test_memory_is_bounded_by_steps_that_change_nothing(
    tiny_artifact: Artifact, codes: dict[str, Codes], monkeypatch: pytest.MonkeyPatch
) -> None:
    indices_NK, values_NK, _ = codes["tiny_a"]
    opened = Decoders(tiny_artifact.file(DECODERS))
    whole = opened.decode("tiny_text", indices_NK, values_NK)
    monkeypatch.setattr(decoders, "BYTES_PER_STEP", 4 * 20 * K * 3)
    np.testing.assert_allclose(
        opened.decode("tiny_text", indices_NK, values_NK), whole, rtol=0, atol=TOLERANCE
    )
    empty = opened.decode("tiny_text", indices_NK[:0], values_NK[:0])
    assert empty.shape == (0, 20)


def test_what_was_opened_is_read_though_another_file_took_its_place(tmp_path: Path) -> None:
    def write(path: Path, value: float) -> None:
        ones = np.full((3, 2), value, np.float32)
        zeros = np.zeros(2, np.float32)
        scale = np.array(1, np.float32)
        save_file(
            {"x.dictionary": ones, "x.pre_bias": zeros, "x.shift": zeros, "x.scale": scale}, path
        )

    write(tmp_path / "old", 1)
    opened = Decoders(tmp_path / "old")
    write(tmp_path / "new", 2)
    (tmp_path / "new").rename(tmp_path / "old")
    got = opened.decode("x", np.array([[1]], np.int32), np.array([[1]], np.float32))
    np.testing.assert_array_equal(got, [[1, 1]])


def test_files_that_are_no_decoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Decoders(tmp_path / "missing")
    (tmp_path / "odd").write_bytes(b"no safetensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Decoders(tmp_path / "odd")
    save_file({"x.dictionary": np.zeros((1, 1), np.float32)}, tmp_path / "half")
    with pytest.raises(ArtifactError, match="no decoder of stream `y`"):
        Decoders(tmp_path / "half").decode(
            "y", np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
        )
