"""A dictionary's figures against its controls', from the `bench.json` of `evaluate --bench`.

`python -m benchmarks.training.quality [--bench FILE]`; the file is else that of `KOINE_BENCH`, or
the recipe's `photos`. Measures nothing: the date is the file's; commit and hardware are those that
read it, so read it where it was made. All figures are of independent encoding, means over seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.entry import Entry, entry
from training.evaluation.bench.bench import SCHEMA
from training.evaluation.bench.lines import directions, lines_of
from training.evaluation.bench.plan import OWN

FILE = Path("runs/photos/run/bench/bench.json")
AGREEING = ("sparc", "local", "local_no_cross", "dropout")
"""Baselines whose agreement is to be outdone."""
AGREEMENT = {True: 3.0, False: 5.0}
"""How many times the best one's, by whether a pair is of one modality."""
USAGE = 0.5
"""Of SPARC's, in every stream."""
UNUSED = 0.01
"""Most concepts that may be dead, or mixed, of all."""
PROBE, PROBE_LOSS = "probe16_balanced_accuracy", 0.005
"""Probes on 16 concepts, and how much less than Local TopK's their balanced accuracy may be."""
BELOW = 1 + 1e-9
"""Strictly: a figure does not lie below itself."""
MOST = 100.0
"""Ratios count up to here, so that a baseline of 0 has one."""

Bench = dict[str, Any]
Of = Callable[[dict[str, Any]], float | None]

log = logging.getLogger(__name__)


class Against(NamedTuple):
    """One comparison of those that a line makes; the hardest one stands for the line."""

    who: str
    ours: list[float | None]
    """By seed."""
    baseline: list[float | None]
    target: float


def entries(path: Path | None = None) -> list[Entry]:
    """All lines; none, and a warning, where there is no bench. ValueError for another schema."""
    path = path or Path(os.environ.get("KOINE_BENCH") or FILE)
    if not path.is_file():
        log.warning("no bench at `%s`: make it by `evaluate --bench`, or set KOINE_BENCH", path)
        return []
    bench = json.loads(path.read_text())
    if bench.get("schema") != SCHEMA:
        raise ValueError(f"`{path}` must be {SCHEMA}, got {bench.get('schema')}: make it again")
    day = date.fromtimestamp(path.stat().st_mtime).isoformat()
    return [Entry(**{**one, "date": day}) for one in _lines(bench)]


def _lines(bench: Bench) -> Iterator[Entry]:
    kinds, streams = bench["pair_types"], bench["streams"]
    figures = bench["methods"][OWN]["runs"][0]["figures"]["independent"]
    of = {line.key: line.value for line in lines_of(kinds, figures)}
    others = [name for name in bench["methods"] if name != OWN]

    def against(who: str, value: Of, target: float, *, says: str = "") -> Against:
        return Against(says or who, _seeds(bench, OWN, value), _seeds(bench, who, value), target)

    def under(limit: float, value: Of, target: float = 1.0, *, says: str = "") -> Against:
        ours = _seeds(bench, OWN, value)
        return Against(says, ours, [limit] * len(ours), target)

    for kind, pairs in kinds.items():
        a, b = pairs[0].split("|")
        target, key = AGREEMENT[streams[a] == streams[b]], f"agreement_adjusted_{kind}"
        yield from _hardest(key, "Jaccard", [against(who, of[key], target) for who in AGREEING])
    each = [against("sparc", _usage(s), USAGE, says=f"sparc, {s}") for s in streams]
    yield from _hardest("usage", "concepts", each)
    for key in ("dead", "mixed"):
        share = _share(of[key], bench["settings"]["num_concepts"])
        yield from _hardest(key, "of all concepts", [under(UNUSED, share)], lower=True)
    yield from _hardest("fvu_self", "FVU", [against("sparc", of["fvu_own"], 1.0)], lower=True)
    for kind, pairs in kinds.items():
        each = [
            against(who, _fvu(way), BELOW, says=f"{who}, {way}")
            for who in others
            for way in directions(pairs)
        ]
        yield from _hardest(f"fvu_cross_{kind}", "FVU", each, lower=True)
    ways = directions([pair for pairs in kinds.values() for pair in pairs])
    each = [under(1.0, _fvu(way), BELOW, says=way) for way in ways]
    yield from _hardest("fvu_cross_below_1", "FVU", each, lower=True)
    for kind in kinds:
        key, error = f"r10_{kind}", of[f"r10_se_{kind}"]
        each = [
            against(who, of[key], _less(bench, who, of[key], _seeds(bench, who, error)))
            for who in others
        ]
        yield from _hardest(key, "R@10", each)
    probe = of.get(PROBE, lambda _: None)
    target = _less(bench, "local", probe, [PROBE_LOSS])
    yield from _hardest(PROBE, "balanced accuracy", [against("local", probe, target)])


def _hardest(
    key: str, unit: str, each: Sequence[Against], *, lower: bool = False
) -> Iterator[Entry]:
    """The comparison nearest to, or furthest beyond, being missed; none without figures."""
    found = []
    for one in each:
        ours, baseline = _known(one.ours), _known(one.baseline)
        if not ours or not baseline:
            log.warning("quality_%s: no figure%s", key, f" for {one.who}" if one.who else "")
            continue
        means = statistics.fmean(ours), statistics.fmean(baseline)
        ratio = quotient(*means[::-1] if lower else means)
        found.append((ratio - one.target, len(found), ratio, means, one))
    if not found:
        return
    _, _, ratio, means, one = min(found)
    by_seed = [
        quotient(*(b, a) if lower else (a, b))
        for a, b in zip(one.ours, one.baseline, strict=True)
        if a is not None and b is not None
    ]
    yield entry(
        f"quality_{key}",
        *means,
        ratio=ratio,
        target=one.target,
        unit=f"{unit} ({one.who})" if one.who else unit,
        spread=statistics.stdev(by_seed) if len(by_seed) > 1 else 0.0,
    )


def quotient(over: float, under: float) -> float:
    """over / under, from 0 to `MOST`; figures of nothing or less have no share in anything."""
    if over <= 0:
        return 0.0
    return min(over / under, MOST) if under > 0 else MOST


def _seeds(bench: Bench, who: str, value: Of) -> list[float | None]:
    return [value(run["figures"]["independent"]) for run in bench["methods"][who]["runs"]]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _less(bench: Bench, who: str, value: Of, loss: Sequence[float | None]) -> float:
    """The ratio that a baseline's figure less `loss` is to itself."""
    figure, lost = _known(_seeds(bench, who, value)), _known(loss)
    if not figure or not lost or statistics.fmean(figure) <= 0:
        return 0.0
    return max(0.0, 1 - statistics.fmean(lost) / statistics.fmean(figure))


def _usage(stream: str) -> Of:
    return lambda figures: figures["usage"][stream]


def _fvu(way: str) -> Of:
    return lambda figures: figures["fvu"][way]


def _share(count: Of, total: int) -> Of:
    return lambda figures: None if (found := count(figures)) is None else found / total


def main() -> None:
    """Print entries as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, help="the bench.json to read")
    print(json.dumps(entries(parser.parse_args().bench), indent=2))


if __name__ == "__main__":
    main()
