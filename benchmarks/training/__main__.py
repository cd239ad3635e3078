"""`python -m benchmarks.training [NAME…]`: runs the training benchmarks, keeps and shows results.

Collects `entries()` of the modules below that exist, merges them by name into
benchmarks/results/training.json, and writes the table in benchmarks/README.md anew.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.training.entry import Entry

MODULES = ("step", "store", "quality")
FOLDER = Path(__file__).parents[1]
RESULTS = FOLDER / "results" / "training.json"
README = FOLDER / "README.md"
BEGIN, END = "<!-- training results: begin -->", "<!-- training results: end -->"


def merged(old: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Old entries with new ones of the same name in their place, sorted by name."""
    by_name = {one["name"]: one for one in (*old, *new)}
    return [by_name[name] for name in sorted(by_name)]


def table(entries: Sequence[Entry]) -> str:
    """Markdown, with a verdict where there is a target."""
    lines = [
        "| name | ours | baseline | unit | ratio | target | measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in entries:
        target = one["target"]
        verdict = "" if target is None else f"{target:g} {verdict_of(one)}"
        lines.append(
            f"| {one['name']} | {one['ours']:.4g} | {one['baseline']:.4g} | {one['unit']}"
            f" | {one['ratio']:.3g} ± {one['spread']:.2g} | {verdict}"
            f" | {one['date']}, {one['commit']}, {one['hardware']} |"
        )
    return "\n".join(lines)


def verdict_of(one: Entry) -> str:
    """Whether the target is met."""
    return "met" if one["target"] is None or one["ratio"] >= one["target"] else "**missed**"


def written(page: str, entries: Sequence[Entry]) -> str:
    """The page with the table between its markers; ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README} lacks the markers {BEGIN} and {END}: put them back")
    return f"{before}{BEGIN}\n{table(entries)}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, keep, show; 1 where a target is missed."""
    there = [name for name in MODULES if importlib.util.find_spec(f"benchmarks.training.{name}")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(there)}")
    chosen = parser.parse_args(arguments).names or there
    if unknown := [name for name in chosen if name not in there]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(there)}")
    kept: list[Entry] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    new: list[Entry] = []
    for name in chosen:
        new = importlib.import_module(f"benchmarks.training.{name}").entries()
        kept = merged(kept, new)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
        README.write_text(written(README.read_text(), kept))
        print(table(new), flush=True)
    return int(any(verdict_of(one) != "met" for one in kept))


if __name__ == "__main__":
    sys.exit(main())
