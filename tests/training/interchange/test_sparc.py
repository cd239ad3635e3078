"""SPARC's published checkpoint: read, adopted, evaluated, exported; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import CheckpointError, RequestError, TrainingError
from koine.sessions import CPU
from tests.training.evaluation.stores import WIDTHS, write_store
from tests.training.interchange.published import ARGS, C, K, state_of, write_published
from training.__main__ import main
from training.activations import ActivationStore
from training.checkpoint import MODEL, RECORD, load_model
from training.interchange.adopt import adopt
from training.interchange.sparc import read_published


class Runs:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("ran",))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return write_store(tmp_path_factory.mktemp("store") / "store", items=80)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_published(tmp_path / "sparc", state_of(WIDTHS))


def test_codes_are_those_of_the_published_equations(
    store: ActivationStore, checkpoint: Path, tmp_path: Path
) -> None:
    model = load_model(adopt(checkpoint, store, tmp_path / "run"))
    state, acts = state_of(WIDTHS), {name: torch.randn(9, d) * 3 for name, d in WIDTHS.items()}
    logits = {}
    for name, x_ND in acts.items():
        x_ND = x_ND / (x_ND.norm(dim=1, keepdim=True) + 1e-8) - state[f"pre_biases.{name}"]
        logits[name] = x_ND @ state[f"encoders.{name}.weight"].T + state[f"latent_biases.{name}"]
    chosen_NK = torch.stack(list(logits.values())).sum(0).topk(K, dim=1).indices.sort(1).values
    joint, alone = model.encode(acts, "joint"), model.encode(acts, "independent")
    for name, x_NC in logits.items():
        assert torch.equal(joint[name].indices_NK.sort(1).values, chosen_NK)
        own_NK = x_NC.topk(K, dim=1)
        assert torch.equal(alone[name].indices_NK.sort(1).values, own_NK.indices.sort(1).values)
        torch.testing.assert_close(alone[name].values_NK, own_NK.values.relu(), rtol=0, atol=1e-5)
        codes_NC = torch.zeros(9, C).scatter(1, own_NK.indices, own_NK.values.relu())
        rebuilt_ND = codes_NC @ state[f"decoders.{name}.weight"].T + state[f"pre_biases.{name}"]
        torch.testing.assert_close(model.decode(name, alone[name]), rebuilt_ND, rtol=0, atol=1e-5)


def test_it_evaluates_and_exports_as_a_run_of_fit_does(
    store: ActivationStore,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, where = tmp_path / "run", ["--store", str(store.path)]
    assert main(["adopt", str(checkpoint), *where, "--out", str(run)]) == 0
    assert f"{C} concepts, k {K}, global selection, streams alpha, beta, gamma" in (
        capsys.readouterr().out
    )
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["dictionary"]["method"] == "sparc"
    assert "adopted from a checkpoint" in (run / "report.html").read_text()
    assert main(["export", str(run), "--name", "published"]) == 0
    artifact = Artifact.open(run / "artifact")
    assert (
        artifact.manifest.training.adopted
        == json.loads((run / RECORD).read_text())["adopted"]["checkpoint"]
    )
    acts = {name: torch.randn(5, d).numpy() for name, d in WIDTHS.items()}
    codes = ConceptEncoder(artifact, providers=[CPU]).encode(acts)
    expected = load_model(run).encode(
        {name: torch.from_numpy(x) for name, x in acts.items()}, "independent"
    )
    for name in WIDTHS:
        torch.testing.assert_close(
            torch.from_numpy(codes[name].values_NK), expected[name].values_NK, rtol=0, atol=1e-5
        )


def test_streams_may_be_called_otherwise(store: ActivationStore, tmp_path: Path) -> None:
    theirs = {"clip_img": WIDTHS["alpha"], "beta": WIDTHS["beta"], "clip_txt": WIDTHS["gamma"]}
    path = write_published(tmp_path / "sparc", state_of(theirs))
    names = {"alpha": "clip_img", "gamma": "clip_txt"}
    model = load_model(adopt(path, store, tmp_path / "run", names=names))
    weights = state_of(theirs)["encoders.clip_txt.weight"]
    assert torch.equal(model.of("gamma").encoder_CD, weights)
    with pytest.raises(RequestError, match="--stream names 'delta'"):
        adopt(path, store, tmp_path / "other", names={"delta": "clip_img"})


def test_twice_is_once_and_another_checkpoint_is_refused(
    store: ActivationStore, checkpoint: Path, tmp_path: Path
) -> None:
    run = adopt(checkpoint, store, tmp_path / "run")
    before = (run / MODEL).stat().st_mtime_ns
    assert adopt(checkpoint, store, run) == run
    assert (run / MODEL).stat().st_mtime_ns == before
    (run / RECORD).unlink()  # as after a kill: the record comes last
    adopt(checkpoint, store, run)
    assert (run / RECORD).is_file()
    changed = {**state_of(WIDTHS), "pre_biases.alpha": torch.ones(WIDTHS["alpha"])}
    with pytest.raises(TrainingError, match="holds another run"):
        adopt(write_published(tmp_path / "other", changed), store, run)


def test_a_local_model_selects_alone_in_either_mode(store: ActivationStore, tmp_path: Path) -> None:
    path = write_published(tmp_path / "s", state_of(WIDTHS), {**ARGS, "topk_type": "local"})
    assert load_model(adopt(path, store, tmp_path / "run")).config.selection == "local"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pre_biases.beta", None, "lacks `pre_biases.beta`"),
        ("decoders.beta.weight", torch.zeros(C, 16), r"must be \(16, 32\) floats.*got \(32, 16\)"),
        ("latent_biases.beta", torch.zeros(C, dtype=torch.long), "of torch.int64"),
        ("encoders.beta.weight", torch.full((C, 16), torch.nan), "512 values that are NaN"),
        ("optimizer.step", torch.zeros(()), "holds `optimizer.step`, which SPARC's"),
        ("encoders.delta.weight", torch.zeros(C, 3), "lacks `decoders.delta.weight`"),
        ("encoders.beta.weight", "text", "holds a dict that is no state_dict of tensors"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    key: str, value: object, words: str, tmp_path: Path
) -> None:
    state = {k: v for k, v in {**state_of(WIDTHS), key: value}.items() if v is not None}
    with pytest.raises(CheckpointError, match=words):
        read_published(write_published(tmp_path, state))


def test_streams_and_widths_must_be_the_stores(store: ActivationStore, tmp_path: Path) -> None:
    path = write_published(tmp_path / "a", state_of({**WIDTHS, "beta": 17}))
    with pytest.raises(CheckpointError, match="`beta` is 16 wide in the store.*takes 17"):
        adopt(path, store, tmp_path / "run")
    path = write_published(tmp_path / "b", state_of({**WIDTHS, "delta": 4}))
    with pytest.raises(CheckpointError, match="has the streams alpha, beta, gamma, delta"):
        adopt(path, store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    config = checkpoint.with_name("run_config.json")
    pickled = write_published(tmp_path / "p", {"encoders.a.weight": Runs()})
    with pytest.raises(CheckpointError, match="pickled code"):
        read_published(pickled, config)
    whole = checkpoint.read_bytes()
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        checkpoint.write_bytes(content)
        with pytest.raises(CheckpointError, match="pickled code|damaged"):
            read_published(checkpoint, config)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_published(tmp_path / "gone.pth", config)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"n_latents": C}, "lacks k in its `args`"),
        ({"n_latents": C, "k": C + 1}, "`k` must be at most 32, got 33"),
        ({"n_latents": C + 1, "k": K}, r"must be \(33, 24\) floats"),
        ({"n_latents": "many", "k": K}, "says what cannot be"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    args: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_published(write_published(tmp_path, state_of(WIDTHS), args))


def test_k_stands_in_the_config_alone(checkpoint: Path, tmp_path: Path) -> None:
    config = checkpoint.with_name("run_config.json")
    config.write_text("[]")
    with pytest.raises(CheckpointError, match="no run_config.json of SPARC"):
        read_published(checkpoint)
    config.unlink()
    with pytest.raises(CheckpointError, match="give SPARC's run_config.json with `--config`"):
        read_published(checkpoint)
