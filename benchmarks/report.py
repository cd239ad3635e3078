"""Keeps the entries of one group of benchmarks and shows them in a table; measures nothing."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.entry import Entry

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """`benchmarks.GROUP`: its modules' `entries()` go to results/GROUP.json and the page."""

    group: str
    modules: tuple[str, ...]
    folder: Path = FOLDER

    @property
    def results(self) -> Path:
        """Where entries are kept."""
        return self.folder / "results" / f"{self.group}.json"

    @property
    def page(self) -> Path:
        """Where their table stands."""
        return self.folder / "README.md"

    @property
    def markers(self) -> tuple[str, str]:
        """What the table stands between."""
        return f"<!-- {self.group} results: begin -->", f"<!-- {self.group} results: end -->"

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run, keep, show; 1 where a target is missed."""
        names = [name for name in self.modules if importlib.util.find_spec(self._module(name))]
        parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{self.group}")
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
        chosen = parser.parse_args(arguments).names or names
        if unknown := [name for name in chosen if name not in names]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")
        kept: list[Entry] = []
        for name in chosen:
            new: list[Entry] = importlib.import_module(self._module(name)).entries()
            kept = self.keep(new)
            print(table(new), flush=True)
        return int(any(verdict_of(one) != "met" for one in kept))

    def keep(self, new: Sequence[Entry]) -> list[Entry]:
        """Writes the new entries over old ones of their name, and the table; returns all."""
        old: list[Entry] = json.loads(self.results.read_text()) if self.results.is_file() else []
        kept = merged(old, new)
        self.results.parent.mkdir(exist_ok=True)
        self.results.write_text(json.dumps(kept, indent=2) + "\n")
        self.page.write_text(self.written(self.page.read_text(), kept))
        return kept

    def written(self, page: str, entries: Sequence[Entry]) -> str:
        """The page with the table between its markers; ValueError where they are missing."""
        return between(page, self.markers, table(entries))

    def _module(self, name: str) -> str:
        return f"benchmarks.{self.group}.{name}"


def between(page: str, markers: tuple[str, str], text: str) -> str:
    """The page with `text` between its markers; ValueError where they are missing."""
    before, begin, rest = page.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"the page lacks the markers {' and '.join(markers)}: put them back")
    return f"{before}{begin}\n{text}\n{end}{after}"


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
