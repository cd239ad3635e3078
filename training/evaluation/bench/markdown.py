"""bench.md: one table of all methods, then matrices, sweeps, settings; reads the bench alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from training.evaluation.bench.lines import Line, lines_of, spread
from training.evaluation.bench.plan import OWN

Bench = dict[str, Any]
MODES = ("independent", "joint")
ON_DIAL = ("fvu_own", "fvu_cross", "agreement_adjusted", "r10_", "dead", "mixed", "usage")
IN_SWEEP = ("fvu_own", "fvu_cross", "agreement_adjusted", "r10_", "label_jaccard_alive", "dead")
"""How the keys of the lines begin that these tables show."""


def markdown(bench: Bench) -> str:
    """The whole page."""
    parts = [
        "# Test bench",
        _intro(bench),
        _main_table(bench),
        *_warnings(bench),
        "## Cross FVU",
        "Rows: codes from; columns: stream rebuilt. Independent encoding, mean over seeds.",
        *_matrices(bench),
    ]
    if bench["sweep"]:
        parts += ["## Sweep over size and k", _sweep_says(bench), _sweep(bench)]
    if bench["frontier"]:
        parts += [
            "## The dial between agreement and reconstruction",
            _dial_says(bench),
            _dial(bench),
        ]
    parts += ["## Methods", _methods(bench)]
    return "\n\n".join(parts) + "\n"


def _intro(bench: Bench) -> str:
    data, settings = bench["data"], bench["settings"]
    seeds = ", ".join(map(str, settings["seeds"]))
    return (
        f"{settings['num_concepts']:,} concepts, k {settings['k']}, {settings['steps']:,} steps of "
        f"{settings['batch_size']} items; seeds {seeds}. "
        f"Judged on {data['held_out_rows']:,} test rows of `{data['store']}`"
        + (", which has no labels: no probes" if not data["labels"] else "")
        + ".\n\n"
        "Each figure is a mean over seeds ± their sample standard deviation. *Independent*: each "
        "stream selects its concepts alone, as in serving. *Joint*: an item's streams select "
        "together, which makes them agree by construction, trained or not. Raw: the encoders' own "
        "activations, through a ridge regression fitted on the training rows for retrieval and "
        "FVU, and a logistic probe on all dimensions. Latents and usage are counted on the "
        f"training rows. {_lr_says(settings['lr_grid'])}"
    )


def _lr_says(grid: list[float]) -> str:
    if len(grid) == 1:
        return f"The learning rate is {grid[0]:g} for all."
    return (
        f"Each method has its own learning rate of {', '.join(f'{lr:g}' for lr in grid)}: the best "
        "on the validation rows (mean of own and cross FVU, independent, first seed)."
    )


def _main_table(bench: Bench) -> str:
    methods = bench["methods"]
    lines = lines_of(bench["pair_types"], _first(bench)["independent"])
    head = ["", "encoding", *(each["title"] for each in methods.values()), "Raw", "Chance"]
    rows = [_row(bench, line, mode) for line in lines for mode in MODES]
    stable = [_number(each["stability"]["mean"]) for each in methods.values()]
    rows.append(["Stability over seeds (matched cosine) ↑", "", *stable, "", ""])
    return _table(head, rows)


def _row(bench: Bench, line: Line, mode: str) -> list[str]:
    cells = [_cell(each["summary"][mode][line.key], line) for each in bench["methods"].values()]
    first = mode == "independent"
    raw = line.raw(bench["raw"]) if line.raw and first else None
    chance = line.chance(_first(bench)[mode]) if line.chance and first else None
    beside = [_number(value, line) if value is not None else "" for value in (raw, chance)]
    return [line.title if first else "", mode, *cells, *beside]


def _cell(figure: dict[str, float | None], line: Line) -> str:
    text = _number(figure["mean"], line)
    return text if figure["spread"] is None else f"{text} ± {_number(figure['spread'], line)}"


def _number(value: float | None, line: Line | None = None) -> str:
    if value is None:
        return "–"
    if line is not None and line.whole:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _warnings(bench: Bench) -> list[str]:
    said = [
        f"- **{each['title']}**: {sentence}"
        for each in bench["methods"].values()
        for sentence in each["warnings"]
    ]
    head = "Read with care (independent encoding, first seed):"
    return ["\n".join([head, "", *said])] if said else []


def _matrices(bench: Bench) -> Iterable[str]:
    streams = list(bench["streams"])
    for each in bench["methods"].values():
        runs = [run["figures"]["independent"]["fvu"] for run in each["runs"]]
        rows = [
            [a, *(_number(spread([run[f"{a}->{b}"] for run in runs])["mean"]) for b in streams)]
            for a in streams
        ]
        yield f"**{each['title']}**\n\n" + _table(["", *streams], rows)
    raw = bench["raw"]["fvu"]
    rows = [[a, *(_number(raw.get(f"{a}->{b}")) for b in streams)] for a in streams]
    yield "**Raw, ridge regression**\n\n" + _table(["", *streams], rows)


def _sweep_says(bench: Bench) -> str:
    taken = bench["settings"]["sweep_seeds"]
    seeds = "the first seed" if taken == 1 else f"the first {taken} seeds"
    return f"Independent encoding, {seeds}, at the learning rate that each method has above."


def _sweep(bench: Bench) -> str:
    shown = _shown(bench, IN_SWEEP)
    head = ["method", "concepts", "k", *(line.title for line in shown), "warnings"]
    rows = [
        [
            bench["methods"][entry["method"]]["title"],
            f"{entry['num_concepts']:,}",
            str(entry["k"]),
            *_point(entry, shown),
        ]
        for entry in bench["sweep"]
    ]
    return _table(head, rows)


def _dial_says(bench: Bench) -> str:
    point = bench["frontier"][0]
    words = "seed" if len(point["seeds"]) == 1 else "seeds"
    seeds = ", ".join(map(str, point["seeds"]))
    return (
        f"{bench['methods'][OWN]['title']} with other weights of pre-codes in the scores that "
        "streams select by. The larger the weight, the more a stream goes by what it alone sees. "
        f"Independent encoding, {words} {seeds}, learning rate {point['lr']:g}."
    )


def _dial(bench: Bench) -> str:
    shown = _shown(bench, ON_DIAL)
    own = bench["methods"][OWN]["config"]["selector"]["pre_code_weight"]
    head = ["pre-code weight", *(line.title for line in shown), "warnings"]
    rows = [[_weight_says(entry, own), *_point(entry, shown)] for entry in bench["frontier"]]
    return _table(head, rows)


def _weight_says(entry: dict[str, Any], own: float) -> str:
    weight = entry["pre_code_weight"]
    return f"{weight:g}" + (" (this run)" if weight == own else "")


def _shown(bench: Bench, wanted: tuple[str, ...]) -> list[Line]:
    lines = lines_of(bench["pair_types"], _first(bench)["independent"])
    return [
        line for line in lines if line.key.startswith(wanted) and not line.key.startswith("r10_se")
    ]


def _point(entry: dict[str, Any], shown: list[Line]) -> list[str]:
    cells = [_cell(entry["summary"]["independent"][line.key], line) for line in shown]
    return [*cells, str(len(entry["warnings"]) or "")]


def _methods(bench: Bench) -> str:
    rows = [
        [each["title"], each["says"], _chosen(each["lr"], bench["settings"]["lr_grid"])]
        for each in bench["methods"].values()
    ]
    return _table(["", "what it is", "learning rate"], rows)


def _chosen(lr: dict[str, Any] | None, grid: list[float]) -> str:
    """A choice at the edge says that the grid was too narrow to know."""
    if lr is None:
        return ""
    edge = len(grid) > 1 and lr["chosen"] in (min(grid), max(grid))
    return f"{lr['chosen']:g}" + (" (edge of the grid: try further)" if edge else "")


def _first(bench: Bench) -> dict[str, Any]:
    return next(iter(bench["methods"].values()))["runs"][0]["figures"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
