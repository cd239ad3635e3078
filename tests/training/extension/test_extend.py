"""A stream joins a frozen dictionary: what stays, what is learned, what is refused, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from koine.encoder import ConceptEncoder
from koine.errors import DataError, RequestError, TrainingError
from koine.streams import EncoderIdentity, ImagePreprocess, StreamSpec
from tests.training.stores import atoms_store, write_store
from training import checkpoint
from training.__main__ import main
from training.activations.store import ActivationStore
from training.checkpoint import load_model
from training.configs import FitConfig, aligned
from training.evaluation.evaluate import evaluate
from training.export.build import export
from training.extension.config import ExtendConfig
from training.extension.distil import Distiller
from training.extension.extend import extend
from training.extension.pairs import check_streams, draw_pairs
from training.trainer import fit

SIZES: dict[str, Any] = {
    "num_concepts": 32,
    "k": 3,
    "steps": 60,
    "batch_size": 64,
    "lr": 5e-3,
    "seed": 1,
}
ROWS, PAIRS = 400, 320
"""Of the store, and those of `train` and `val`."""
CONFIG = ExtendConfig(stream="other", steps=20, batch_size=64, validate_every=5)


class Case:
    """A dictionary of `image` and `words`, extended by `other`."""

    def __init__(self, folder: Path, config: FitConfig) -> None:
        self.store = atoms_store(folder / "full", ROWS)
        self.parent_store = pick(self.store, folder / "two", ("image", "words"))
        self.parent = fit(self.parent_store, config, folder / "parent", device="cpu")
        self.run = extend(self.parent, self.store, CONFIG, folder / "extended")


def pick(store: ActivationStore, path: Path, names: tuple[str, ...]) -> ActivationStore:
    rows = [np.array([i]) for i in range(len(store))]
    return write_store(path, {n: [store.vectors(n, row) for row in rows] for n in names})


@pytest.fixture(
    scope="module", params=[FitConfig(**SIZES), aligned(**SIZES)], ids=["pre", "shared"]
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("extend"), request.param)


def test_existing_streams_keep_their_codes_to_the_bit(case: Case) -> None:
    acts = case.store.gather(case.store.split("test")).acts
    mine = {name: torch.from_numpy(acts[name]) for name in ("image", "words")}
    before = load_model(case.parent).encode(mine, "independent")
    after = load_model(case.run).encode(mine, "independent")
    for name in mine:
        assert torch.equal(before[name].indices_NK, after[name].indices_NK)
        assert torch.equal(before[name].values_NK, after[name].values_NK)


def test_the_exported_heads_keep_them_too_and_the_manifest_tells_the_lineage(
    case: Case, tmp_path: Path
) -> None:
    before = export(case.parent, tmp_path / "before").artifact
    after = export(case.run, tmp_path / "after").artifact
    acts = case.store.gather(case.store.split("test")).acts
    for name in ("image", "words"):
        old, new = (ConceptEncoder(a).encode({name: acts[name]}) for a in (before, after))
        for one, other in zip(old[name], new[name], strict=True):
            assert np.array_equal(one, other, equal_nan=True)
    lineage = after.manifest.training.lineage
    assert before.manifest.training.lineage is None
    assert lineage is not None
    assert lineage.stream == "other"
    assert lineage.parent.startswith("sha256:")
    assert lineage.store == f"sha256:{case.store.fingerprint}"
    assert lineage.pairs == PAIRS
    assert [s.spec.name for s in after.manifest.streams] == ["image", "words", "other"]


def test_the_new_stream_agrees_far_beyond_chance_and_is_evaluated_as_any(case: Case) -> None:
    report = evaluate(case.run, device="cpu")
    found = report["independent"]["active_jaccard_adjusted"]
    assert found["image|other"] > 0.6 * found["image|words"]
    assert report["independent"]["fvu"]["other->other"] < 0.9
    kept_out = json.loads((case.run / checkpoint.RECORD).read_text())["choose"]
    mean = (found["image|other"] + found["words|other"]) / 2
    assert abs(kept_out["agreement"] - mean) < 0.1  # of 80 items each: normalised alike
    assert abs(kept_out["fvu_self"] - report["independent"]["fvu"]["other->other"]) < 0.1
    assert report["controls"]["untrained"]["independent"]["active_jaccard_adjusted"] is not None


def test_the_same_seed_gives_the_same_bits_and_a_finished_run_is_left(case: Case) -> None:
    again = extend(case.parent, case.store, CONFIG, case.run.parent / "again")
    one, other = (load_model(run).state_dict() for run in (case.run, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    record = (again / checkpoint.RECORD).read_bytes()
    extend(case.parent, case.store, CONFIG, again)
    assert (again / checkpoint.RECORD).read_bytes() == record


def test_a_killed_extension_goes_on_to_the_same_bits(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Distiller._take_step

    def dying(self: Distiller) -> dict[str, float]:
        if self.step == 13:
            raise KeyboardInterrupt
        return take(self)

    monkeypatch.setattr(Distiller, "_take_step", dying)
    with pytest.raises(KeyboardInterrupt):
        extend(case.parent, case.store, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run" / checkpoint.RECORD).exists()
    monkeypatch.undo()
    extend(case.parent, case.store, CONFIG, tmp_path / "run")
    one, other = (load_model(run).state_dict() for run in (case.run, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [(run / checkpoint.HISTORY).read_text() for run in (case.run, tmp_path / "run")]
    assert lines[0] == lines[1]


def test_a_store_may_lack_existing_streams(case: Case, tmp_path: Path) -> None:
    """Those keep their codes, and their profile comes from the parent's store."""
    pairs = pick(case.store, tmp_path / "pairs", ("other", "image"))
    run = extend(case.parent, pairs, replace(CONFIG, steps=0), tmp_path / "run")
    assert load_model(run).streams == ("image", "words", "other")
    report = evaluate(run, device="cpu")
    assert report["independent"]["active_jaccard"]["image|other"] > 0.1
    assert report["independent"]["active_jaccard"]["image|words"] is None
    concepts = export(run, tmp_path / "artifact").artifact.file("concepts.jsonl").read_text()
    rates = [json.loads(line)["rate"] for line in concepts.splitlines()]
    assert all(sum(rate[name] for rate in rates) > 1 for name in ("image", "words", "other"))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"stream": "image"}, DataError, "has a stream `image` already"),
        ({"stream": "depth"}, DataError, "has no stream `depth`: it has image, other, words"),
        ({"pairs": 5000}, DataError, "5000 are needed"),
        ({"pairs": 3}, ValueError, "at least 32, got 3"),
    ],
)
def test_what_cannot_be_extended_is_refused(
    case: Case, tmp_path: Path, change: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        extend(case.parent, case.store, replace(CONFIG, **change), tmp_path / "run")  # pyright: ignore[reportArgumentType]


def test_stores_that_do_not_pair_are_refused(case: Case, tmp_path: Path) -> None:
    alone = pick(case.store, tmp_path / "alone", ("other",))
    with pytest.raises(DataError, match="has none of the dictionary's streams"):
        extend(case.parent, alone, CONFIG, tmp_path / "run")
    rows = range(len(case.store))
    empty, full = np.zeros((0, 20)), np.ones((1, 16))
    apart = {
        "image": [empty if i % 2 else np.ones((1, 20)) for i in rows],
        "other": [full if i % 2 else full[:0] for i in rows],
    }
    unpaired = write_store(tmp_path / "apart", apart)
    with pytest.raises(DataError, match="0 training and validation items"):
        extend(case.parent, unpaired, CONFIG, tmp_path / "run")
    wide = write_store(tmp_path / "wide", {"image": [np.ones((1, 7))] * 60, "other": [full] * 60})
    with pytest.raises(DataError, match="`image` is 7 wide in the store, 20 in the dictionary"):
        extend(case.parent, wide, CONFIG, tmp_path / "run")


def test_another_encoder_under_a_known_name_is_refused(case: Case) -> None:
    def spec(name: str, revision: str) -> StreamSpec:
        encoder = EncoderIdentity(kind="timm", name="net", revision=revision, pooling="avg")
        look = ImagePreprocess(resize_size=8, crop_size=8, mean=(0, 0, 0), std=(1, 1, 1))
        return StreamSpec(name=name, modality="image", d_in=4, encoder=encoder, preprocess=look)

    shown = case.store.showing([spec("image", "sha256:b"), spec("fresh", "sha256:c")])
    with pytest.raises(DataError, match="extract it with the dictionary's encoder"):
        check_streams([spec("image", "sha256:a")], shown, "fresh")


def test_an_unfinished_parent_and_a_directory_of_another_run_are_refused(
    case: Case, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="is no finished run"):
        extend(tmp_path, case.store, CONFIG, tmp_path / "run")
    with pytest.raises(TrainingError, match="holds another run"):
        extend(case.parent, case.store, replace(CONFIG, seed=5), case.run)


def test_pairs_are_disjoint_counted_in_all_and_never_from_test(case: Case) -> None:
    for pairs in (None, 64, 300):
        drawn = draw_pairs(case.store, replace(CONFIG, pairs=pairs))
        assert drawn.count == (pairs or PAIRS)
        together = np.concatenate([drawn.fit, drawn.choose])
        assert len(np.unique(together)) == drawn.count
        assert not np.isin(together, case.store.split("test")).any()
        assert len(drawn.choose) >= 0.15 * drawn.count - 1


def test_an_extended_dictionary_can_be_extended(case: Case, tmp_path: Path) -> None:
    copies = [case.store.vectors("other", np.array([i])) * 2 for i in range(ROWS)]
    streams = {n: [case.store.vectors(n, np.array([i])) for i in range(ROWS)] for n in ("other",)}
    more = write_store(tmp_path / "more", {**streams, "third": copies})
    run = extend(case.run, more, replace(CONFIG, stream="third", steps=2), tmp_path / "third")
    assert load_model(run).streams == ("image", "words", "other", "third")


def test_the_command_extends(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extend", str(case.parent), "--store", str(case.store.path), "--out", str(tmp_path)]
    out = str(tmp_path / "run")
    words[-1] = out
    assert main([*words, "--stream", "other", "--pairs", "100", "--steps", "5"]) == 0
    assert "`other` joined on 100 pairs" in capsys.readouterr().out
    assert main([*words, "--stream", "image"]) == 2
