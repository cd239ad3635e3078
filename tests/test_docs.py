"""The documentation tells the truth: files exist, commands, flags and recipes are described."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import koine
from training.__main__ import COMMANDS
from training.recipes import RECIPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()


def tree_entries() -> list[str]:
    """Paths of the README's file tree: a block that starts with `koine/`."""
    block = next(b for b in re.findall(r"```\n(.*?)```", README, re.S) if b.startswith("koine/"))
    return [line.split()[0] for line in block.splitlines() if line and not line.startswith(" ")]


def test_readme_tree_lists_real_files() -> None:
    entries = tree_entries()
    assert len(entries) >= 8
    assert [entry for entry in entries if not (ROOT / entry).exists()] == []


def test_every_package_stands_in_the_readme_tree() -> None:
    listed = {entry.rstrip("/") for entry in tree_entries()}
    packages = {str(p.parent.relative_to(ROOT)) for p in ROOT.glob("*/__init__.py")}
    assert packages <= listed


def test_readme_is_at_most_200_lines() -> None:
    assert len(README.splitlines()) <= 200


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_is_documented(name: str) -> None:
    module = importlib.import_module(COMMANDS[name])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert f"`{name}`" in TRAINING
    section = TRAINING.split(f"## `{name}`")[1].split("\n## ")[0]
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    assert [flag for flag in flags if flag != "--help" and f"`{flag}" not in section] == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_documented(name: str) -> None:
    assert f"`{name}`" in TRAINING


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == koine.__version__
    assert f"## {koine.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_names_a_registry_or_this_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    home = str(Path.home())
    places = re.compile(
        r"--?(?:extra-)?index-url|find-links\s*=|https?://[^\s\"')]+/simple\b|" + re.escape(home)
    )
    found = []
    for name in filter(None, tracked):
        path = ROOT / name
        if name == "tests/test_docs.py" or not path.is_file() or path.stat().st_size > 1_000_000:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {m.group()}" for m in places.finditer(text)]
    assert found == []
