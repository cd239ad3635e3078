"""`python -m monitoring.replay`: sends a running service traffic that drifts when you want it to.

Exit 0: sent; 2: bad usage; 1: not one item was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from koine.artifact import Artifact
from koine.errors import KoineError, RequestError
from monitoring.replay import drifts
from monitoring.replay.corpus import Corpus
from monitoring.replay.drifts import Degraded, read_drift
from monitoring.replay.sender import Plan, Replay, verdict

FORMS = (drifts.__doc__ or "").split("\n\n", 1)[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends, says when drift begins and ends, and what the service says of it; the exit code."""
    args = _parser().parse_args(arguments)
    try:
        plan = _plan(args)
        degraded = _degraded(args.artifact, plan)
        replay = Replay(args.url, Corpus(args.corpus, args.split), plan, degraded)
        sent = asyncio.run(replay.run(lambda line: print(line, flush=True)))
    except KoineError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(sent)
    key = plan.keys[0] if plan.keys else None
    says = asyncio.run(verdict(args.url, max(1, int(args.window)), key))
    for stream, one in says.get("streams", {}).items():
        print(f"{stream}: {one['state']}; {one['says']}")
    return 0 if sent.items else 1


def _plan(args: argparse.Namespace) -> Plan:
    keys = args.keys.read_text().split() if args.keys else ()
    return Plan(
        rate=args.rate,
        seconds=args.seconds,
        batch=args.batch,
        drift=read_drift(args.drift),
        begins=args.begins,
        ends=args.ends,
        keys=tuple(keys),
        segments=tuple(args.segment),
        texts=not args.images_only,
        seed=args.seed,
    )


def _degraded(artifact: Path | None, plan: Plan) -> Degraded | None:
    if not plan.drift.streams:
        return None
    if artifact is None:
        raise RequestError("`--drift stream=…` computes that stream's activations: name --artifact")
    return Degraded(Artifact.open(artifact), plan.drift.streams)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.replay",
        description="Sends captioned images to /v1/encode, and lets them drift.",
        epilog=f"drifts (several may be given):\n{FORMS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("url", help="such as http://127.0.0.1:3000")
    add("--corpus", type=Path, default=Path("runs/demo/corpus"), help="folder with captions.jsonl")
    add("--split", help="only lines with this `split`")
    add("--rate", type=_positive, default=20.0, help="items a second (20)")
    add("--seconds", type=_positive, default=60.0, help="how long to send (60)")
    add(
        "--batch",
        type=int,
        choices=range(1, 257),
        metavar="N",
        default=4,
        help="items of one request (4)",
    )
    add("--drift", action="append", default=[], help="what to do to items; see below")
    add("--from", dest="begins", type=float, default=0.0, help="second in which drift begins (0)")
    add("--until", dest="ends", type=float, default=float("inf"), help="second in which it ends")
    add("--keys", type=Path, help="file of API keys, one a line: each is a client")
    add("--segment", action="append", default=[], help="header Koine-Segment, several in turns")
    add("--images-only", action="store_true", help="leave captions out")
    add("--artifact", type=Path, help="what the service serves; for --drift stream=…")
    add(
        "--window",
        type=float,
        default=60.0,
        help="seconds of /v1/drift that are shown at the end (60)",
    )
    add("--seed", type=int, default=0, help="of what is drawn (0)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
