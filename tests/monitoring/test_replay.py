"""What the replay draws and does to it; that it arrives is test_live.py's to show."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import RequestError, SourceError, UnknownStreamError
from monitoring.replay.__main__ import main
from monitoring.replay.corpus import Corpus
from monitoring.replay.drifts import QUIET, Degraded, Weighed, outside, read_drift, weights
from monitoring.replay.sender import Plan, Sent
from tests.monitoring.corpora import write_corpus

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(write_corpus(tmp_path_factory.mktemp("corpus") / "c", images=40))


def test_drifts_are_read() -> None:
    drift = read_drift(["label=two words x3", "word=dog ×0.5", "stream=a", "outside"])
    assert drift.weighed == (Weighed("label", "two words", 3.0), Weighed("word", "dog", 0.5))
    assert drift.streams == ("a",)
    assert drift.outside
    assert read_drift([]) == QUIET


@pytest.mark.parametrize("spec", ["label=red", "label= x3", "red x3", "outside x2", ""])
def test_other_drifts_are_refused(spec: str) -> None:
    with pytest.raises(RequestError, match="is none: use"):
        read_drift([spec])


@pytest.mark.parametrize("spec", ["label=bright x3", "word=dog x3"])
def test_a_label_is_drawn_more_often(corpus: Corpus, spec: str) -> None:
    weight_N = weights(corpus, read_drift([spec]))
    hit_N = np.array(["bright" in corpus.labels(at) for at in range(len(corpus))])
    assert weight_N.sum() == pytest.approx(1)
    assert weight_N[hit_N].sum() / weight_N[~hit_N].sum() == pytest.approx(3)


def test_what_cannot_be_drawn_is_refused(corpus: Corpus) -> None:
    with pytest.raises(RequestError, match="no item has the label 'blue'"):
        weights(corpus, read_drift(["label=blue x2"]))
    with pytest.raises(RequestError, match="above 0"):
        weights(corpus, read_drift(["label=bright x0", "label=dark x0"]))


def test_any_caption_of_an_item_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"x")
    (tmp_path / "captions.jsonl").write_text('{"image": "0.png", "captions": ["a", "b", "c"]}')
    corpus = Corpus(tmp_path)
    drawn = Counter(corpus.item(0, RNG).caption for _ in range(300))
    assert drawn.keys() == {"a", "b", "c"}
    assert min(drawn.values()) > 50


def test_noise_keeps_the_form_of_an_item(corpus: Corpus) -> None:
    item = corpus.item(0, RNG)
    noise = outside(item, np.random.default_rng(0))
    assert Image.open(io.BytesIO(noise.image)).format == "PNG"
    assert noise.image != item.image
    assert noise.caption
    assert "dog" not in noise.caption
    assert outside(item._replace(caption=None), np.random.default_rng(0)).caption is None


def test_one_stream_reads_a_spoilt_image(tiny_artifact: Artifact, corpus: Corpus) -> None:
    image = corpus.item(0, RNG).image
    encoder = ConceptEncoder(tiny_artifact, threads=1)
    right = encoder.activations(
        "tiny_a", encoder.preprocess("tiny_a", Image.open(io.BytesIO(image)))[None]
    )[0]
    spoilt = Degraded(tiny_artifact, ["tiny_a"]).of(image)
    assert list(spoilt) == ["tiny_a"]
    assert np.shape(spoilt["tiny_a"]) == right.shape
    assert np.abs(np.array(spoilt["tiny_a"]) - right).max() > 0.01
    with pytest.raises(UnknownStreamError):
        Degraded(tiny_artifact, ["nose"]).of(image)


def test_drift_has_a_beginning_and_an_end() -> None:
    drift = read_drift(["outside"])
    plan = Plan(drift=drift, begins=10, ends=20)
    assert [plan.drift_at(second) for second in (0, 10, 19.9, 20)] == [QUIET, drift, drift, QUIET]


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "is missing"), ("", "has no image"), ("[1]", "line 1"), ('{"image": "0.png"}', None)],
)
def test_a_folder_is_read_or_refused(tmp_path: Path, text: str | None, says: str | None) -> None:
    if text is not None:
        (tmp_path / "captions.jsonl").write_text(text)
    if says is not None:
        with pytest.raises(SourceError, match=says):
            Corpus(tmp_path)
        return
    (tmp_path / "0.png").write_bytes(b"x")
    assert Corpus(tmp_path).item(0, RNG) == (b"x", None, frozenset())
    with pytest.raises(SourceError, match="no image of split 'test'"):
        Corpus(tmp_path, "test")


def test_it_says_how_much_was_not_answered() -> None:
    assert str(Sent(10, Counter({"429": 2}), 3)).startswith(
        "10 items answered; requests without answer: 2 × 429; 3 requests left out"
    )


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_corpus(tmp_path / "c", images=4)
    asked = ["--corpus", str(folder), "--seconds", "0.2"]
    assert main(["http://127.0.0.1:9", *asked]) == 1
    assert "ConnectError" in capsys.readouterr().out
    assert main(["http://127.0.0.1:9", *asked, "--drift", "stream=a"]) == 2
    assert "name --artifact" in capsys.readouterr().err
