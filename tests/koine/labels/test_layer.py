"""A label layer: what may be changed, what survives, and several writers at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from koine.artifact import Artifact
from koine.concepts import Concept, Evidence
from koine.errors import ConflictError, KoineError, LabelsError, RequestError, UnknownConceptError
from koine.labels import Edit, LabelLayer, State
from koine.labels.changes import MOST_LABEL

CONCEPTS = [
    Concept(id=0),
    Concept(id=1, label="dog", status="proposed", source="direction", score=0.5,
            evidence=(Evidence(route="direction", stream="a", term="puppy", score=0.2),)),
    *(Concept(id=n, label=f"thing {n}", status="proposed") for n in range(2, 64)),
]  # fmt: skip


def opened(folder: Path, artifact: Artifact) -> LabelLayer:
    return LabelLayer(folder, artifact, CONCEPTS)


@pytest.fixture
def layer(tmp_path: Path, tiny_artifact: Artifact) -> LabelLayer:
    return opened(tmp_path, tiny_artifact)


def state(layer: LabelLayer, concept: int = 1) -> tuple[str | None, str]:
    shown = layer.shown(concept, layer.labels())
    return shown.state.label, shown.state.status


def test_nothing_is_written_before_something_is_said(layer: LabelLayer) -> None:
    assert layer.labels().revision == 0
    assert state(layer) == ("dog", "proposed")
    assert not layer.path.exists()


def test_a_label_goes_through_all_that_people_do(
    layer: LabelLayer, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    steps = [
        (Edit(concept=1, status="verified", reason="looked"), ("dog", "verified")),
        (Edit(concept=1, status="rejected"), (None, "rejected")),
        (Edit(concept=1, status="verified"), ("dog", "verified")),
        (Edit(concept=1, status="renamed", label="  terrier  dog"), ("terrier dog", "renamed")),
        (Edit(concept=1, status="verified"), ("terrier dog", "verified")),
        (Edit(concept=1, status="proposed"), ("dog", "proposed")),
        (Edit(concept=0, status="renamed", label="cat"), ("cat", "renamed")),
        (Edit(concept=0, status="unnamed"), (None, "unnamed")),
    ]
    for n, (edit, after) in enumerate(steps, 1):
        (change,) = layer.append([edit], person="ada")
        assert (change.revision, state(layer, edit.concept)) == (n, after)
    again = opened(tmp_path, tiny_artifact)
    assert again.labels() == layer.labels()
    assert [c.revision for c in again.labels().history[1]] == [1, 2, 3, 4, 5, 6]
    assert again.labels().history[1][0].reason == "looked"
    header, *lines = layer.path.read_text().splitlines()
    assert json.loads(header)["digest"] == tiny_artifact.digest
    assert len(lines) == 8


def test_what_is_so_already_is_no_change(layer: LabelLayer) -> None:
    assert layer.append([Edit(concept=1, status="proposed")], person="ada") == []
    layer.append([Edit(concept=1, status="verified")], person="ada")
    assert layer.append([Edit(concept=1, status="verified")], person="bob") == []
    assert layer.labels().revision == 1


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit(concept=1, status="renamed"), "needs a label"),
        (Edit(concept=1, status="renamed", label=" "), "needs a label"),
        (Edit(concept=1, status="renamed", label="dog"), "set `verified`"),
        (Edit(concept=1, status="renamed", label="x" * (MOST_LABEL + 1)), "201 characters"),
        (Edit(concept=1, status="renamed", label="a\x1bb"), "control characters"),
        (Edit(concept=1, status="verified", label="cat"), "set the status `renamed`"),
        (Edit(concept=1, status="unnamed"), "set `proposed`"),
        (Edit(concept=1, status="verified", reason="\x00"), "control characters"),
        (Edit(concept=0, status="verified"), "nothing is proposed"),
        (Edit(concept=0, status="rejected"), "nothing is proposed"),
        (Edit(concept=0, status="proposed"), "set `unnamed`"),
        (Edit(concept=1, status="verified", source="x"), "cannot go with"),
    ],
)
def test_edits_without_sense_are_refused(layer: LabelLayer, edit: Edit, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        layer.append([Edit(concept=2, status="verified"), edit], person="ada")
    assert layer.labels().revision == 0


@pytest.mark.parametrize("person", ["", "a\nb", "x" * 201])
def test_a_person_has_a_name(layer: LabelLayer, person: str) -> None:
    with pytest.raises(RequestError, match="`person`"):
        layer.append([Edit(concept=1, status="verified")], person=person)


def test_unknown_and_repeated_concepts_are_refused(layer: LabelLayer) -> None:
    with pytest.raises(UnknownConceptError, match="0 to 63"):
        layer.append([Edit(concept=64, status="verified")], person="ada")
    with pytest.raises(RequestError, match="twice"):
        layer.append([Edit(concept=1, status=s) for s in ("verified", "rejected")], person="ada")


def test_a_lost_update_is_refused_and_a_repeated_one_is_not(
    layer: LabelLayer, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    other = opened(tmp_path, tiny_artifact)
    edit = Edit(concept=1, status="rejected", expected=0)
    assert len(other.append([edit], person="bob")) == 1
    assert other.append([edit], person="bob") == []  # the answer was lost, and it came again
    with pytest.raises(ConflictError, match=r"status `rejected`, revision 1, by bob"):
        layer.append([edit], person="ada")
    with pytest.raises(ConflictError):
        other.append([Edit(concept=1, status="verified", expected=0)], person="bob")
    assert layer.labels().revision == 1


def test_labels_are_carried_over_with_a_confidence(layer: LabelLayer) -> None:
    source = "migrated from demo@1"
    edits = [
        Edit(concept=0, status="verified", label="cat", source=source, confidence=0.9),
        Edit(concept=1, status="proposed", label="hound", source=source, confidence=0.4),
    ]
    layer.append(edits, person="migrate")
    shown = layer.shown(0)
    assert (shown.source, shown.confidence, shown.state.status) == (source, 0.9, "verified")
    layer.append([Edit(concept=0, status="rejected")], person="ada")
    assert (layer.shown(0).source, state(layer, 0)) == (None, (None, "rejected"))
    layer.append([Edit(concept=0, status="proposed")], person="ada")
    assert (layer.shown(0).source, state(layer, 0)) == (source, ("cat", "proposed"))


def test_a_torn_line_is_passed_over_and_cut(
    layer: LabelLayer, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    layer.append([Edit(concept=1, status="verified")], person="ada")
    whole = layer.path.read_bytes()
    layer.append([Edit(concept=n, status="verified") for n in (2, 3, 4)], person="ada")
    full = layer.path.read_bytes()
    for cut in range(len(whole), len(full)):
        layer.path.write_bytes(full[:cut])
        other = opened(tmp_path, tiny_artifact)
        assert other.labels().revision == 1, "all of a batch counts, or nothing"
    other.append([Edit(concept=5, status="verified")], person="bob")
    assert other.labels().revision == 2
    assert opened(tmp_path, tiny_artifact).labels() == other.labels() == layer.labels()


def test_a_torn_header_is_written_again(
    layer: LabelLayer, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    layer.append([Edit(concept=1, status="verified")], person="ada")
    layer.path.write_bytes(layer.path.read_bytes()[:20])
    other = opened(tmp_path, tiny_artifact)
    other.append([Edit(concept=1, status="rejected")], person="ada")
    assert state(opened(tmp_path, tiny_artifact)) == (None, "rejected")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"revision":2', '"revision":7', "line 3 .* 2 must follow"),
        ('"status":"rejected"', '"status":"maybe"', "line 3 .*after.status"),
        ('"concept":2', '"concept":999', "line 3 .*no concept 999"),
        ('"koine_labels":1', '"koine_labels":2', "line 1 is no header"),
        ('"digest":"', '"digest":"f', "not of tiny@0.1"),
        ('"person":"ada"', '"person":', "line 2 is no change"),
    ],
)
def test_a_damaged_or_foreign_layer_is_refused(
    layer: LabelLayer, tmp_path: Path, tiny_artifact: Artifact, old: str, new: str, words: str
) -> None:
    layer.append([Edit(concept=1, status="verified")], person="ada")
    layer.append([Edit(concept=2, status="rejected")], person="ada")
    text = layer.path.read_text()
    assert old in text
    layer.path.write_text(text.replace(old, new))
    with pytest.raises(LabelsError, match=words):
        opened(tmp_path, tiny_artifact)


def test_a_layer_that_was_replaced_or_removed_is_read_anew(layer: LabelLayer) -> None:
    layer.append([Edit(concept=1, status="verified")], person="ada")
    before = layer.path.read_text()
    layer.append([Edit(concept=2, status="verified")], person="ada")
    layer.path.unlink()
    assert layer.labels().revision == 0
    layer.path.write_text(before)
    assert layer.labels().revision == 1


def test_directories_that_cannot_be_used_are_refused(
    tmp_path: Path, tiny_artifact: Artifact
) -> None:
    with pytest.raises(LabelsError, match="make it first"):
        opened(tmp_path / "none", tiny_artifact)


def test_a_full_disk_loses_nothing(layer: LabelLayer) -> None:
    layer.append([Edit(concept=1, status="verified")], person="ada")
    before, size = layer.path.read_bytes(), layer.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:  # a real short write: the limit ends in the middle of the second line
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        with pytest.raises(LabelsError, match="nothing was changed"):
            layer.append([Edit(concept=2, status="verified")], person="ada")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert layer.path.read_bytes() == before
    layer.append([Edit(concept=2, status="verified")], person="ada")
    assert layer.labels().revision == 2


def _write_many(folder: Path, artifact: Artifact, who: int) -> None:
    layer = opened(folder, artifact)
    for n in range(20):
        status = "verified" if n % 2 == 0 else "proposed"
        concepts = [2 + who * 10, 3 + who * 10]
        layer.append([Edit(concept=c, status=status) for c in concepts], person=f"p{who}")


def test_processes_write_at_once_and_lose_nothing(
    layer: LabelLayer, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    context = multiprocessing.get_context("fork")
    people = [
        context.Process(target=_write_many, args=(tmp_path, tiny_artifact, n)) for n in range(4)
    ]
    for each in people:
        each.start()
    for each in people:
        each.join(60)
        assert each.exitcode == 0
    labels = layer.labels()
    assert labels.revision == 4 * 20 * 2
    assert {len(history) for history in labels.history.values()} == {20}
    assert labels == opened(tmp_path, tiny_artifact).labels()


def _write_for_ever(folder: Path, artifact: Artifact) -> None:
    layer = opened(folder, artifact)
    while True:
        for status in ("verified", "proposed"):
            edits = [Edit(concept=c, status=status) for c in range(2, 64)]
            layer.append(edits, person="ada")


def test_a_writer_that_is_killed_leaves_whole_batches(
    tmp_path: Path, tiny_artifact: Artifact
) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        process = context.Process(target=_write_for_ever, args=(tmp_path, tiny_artifact))
        process.start()
        process.join(0.15)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        layer = opened(tmp_path, tiny_artifact)
        labels = layer.labels()
        assert labels.revision % 62 == 0
        layer.append([Edit(concept=1, status="verified")], person="bob")
        layer.path.unlink()


def test_every_state_of_a_layer_fits_what_was_before(layer: LabelLayer) -> None:
    for status in ("verified", "rejected", "proposed", "rejected", "verified"):
        layer.append([Edit(concept=1, status=status)], person="ada")
    history = layer.labels().history[1]
    assert history[0].before == State(label="dog", status="proposed")
    for earlier, later in zip(history, history[1:], strict=False):
        assert earlier.after == later.before


def test_every_error_is_one_of_koines(layer: LabelLayer) -> None:
    layer.path.mkdir()
    for call in (layer.labels, lambda: layer.append([], person="ada")):
        with pytest.raises(KoineError):
            call()


def test_labels_of_an_earlier_artifact_are_told_of(
    tmp_path: Path, tiny_artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    layer = opened(tmp_path, tiny_artifact)
    layer.append([Edit(concept=1, status="verified")], person="ann")
    header, change = layer.path.read_text().splitlines()
    earlier = json.dumps(json.loads(header) | {"digest": "0" * 64})
    layer.path.unlink()
    (tmp_path / f"{'0' * 64}.jsonl").write_text(f"{earlier}\n{change}\n")
    other = json.dumps(json.loads(header) | {"dictionary": "other@1", "digest": "1" * 64})
    (tmp_path / f"{'1' * 64}.jsonl").write_text(f"{other}\n")
    (tmp_path / "notes.jsonl").write_text("hm\n")
    assert not caplog.records
    assert state(opened(tmp_path, tiny_artifact)) == ("dog", "proposed")
    (record,) = caplog.records
    assert "(digest 000000000000): `python -m training migrate` carries" in record.getMessage()
