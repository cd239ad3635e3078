"""`name` as it is typed, on runs whose concepts are known; what export makes of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from koine.artifact import Artifact
from koine.concepts import Concept, read_concepts
from koine.errors import ExportError
from koine.manifest import CARD, CONCEPTS
from tests.training.evaluation.stores import LABELS, write_store
from training.__main__ import main
from training.activations import ActivationStore
from training.configs import FitConfig
from training.evaluation.labels import MIN_FIRES
from training.export.build import export
from training.naming import naming
from training.naming.names import NAMES, RECORD, read_names
from training.trainer import fit

CONFIG = FitConfig(num_concepts=16, k=4, batch_size=64, steps=200, validate_every=100)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ActivationStore]:
    folder = tmp_path_factory.mktemp("naming")
    store = write_store(folder / "store", items=1000)
    return fit(store, CONFIG, folder / "run", device="cpu"), store


@pytest.fixture
def run(fitted: tuple[Path, ActivationStore], tmp_path: Path) -> Path:
    shutil.copytree(fitted[0], tmp_path / "run")
    return tmp_path / "run"


def named(run: Path, *flags: str) -> list[Concept]:
    assert main(["name", str(run), "--device", "cpu", *flags]) == 0
    return read_concepts(run / NAMES / CONCEPTS)


def test_labels_name_the_concepts_that_fire_on_them(run: Path) -> None:
    concepts = named(run)
    labelled = [concept for concept in concepts if concept.label is not None]
    assert len({concept.label for concept in labelled} & set(LABELS)) >= 6
    for concept in labelled:
        assert concept.status == "proposed"
        assert concept.source == "firing"
        assert concept.score is not None
        assert concept.score >= 0.7
        assert all(0 <= share <= 1 for share in concept.purity.values())
        assert concept.evidence[0].route == "firing"
    shares = [share for concept in labelled for share in concept.purity.values()]
    assert sum(shares) / len(shares) > 0.5
    assert [concept.id for concept in concepts] == list(range(16))


def test_exemplars_come_from_training_rows_and_all_streams(
    run: Path, fitted: tuple[Path, ActivationStore]
) -> None:
    store = fitted[1]
    train = {store.row(int(number)).id for number in store.split("train")}
    concepts = named(run)
    shown = [concept for concept in concepts if len(concept.exemplars) == 6]
    assert shown
    for concept in shown:
        items = [exemplar.item for exemplar in concept.exemplars]
        assert len(set(items)) == len(items)
        assert set(items) <= train
        assert all(other != concept.id for other in concept.nearest)
    streams = [{exemplar.stream for exemplar in concept.exemplars} for concept in shown]
    assert {"alpha", "beta", "gamma"} in streams


def test_a_second_time_does_nothing_and_another_threshold_names_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = named(run)
    before = (run / NAMES / RECORD).stat().st_mtime_ns
    assert named(run) == first
    assert "complete already" in capsys.readouterr().out
    assert (run / NAMES / RECORD).stat().st_mtime_ns == before
    fewer = named(run, "--min-score", "0.98")
    assert sum(c.label is not None for c in fewer) < sum(c.label is not None for c in first)


def test_a_check_judges_names_beside_shuffled_ones_and_keeps_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_store(tmp_path / "store", items=1000, captioned=True)
    config = dataclasses.replace(CONFIG, steps=100)
    run = fit(store, config, tmp_path / "run", device="cpu")
    capsys.readouterr()
    assert main(["name", str(run), "--device", "cpu", "--check"]) == 0
    told = capsys.readouterr().out
    kept = {
        cells[1]: cells[2:]
        for line in told.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 7
    }
    named, right, *_, shuffled = kept["score ≥ 0.7"]
    assert int(named) >= 6
    assert float(right) >= 0.8
    assert float(shuffled) < 0.4
    lifts = [line.split("|") for line in told.splitlines() if line.startswith("| alpha |")]
    assert [cells[2].strip() for cells in lifts] == ["named", "shuffled"]
    assert float(lifts[0][6]) > 2 > float(lifts[1][6])
    assert not (run / NAMES).exists()


def test_own_terms_name_before_others(run: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Red\n")
    labels = {concept.label for concept in named(run, "--vocabulary", str(tmp_path / "own.txt"))}
    assert "Red" in labels
    assert "red" not in labels


def test_a_store_that_says_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_store(tmp_path / "store", labelled=False)
    config = FitConfig(num_concepts=8, k=2, batch_size=32, steps=4, validate_every=2)
    run = fit(store, config, tmp_path / "run", device="cpu")
    assert main(["name", str(run)]) == 2
    assert "has neither captions nor labels" in capsys.readouterr().err
    assert not (run / NAMES).exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--routes", "direction"], "--routes direction cannot be had"),
        (["--no-labels"], "nothing can name these concepts"),
        (["--data", "."], "was imported: it has no images; leave --data out"),
        (["--min-score", "2"], "`min_score` must lie in 0 to 1, got 2.0"),
        (["--store", "nowhere"], "activation store `nowhere` is not there"),
    ],
)
def test_what_cannot_be_had_is_refused(
    flags: list[str], words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["name", str(run), *flags]) == 2
    assert words in capsys.readouterr().err


def test_an_unfinished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["name", str(tmp_path)]) == 2
    assert "is no finished run" in capsys.readouterr().err


def test_export_takes_names_along(run: Path, tmp_path: Path) -> None:
    names = named(run)
    artifact = export(run, tmp_path / "artifact").artifact
    concepts = read_concepts(artifact.file(CONCEPTS))
    assert [concept.model_copy(update={"rate": {}}) for concept in concepts] == names
    assert all(concept.rate.keys() == {"alpha", "beta", "gamma"} for concept in concepts)
    count = sum(concept.label is not None for concept in names)
    states = f"{count} proposed, {16 - count} unnamed" if count < 16 else "16 proposed"
    assert states in artifact.file(CARD).read_text()
    Artifact.open(tmp_path / "artifact", verify=True)


def test_export_without_names_says_so(run: Path, tmp_path: Path) -> None:
    artifact = export(run, tmp_path / "artifact").artifact
    assert all(concept.label is None for concept in read_concepts(artifact.file(CONCEPTS)))
    assert "No concept is named" in artifact.file(CARD).read_text()


def test_names_of_other_weights_are_not_exported(run: Path, tmp_path: Path) -> None:
    named(run)
    path = run / NAMES / RECORD
    others = {"weights": "sha256:" + "0" * 64}
    path.write_text(json.dumps(json.loads(path.read_text()) | others))
    with pytest.raises(ExportError, match="were made for other weights"):
        export(run, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_names_can_lie_elsewhere(run: Path, tmp_path: Path) -> None:
    assert main(["name", str(run), "--out", str(tmp_path / "elsewhere")]) == 0
    assert read_names(run) is None
    found = read_names(run, tmp_path / "elsewhere")
    assert found is not None
    artifact = export(run, tmp_path / "artifact", names=tmp_path / "elsewhere").artifact
    assert any(concept.label for concept in read_concepts(artifact.file(CONCEPTS)))


def test_a_kill_leaves_names_that_are_made_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = named(run)
    with monkeypatch.context() as killed:
        killed.setattr(naming, "finish", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["name", str(run), "--device", "cpu", "--min-score", "0.8"]) == 130
    with pytest.raises(ExportError, match="unfinished or damaged; run `python -m training name"):
        read_names(run)
    assert named(run) == whole


def test_a_flipped_bit_is_seen_and_mended(run: Path) -> None:
    whole = named(run)
    path = run / NAMES / CONCEPTS
    path.write_text(path.read_text().replace('"status":"proposed"', '"status":"verified"', 1))
    with pytest.raises(ExportError, match=r"concepts.jsonl is not as `name` wrote it"):
        read_names(run)
    assert named(run) == whole


def test_records_of_another_version_are_made_again(run: Path) -> None:
    named(run)
    path = run / NAMES / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": "koine.names/0"}))
    with pytest.raises(ExportError, match="unfinished or damaged"):
        read_names(run)
    assert named(run)


def test_purity_needs_enough_items(run: Path) -> None:
    opened = naming.open_named(run, device="cpu")
    config = naming.NamingConfig()
    train = naming.train_items(opened, config)
    terms, proposals = naming.proposals_of(opened, train, config)
    few = naming.see_rows(opened, opened.store.split("val")[: MIN_FIRES - 1], "few")
    assert naming.purities(few, terms, proposals, config) == [{}] * 16
