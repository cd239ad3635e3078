"""The concept encoder: what it refuses, and that answers do not depend on company."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.artifact import Artifact, sha256_file
from koine.codes import PAD
from koine.encoder import ConceptEncoder
from koine.errors import (
    ActivationsError,
    ArtifactError,
    EncoderError,
    InputError,
    TextError,
    UnknownStreamError,
)
from koine.sessions import CPU, Session, choose_providers
from koine.types import Mode

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def encoder(tiny_artifact: Artifact) -> ConceptEncoder:
    return ConceptEncoder(tiny_artifact, providers=[CPU], threads=1)


def acts(encoder: ConceptEncoder, n: int, *names: str) -> dict[str, np.ndarray]:
    return {
        name: RNG.normal(size=(n, encoder.streams[name].d_in)).astype(np.float32) for name in names
    }


def test_warm_up_runs_every_graph(encoder: ConceptEncoder) -> None:
    encoder.warm_up()


def test_shapes_and_kinds(encoder: ConceptEncoder) -> None:
    given = acts(encoder, 5, "tiny_a", "imported")
    for mode in ("independent", "joint"):
        codes = encoder.encode(given, mode)
        assert list(codes) == ["tiny_a", "imported"]
        assert codes["tiny_a"].indices_NK.shape == (5, encoder.k)
        assert codes["tiny_a"].indices_NK.dtype == np.int32
        assert codes["tiny_a"].values_NK.dtype == np.float32
        assert codes["tiny_a"].fvu_N.shape == (5,)
        assert codes["tiny_a"].dense(encoder.num_concepts).shape == (5, 64)


def test_joint_codes_differ_from_independent_ones_and_share_their_support(
    encoder: ConceptEncoder,
) -> None:
    given = acts(encoder, 20, "tiny_a", "tiny_b")
    alone, joint = encoder.encode(given), encoder.encode(given, "joint")
    assert (alone["tiny_a"].indices_NK != joint["tiny_a"].indices_NK).any()
    for row in range(20):
        support = set(joint["tiny_a"].indices_NK[row]) | set(joint["tiny_b"].indices_NK[row])
        assert len(support - {PAD}) <= encoder.k


def test_one_present_stream_encodes_jointly_as_alone(encoder: ConceptEncoder) -> None:
    given = acts(encoder, 20, "tiny_b")
    alone, joint = encoder.encode(given)["tiny_b"], encoder.encode(given, "joint")["tiny_b"]
    assert (alone.indices_NK == joint.indices_NK).all()
    np.testing.assert_allclose(alone.values_NK, joint.values_NK, rtol=1e-5)
    np.testing.assert_allclose(alone.fvu_N, joint.fvu_N, rtol=1e-5)


@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_an_answer_does_not_depend_on_its_batch(encoder: ConceptEncoder, mode: Mode) -> None:
    given = acts(encoder, 30, "tiny_a", "tiny_b", "tiny_text")
    present_NS = RNG.random((30, 4)) < 0.7
    present_NS[:, 3] = False
    together = encoder.encode(given, mode, present_NS)
    for row in range(30):
        one = {name: a[row : row + 1] for name, a in given.items()}
        single = encoder.encode(one, mode, present_NS[row : row + 1])
        for name, codes in single.items():
            assert codes.indices_NK[0].tolist() == together[name].indices_NK[row].tolist()
            # float32 products of other shapes sum in another order
            np.testing.assert_allclose(
                codes.values_NK[0], together[name].values_NK[row], rtol=1e-5, atol=1e-6
            )
            np.testing.assert_allclose(codes.fvu_N[0], together[name].fvu_N[row], rtol=1e-5)


@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_what_stands_in_an_absent_row_is_ignored(encoder: ConceptEncoder, mode: Mode) -> None:
    given = acts(encoder, 3, "tiny_a", "tiny_b")
    present_NS = np.ones((3, 4), bool)
    present_NS[:, 2:] = False
    present_NS[1, 0] = False
    before = encoder.encode(given, mode, present_NS)
    given["tiny_a"][1] = np.nan
    after = encoder.encode(given, mode, present_NS)
    assert (before["tiny_b"].values_NK == after["tiny_b"].values_NK).all()
    assert (after["tiny_a"].indices_NK[1] == PAD).all()
    assert (after["tiny_a"].values_NK[1] == 0).all()
    assert np.isnan(after["tiny_a"].fvu_N[1])
    assert np.isfinite(after["tiny_a"].fvu_N[[0, 2]]).all()


def test_no_items_give_no_codes(encoder: ConceptEncoder) -> None:
    for mode in ("independent", "joint"):
        codes = encoder.encode(acts(encoder, 0, "tiny_a"), mode)["tiny_a"]
        assert codes.indices_NK.shape == (0, encoder.k)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "row 1 of stream `tiny_a` has 1 values that are NaN or infinite"),
        (np.inf, "row 1 of stream `tiny_a` has 1 values that are NaN or infinite"),
        (3e38, "row 1 of stream `tiny_a` has values too large"),
    ],
)
def test_values_that_cannot_be_encoded(encoder: ConceptEncoder, value: float, reason: str) -> None:
    given = acts(encoder, 3, "tiny_a")
    given["tiny_a"][1, 4] = value
    with pytest.raises(ActivationsError, match=reason):
        encoder.encode(given)


def test_wrong_shapes_and_types(encoder: ConceptEncoder) -> None:
    good = acts(encoder, 2, "tiny_a")["tiny_a"]
    with pytest.raises(
        ActivationsError, match=r"takes 24 activations per item, got shape \(2, 23\)"
    ):
        encoder.encode({"tiny_a": good[:, 1:]})
    with pytest.raises(ActivationsError, match="one row per item each, got rows"):
        encoder.encode({"tiny_a": good, "tiny_b": acts(encoder, 3, "tiny_b")["tiny_b"]})
    with pytest.raises(ActivationsError, match="at least one stream"):
        encoder.encode({})
    with pytest.raises(ActivationsError, match=r"must be 2 items x 4 streams, got \(2, 1\)"):
        encoder.encode({"tiny_a": good}, "joint", np.ones((2, 1), bool))
    with pytest.raises(ActivationsError, match="items have stream `tiny_b` but no activations"):
        encoder.encode({"tiny_a": good}, "joint", np.ones((2, 4), bool))


def test_an_unknown_stream_is_named_with_those_there_are(encoder: ConceptEncoder) -> None:
    known = "tiny_a, tiny_b, tiny_text, imported"
    for call in (
        lambda: encoder.encode({"clip": np.ones((1, 3), np.float32)}),
        lambda: encoder.tokenize("clip", ["a"]),
        lambda: encoder.preprocess("clip", Image.new("RGB", (4, 4))),
        lambda: encoder.activations("clip", np.zeros((1, 4, 4, 3), np.uint8)),
    ):
        with pytest.raises(UnknownStreamError, match=f"'clip' is no stream.*has {known}"):
            call()


def test_a_stream_says_what_it_reads(encoder: ConceptEncoder) -> None:
    image = Image.new("RGB", (50, 40))
    with pytest.raises(InputError, match="stream `tiny_text` reads texts, not images"):
        encoder.preprocess("tiny_text", image)
    with pytest.raises(InputError, match="stream `tiny_a` reads images, not texts"):
        encoder.tokenize("tiny_a", ["a"])
    with pytest.raises(InputError, match="stream `tiny_a` reads images, not texts"):
        encoder.activations("tiny_a", encoder.tokenize("tiny_text", ["a"]))
    with pytest.raises(InputError, match="`imported` has no backbone here.*send its activations"):
        encoder.preprocess("imported", image)
    with pytest.raises(InputError, match="`imported` has no backbone here"):
        encoder.tokenize("imported", ["a"])
    with pytest.raises(TextError):
        encoder.tokenize("tiny_text", [""])


def test_threads_may_share_an_encoder(encoder: ConceptEncoder) -> None:
    given = acts(encoder, 4, "tiny_a", "tiny_b")
    wanted = encoder.encode(given, "joint")["tiny_b"].indices_NK
    wrong: list[int] = []

    def work() -> None:
        for i in range(20):
            if (encoder.encode(given, "joint")["tiny_b"].indices_NK != wanted).any():
                wrong.append(i)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_an_unknown_provider_is_named_with_those_there_are(tiny_artifact: Artifact) -> None:
    with pytest.raises(EncoderError, match="no execution provider 'FastExecutionProvider'; it has"):
        ConceptEncoder(tiny_artifact, providers=["FastExecutionProvider"])


def test_without_a_gpu_the_cpu_is_chosen() -> None:
    assert choose_providers(None)[-1] == CPU


def test_a_graph_that_does_not_load_is_named(tiny_artifact: Artifact, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_artifact.path, tmp_path / "copy"))
    head = copy / "heads/tiny_a.onnx"
    old = sha256_file(head)
    head.write_bytes(b"\0" * head.stat().st_size)
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(old, sha256_file(head)))
    with pytest.raises(ArtifactError, match=r"heads/tiny_a\.onnx cannot be loaded"):
        ConceptEncoder(Artifact.open(copy), providers=[CPU])


def test_a_session_names_its_inputs(tiny_artifact: Artifact) -> None:
    session = Session(tiny_artifact.file("heads/joint.onnx"), [CPU], threads=1)
    names = ["acts.tiny_a", "acts.tiny_b", "acts.tiny_text", "acts.imported"]
    assert sorted(session.inputs) == sorted(["present", *names])
