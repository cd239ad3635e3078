"""`demo`: the whole product on the built-in corpus, in the commands a user would type."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from koine.concepts import read_concepts
from koine.errors import TrainingError
from koine.manifest import CONCEPTS
from training.demo.corpus import CORPUS_SEED, write_corpus
from training.demo.server import DemoServer
from training.demo.streams import JOINS
from training.demo.tour import show_answers

HELP = "extract, fit, name, evaluate, export, extend, serve and ask, on the built-in corpus"
JOIN_ITEMS, JOIN_STEPS = 600, 50
"""Of the encoder that joins later: enough to show it, in seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to work, how large, and on which port to serve."""
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="working directory")
    parser.add_argument("--images", type=int, default=4000, help="scenes to draw")
    port = int(os.environ.get("PORT", "3000"))
    parser.add_argument("--port", type=int, default=port, help="where to serve")


def run(args: argparse.Namespace) -> None:
    """Every stage; each is skipped where its result already stands. Serves until Ctrl-C."""
    out: Path = args.out
    corpus, store, fitted = out / "corpus", out / "store", out / "run"
    started = time.monotonic()
    _say(f"draw {args.images:,} captioned scenes into {corpus}")
    write_corpus(corpus, num_images=args.images, seed=CORPUS_SEED)
    _command("extract", "--recipe", "demo", "--data", str(corpus), "--out", str(store))
    _command("fit", "--recipe", "demo", "--store", str(store), "--out", str(fitted))
    _command("name", str(fitted), "--data", str(corpus))
    _command("evaluate", str(fitted))
    artifact = out / "artifact"
    if not artifact.exists():
        _command("export", str(fitted), "--localisers", "--name", "demo", "--out", str(artifact))
    _join(corpus, fitted, out)
    # once more: only now is there an artifact whose costs the page can state
    page = ("--artifact", str(artifact), "--data", str(corpus))
    _command("evaluate", str(fitted), *page, last_lines=2)
    _say(f"made in {time.monotonic() - started:.0f} s; serve {artifact} on port {args.port}")
    with DemoServer(artifact, args.port, out / "server.log") as server:
        show_answers(server.url, corpus, store, _labels(artifact))
        print(f"\nreport         {fitted / 'report.html'}")
        print(f"API docs       {server.url}/docs")
        print(f"from scenes to answers: {time.monotonic() - started:.0f} s", flush=True)
        if os.environ.get("DEMO_EXIT") != "1":
            print("The server stays up; Ctrl-C stops it.", flush=True)
            _wait(server.alive)


def _join(corpus: Path, fitted: Path, out: Path) -> None:
    """Another vision encoder joins the dictionary, which stays as it is."""
    store, stream = out / "late_store", next(iter(JOINS))
    few = ("--limit", str(JOIN_ITEMS), "--out", str(store))
    _command("extract", "--recipe", "demo", "--join", stream, "--data", str(corpus), *few)
    where = ("--store", str(store), "--stream", stream, "--out", str(out / "extended"))
    _command("extend", str(fitted), *where, "--steps", str(JOIN_STEPS))


def _labels(artifact: Path) -> dict[int, str]:
    named = read_concepts(artifact / CONCEPTS)
    return {concept.id: concept.label for concept in named if concept.label is not None}


def _say(line: str) -> None:
    print(f"\n=== {line}", flush=True)


def _command(*words: str, last_lines: int | None = None) -> None:
    """As it is typed; of what it prints, all or only the last lines."""
    from training.__main__ import main

    _say(f"python -m training {shlex.join(words)}")
    if last_lines is None:
        code = main(words)
    else:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = main(words)
        print("\n".join(printed.getvalue().splitlines()[-last_lines:]))
    if code != 0:
        raise TrainingError(f"`{words[0]}` ended with exit code {code}; its message stands above")
    sys.stdout.flush()


def _wait(alive: Callable[[], bool]) -> None:
    """Until Ctrl-C, SIGTERM, or the server's own end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while alive():
            time.sleep(1)
        raise TrainingError("the server ended by itself; its log says why")
    except KeyboardInterrupt:
        print("\nstopping the server")
