"""How well a stream that joins a frozen dictionary agrees with it, by number of pairs.

`python -m benchmarks.training.extension --run RUN --store STORE2 --stream NAME [--joint RUN2]`
extends RUN by each number of pairs and seed, measures the test rows of STORE2 in independent
encoding, and merges the figures into benchmarks/results/extension.json with a plot beside the
documentation. Beside it stand the closed forms alone, a linear map into the existing stream that it
serves best, followed by that stream's own head, and what fitting all streams of STORE2 together
reaches with RUN's configuration (`--joint`, fitted there unless it is). The same command goes on
where it was stopped; delete the stream's entry to measure anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.entry import Entry, commit, entry, hardware
from training.activations.store import ActivationStore
from training.checkpoint import CONFIG, load_model
from training.configs import FitConfig
from training.evaluation.agreement import Agreement, adjusted
from training.evaluation.codes import sparse
from training.evaluation.figures import rows_of
from training.evaluation.retrieval import retrieval
from training.extension.closed import Moments, moments
from training.extension.config import ExtendConfig
from training.extension.extend import extend, extended_model
from training.extension.judge import own_codes
from training.extension.pairs import draw_pairs
from training.model import AlignedDictionary, TopK, weighted_rows
from training.trainer import fit

FILE = Path(__file__).parents[1] / "results" / "extension.json"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
PAIRS = (250, 500, 1000, 2000, 3000)
TARGET = 0.9
"""Of the agreement that fitting all streams together reaches."""
LABELS = {
    "extended": "extend",
    "closed_forms": "its closed forms alone",
    "linear_map": "linear map, existing head",
}

Figures = dict[str, float]
CodesOf = Callable[[dict[str, Tensor]], TopK]
"""Normalised activations by stream → codes of the new one."""


def measure(
    model: AlignedDictionary, store: ActivationStore, stream: str, codes_of: CodesOf | None = None
) -> Figures:
    """Agreement, FVU and R@10 between a stream and all others, on test rows, means over them.

    `codes_of` replaces the stream's own encoding; FVU then has no way into that stream.
    """
    rows_N = rows_of(store).held_out
    batch = store.gather(rows_N)
    z = {n: model.of(n).normalise(torch.from_numpy(batch.acts[n])).float() for n in model.streams}
    with torch.no_grad():
        codes = {name: own_codes(model, name, z_ND) for name, z_ND in z.items()}
        if codes_of is not None:
            codes[stream] = codes_of(z)
    width = model.config.num_concepts
    coded = {n: sparse(c.indices_NK.numpy(), c.values_NK.numpy(), width) for n, c in codes.items()}
    agreement = Agreement(model.streams)
    columns = [[s.name for s in store.streams].index(name) for name in model.streams]
    agreement.add(coded, np.ascontiguousarray(batch.present_NS[:, columns]))
    figures = adjusted(agreement.true(), agreement.shuffled())
    others = [name for name in model.streams if name != stream]
    found: Figures = {}
    for other in others:
        key = next(k for k in figures if set(k.split("|")) == {stream, other})
        found[f"agreement|{other}"] = figures[key] or 0.0
    found["agreement"] = statistics.fmean(found[f"agreement|{other}"] for other in others)
    found["fvu_out"] = statistics.fmean(_fvu(model, codes[stream], o, z[o]) for o in others)
    if codes_of is None:
        found["fvu_self"] = _fvu(model, codes[stream], stream, z[stream])
        found["fvu_in"] = statistics.fmean(_fvu(model, codes[o], stream, z[stream]) for o in others)
    r10 = [retrieval(coded[stream], coded[o])["r10"] or 0.0 for o in others]
    found["r10"] = statistics.fmean(r10)
    return found


@torch.no_grad()
def _fvu(model: AlignedDictionary, codes: TopK, target: str, z_ND: Tensor) -> float:
    stream = model.of(target)
    rebuilt_ND = weighted_rows(codes, stream.dictionary_CD) + stream.pre_bias_D
    centre_D = (stream.mean_D - stream.shift_D) * stream.scale
    return float((rebuilt_ND - z_ND).square().sum() / (z_ND - centre_D).square().sum())


def stitched(run: Path, store: ActivationStore, config: ExtendConfig) -> Figures:
    """The linear baseline; existing stream and penalty by agreement on the pairs kept out."""
    parent = load_model(run)
    width = next(s.d_in for s in store.streams if s.name == config.stream)
    model = extended_model(parent, config.stream, width)
    pairs = draw_pairs(store, config)
    acts = store.gather(pairs.fit).acts[config.stream]
    unit_ND = torch.nn.functional.normalize(torch.from_numpy(acts), dim=1)
    new = model.of(config.stream)
    new.mean_D.copy_(unit_ND.mean(0))
    new.shift_D.copy_(new.mean_D)
    new.scale.copy_((unit_ND - new.mean_D).square().sum(1).mean().rsqrt())
    best: tuple[float, CodesOf] | None = None
    for other in parent.streams:
        fitted = moments(iter([_pair(model, store, config.stream, other, pairs.fit)]))
        x_ND, _ = _pair(model, store, config.stream, other, pairs.choose)
        for penalty in config.penalties:
            codes_of = _through(model, fitted, penalty, config.stream, other)
            held = store.gather(pairs.choose).acts
            z = {n: model.of(n).normalise(torch.from_numpy(held[n])).float() for n in model.streams}
            z[config.stream] = x_ND
            mine = codes_of(z)
            overlap = [_overlap(mine, own_codes(model, o, z[o])) for o in parent.streams]
            if best is None or statistics.fmean(overlap) > best[0]:
                best = statistics.fmean(overlap), codes_of
    assert best is not None
    return measure(model, store, config.stream, best[1])


def _pair(
    model: AlignedDictionary, store: ActivationStore, stream: str, other: str, rows_N: np.ndarray
) -> tuple[Tensor, Tensor]:
    acts = store.gather(rows_N).acts
    x, y = (model.of(n).normalise(torch.from_numpy(acts[n])).float() for n in (stream, other))
    return x, y


def _through(
    model: AlignedDictionary, fitted: Moments, penalty: float, stream: str, other: str
) -> CodesOf:
    weight_YX, intercept_Y = fitted.ridge(penalty)
    return lambda z: own_codes(model, other, z[stream] @ weight_YX.T + intercept_Y)


def _overlap(a: TopK, b: TopK) -> float:
    same_NKK = a.indices_NK[:, :, None] == b.indices_NK[:, None, :]
    shared_N = same_NKK.any(2).sum(1).float()
    return float((shared_N / (2 * a.indices_NK.shape[1] - shared_N)).mean())


def line(run: Path, view: ActivationStore, config: ExtendConfig) -> dict[str, Any]:
    """All figures of one number of pairs and seed."""
    with tempfile.TemporaryDirectory() as folder:
        made = extend(run, view, config, Path(folder) / "run")
        record = json.loads((made / "fit.json").read_text())
        figures = measure(load_model(made), view, config.stream)
        closed_figures = figures
        if config.steps:
            closed = extend(run, view, replace(config, steps=0), Path(folder) / "closed")
            closed_figures = measure(load_model(closed), view, config.stream)
    return {
        "pairs": config.pairs,
        "seed": config.seed,
        "steps": config.steps,
        "seconds": record["seconds"],
        "kept_step": record["kept_step"],
        "extended": figures,
        "closed_forms": closed_figures,
        "linear_map": stitched(run, view, config),
    }


def joint_figures(run: Path, view: ActivationStore, stream: str, out: Path) -> Figures:
    """What the stream reaches where all are fitted together, as `run` was."""
    config = FitConfig.from_json(json.loads((run / CONFIG).read_text())["fit"])
    return measure(load_model(fit(view, config, out)), view, stream)


def entries() -> list[Entry]:
    """Of the largest number of pairs that results hold, against fitting all streams together."""
    if not FILE.is_file():
        return []
    found = []
    for name, result in json.loads(FILE.read_text()).items():
        if result["joint"] is None:
            continue
        most = max(line["pairs"] for line in result["curve"])
        lines = [line for line in result["curve"] if line["pairs"] == most]
        ours = [line["extended"]["agreement"] for line in lines]
        joint = result["joint"]["agreement"]
        one = entry(
            f"extension_agreement_{name}",
            statistics.fmean(ours),
            joint,
            ratio=statistics.fmean(ours) / joint,
            target=TARGET,
            unit=f"adjusted Jaccard ({most} pairs; all streams fitted together)",
            spread=statistics.stdev(a / joint for a in ours) if len(ours) > 1 else 0.0,
        )
        found.append(Entry(**{**one, "date": result["date"], "commit": result["commit"]}))
    return found


def plot(results: dict[str, Any], path: Path) -> None:
    """Agreement by pairs, a panel for each stream that joined."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(5 * len(results), 3.6), squeeze=False)
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        for key, label in LABELS.items():
            counts = sorted({line["pairs"] for line in result["curve"]})
            means = [
                statistics.fmean(
                    line[key]["agreement"] for line in result["curve"] if line["pairs"] == count
                )
                for count in counts
            ]
            axis.plot(counts, means, marker="o", label=label)
        if result["joint"]:
            axis.axhline(
                result["joint"]["agreement"], ls="--", color="grey", label="all fitted together"
            )
        axis.set(title=name, xlabel="pairs", ylabel="adjusted active Jaccard", ylim=(0, None))
        axis.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure one stream, merge, plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--joint", type=Path, help="run of all streams, on the same store")
    parser.add_argument("--pairs", type=int, nargs="+", default=PAIRS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(42,))
    parser.add_argument("--steps", type=int, default=ExtendConfig(stream="x").steps)
    parser.add_argument("--name", help="key in the results; default: the stream")
    args = parser.parse_args()
    store = ActivationStore.open(args.store, verify=False)
    held = load_model(args.run).streams
    names = (*held, args.stream)
    view = store.showing([s for name in names for s in store.streams if s.name == name])
    results = json.loads(FILE.read_text()) if FILE.is_file() else {}
    result = results.setdefault(args.name or args.stream, {"joint": None, "curve": []})
    if args.joint and result["joint"] is None:
        result["joint"] = joint_figures(args.run, view, args.stream, args.joint)
        _write(results, result)
    done = {(each["pairs"], each["seed"], each["steps"]) for each in result["curve"]}
    for count, seed in product(args.pairs, args.seeds):
        if (count, seed, args.steps) in done:
            continue
        config = ExtendConfig(stream=args.stream, pairs=count, seed=seed, steps=args.steps)
        found = line(args.run, view, config)
        others = [x for x in result["curve"] if (x["pairs"], x["seed"]) != (count, seed)]
        result["curve"] = [*others, found]
        result["curve"].sort(key=lambda each: (each["pairs"], each["seed"]))
        print(json.dumps(found), flush=True)
        _write(results, result)


def _write(results: dict[str, Any], changed: dict[str, Any]) -> None:
    changed |= {"date": date.today().isoformat(), "commit": commit(), "hardware": hardware()}
    FILE.write_text(json.dumps(results, indent=1) + "\n")
    plot(results, IMAGES / "extension.png")


if __name__ == "__main__":
    main()
