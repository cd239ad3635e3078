"""`python -m training <command>`: parses, runs one command, turns errors into exit codes.

Exit 0: done; 2: bad usage or input; 1: any other failure.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from koine.errors import ArtifactError, DataError, EncoderError, InputError, KoineError

COMMANDS = {
    "extract": "training.commands.extract",
    "import": "training.commands.import_",
    "fit": "training.commands.fit",
    "adopt": "training.commands.adopt",
    "evaluate": "training.commands.evaluate",
    "name": "training.commands.name",
    "distill": "training.commands.distill",
    "extend": "training.commands.extend",
    "migrate": "training.commands.migrate",
    "export": "training.commands.export",
    "localize": "training.commands.localize",
    "saelens": "training.commands.saelens",
    "demo": "training.commands.demo",
}
"""Command → module with HELP, add_arguments(parser) and run(args)."""

USAGE_ERRORS = (InputError, DataError, ArtifactError, EncoderError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(given)
    args = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        args.run(args)
    except KoineError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 2 if isinstance(error, USAGE_ERRORS) else 1
    except ValueError as error:
        print(f"Bad value: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The system refused: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Make an aligned concept dictionary."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((word for word in given if word in COMMANDS), None)
    for name, module_name in COMMANDS.items():
        # torch and the encoder libraries take seconds to import: only the command asked for does
        if named not in (None, name):
            commands.add_parser(name)
            continue
        module = importlib.import_module(module_name)
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    # torch's idle threads spin otherwise, and starve image decoders and other processes: extract
    # then ran 5 to 15 times slower on two busy cores. Read when torch loads, which is in `main`.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(main())
