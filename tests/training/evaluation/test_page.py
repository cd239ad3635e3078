"""report.html: asks for nothing from outside, says what must be said, renders in a browser."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from tests.training.evaluation.stores import write_store
from tests.training.evaluation.test_checklist import with_names
from training.configs import FitConfig
from training.evaluation.decision import line_texts, sentences
from training.evaluation.evaluate import evaluate
from training.evaluation.page import page
from training.evaluation.pictures import Pictures
from training.evaluation.report import write_report
from training.evaluation.summary import console
from training.trainer import fit

LOADING = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}


class Loads(HTMLParser):
    """Collects whatever a browser would fetch for a page, and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0
        self.feed(html)
        self.found += re.findall(r"url\(\s*[\"']?([^)\"']+)", html)
        self.found += re.findall(r"@import\s+(\S+)", html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.found += [value or "" for name, value in attrs if name in LOADING]

    @property
    def outside(self) -> list[str]:
        return [found for found in self.found if not found.startswith(("#", "data:"))]


def test_the_page_loads_nothing_and_runs_nothing(report: dict[str, Any]) -> None:
    loads = Loads(page(report))
    assert loads.outside == []
    assert loads.scripts == 0
    assert loads.found  # clip paths and markers of the plots: the parser does see links


def test_the_check_for_outside_loads_can_fail() -> None:
    html = '<img src="https://x.org/a.png"><style>@import "b.css"; p { background: url(c.png) }'
    assert Loads(html).outside == ["https://x.org/a.png", "c.png", '"b.css";']


def test_the_page_says_why_joint_figures_are_high(report: dict[str, Any]) -> None:
    text = re.sub(r"\s+", " ", page(report))
    assert "nearly 1 by construction" in text
    untrained = report["controls"]["untrained"]["joint"]["active_jaccard"]["mean"]
    assert f"a joint agreement of {untrained:.3f}" in text


def test_the_page_shows_every_dictionary_and_stream(report: dict[str, Any]) -> None:
    html = page(report)
    for name in (
        "This dictionary",
        "Untrained",
        "Local TopK",
        "No cross",
        "SPARC",
        "alpha",
        "gamma",
    ):
        assert name in html
    assert html.count("<svg") == 4


def test_collapse_is_said_on_the_page_and_the_console(report: dict[str, Any]) -> None:
    sound = copy.deepcopy(report)
    sound["independent"]["active_jaccard_adjusted"]["mean"] = 0.0
    assert "better than it is" not in page(sound)
    assert "WARNING" not in console(sound)
    collapsed = copy.deepcopy(report)
    collapsed["independent"]["active_jaccard_adjusted"]["mean"] = 0.9
    collapsed["independent"]["active_jaccard_shuffled"]["mean"] = 0.4
    assert "This alignment looks better than it is" in page(collapsed)
    assert "Items that have nothing to do with each other share concepts too" in page(collapsed)
    assert "Jaccard 0.40 between unrelated items" in page(collapsed)
    assert "WARNING: Adjusted agreement is 0.90, but" in console(collapsed)


def test_the_same_report_gives_the_same_page(report: dict[str, Any]) -> None:
    assert page(report) == page(report)


def test_names_cannot_smuggle_markup_into_the_page(report: dict[str, Any]) -> None:
    entries = report["independent"]["label_recovery"]["alpha"]["labels"]
    kept, entries[0]["label"] = entries[0]["label"], "<script>alert(1)</script>"
    try:
        assert Loads(page(report)).scripts == 0
    finally:
        entries[0]["label"] = kept


def test_the_first_screen_answers(report: dict[str, Any]) -> None:
    first = page(report).split("Go or no-go")[0]
    assert '<p class="word">NO-GO</p>' in first
    for sentence in sentences(report):
        assert str(escape(sentence)) in first
    assert len(sentences(report)) == 3
    shared = report["independent"]["overlap"]["mean"]
    assert f"another one sees {10 * shared:.1f} too, each looking alone" in first
    assert first.count("<figure>") == 3


@pytest.mark.parametrize(
    ("unit", "value", "shown"), [("%", 0.5004, "50.0 %"), ("%", 0.6, "60 %"), ("", 0.4996, "0.500")]
)
def test_a_figure_near_its_threshold_is_shown_closer(unit: str, value: float, shown: str) -> None:
    line = {"unit": unit, "value": value, "low": None, "high": None}
    texts = line_texts(line | {"threshold": 0.5, "bound": "at least"})
    assert texts["found"] == shown


def test_a_joint_figure_never_stands_alone(report: dict[str, Any]) -> None:
    told = sentences(report)[0]
    untrained = report["controls"]["untrained"]
    for figures in (report, untrained):
        for mode in ("independent", "joint"):
            assert f"{10 * figures[mode]['overlap']['mean']:.1f}" in told


def test_names_and_pictures_stand_on_the_page(report: dict[str, Any]) -> None:
    named = with_names(report)
    item = named["disagreement"]["alpha|beta"]["apart"][0]["item"]
    dot = "data:image/jpeg;base64,AAAA"
    html = page(named, Pictures({"0.jpg": dot}, {item: dot}, left_out=2))
    assert f'<img src="{dot}" alt="item-0">' in html  # made up: no caption, so its id
    assert f'alt="{item}"' in html
    assert "thing 1" in html
    assert "rejected by a person" in html
    assert "2 pictures are not shown" in html
    assert "<img" not in page(named)
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", html))
    assert Loads(html).outside == []


def test_a_name_that_is_markup_stays_text(report: dict[str, Any]) -> None:
    named = with_names(report)
    named["names"]["best"][0]["label"] = "<script>alert(1)</script>"
    named["disagreement"]["alpha|beta"]["apart"][0]["caption"] = '"><img src=https://x.org/a>'
    loads = Loads(page(named))
    assert loads.scripts == 0
    assert loads.outside == []


def test_few_items_are_said_to_be_few(report: dict[str, Any]) -> None:
    assert "Only 120 items were held out." in page(report)
    many = report | {"data": report["data"] | {"held_out_rows": 400}}
    assert "items were held out.</b>" not in page(many)


def test_tables_name_their_heads_and_headings_skip_no_level(report: dict[str, Any]) -> None:
    html = page(with_names(report))
    heads = re.findall(r"<th\b[^>]*>", html)
    assert heads
    assert [head for head in heads if "scope=" not in head] == []
    levels = [int(level) for level in re.findall(r"<h(\d)", html)]
    assert levels[0] == 1
    assert all(later - before <= 1 for before, later in pairwise(levels))


@pytest.mark.parametrize("streams", [1, 2])
def test_few_streams_no_labels_and_dead_figures_still_make_a_page(
    streams: int, tmp_path: Path
) -> None:
    store = write_store(tmp_path / "store", items=60, labelled=False, streams=streams)
    run = fit(store, FitConfig(num_concepts=16, k=3, steps=3, batch_size=16), tmp_path / "run")
    report = evaluate(run, device="cpu")
    assert (report["joint"]["active_jaccard"]["mean"] is None) == (streams == 1)
    write_report(run, report)
    html = (run / "report.html").read_text()
    assert "Main figures" in html
    assert ("Does the shared space hold?" in html) == (streams > 1)
    assert ("Do two streams activate" in html) == (streams > 1)
    assert "None" not in html
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)


@pytest.fixture
def browser() -> Callable[[Path], tuple[str, list[str]]]:
    """Opens a file in Chromium; the page as rendered, and what its console said."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium: install the system package `chromium` to run this test")
    assert path is not None, "CI must have Chromium: run tests/system_packages.sh as root"

    def open_page(file: Path) -> tuple[str, list[str]]:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += [f"--user-data-dir={file.parent / 'profile'}", "--enable-logging=stderr"]
        command = [path, *options, "--dump-dom", f"file://{file}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, re.findall(r"CONSOLE.*", done.stderr)

    return open_page


def test_a_browser_renders_the_page_without_complaint(
    browser: Callable[[Path], tuple[str, list[str]]], report: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text(page(report))
    rendered, console = browser(tmp_path / "report.html")
    assert "Do these models share concepts?" in rendered
    assert rendered.count("</svg>") == 4
    assert console == []


def test_the_pages_own_policy_stops_outside_loads_loudly(
    browser: Callable[[Path], tuple[str, list[str]]], report: dict[str, Any], tmp_path: Path
) -> None:
    html = page(report).replace("</main>", '<img src="https://example.org/a.png"></main>')
    (tmp_path / "report.html").write_text(html)
    _, console = browser(tmp_path / "report.html")
    assert any("Content Security Policy" in line for line in console)
