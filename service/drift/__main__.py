"""The drift worker: `python -m service.drift`; with `relearn`, a reference is learnt anew.

Its settings are the service's, `KOINE_*`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging

from koine.artifact import Artifact
from koine.drift.segments import ALL
from koine.errors import KoineError, RequestError, SettingsError
from service.dictionaries import named_artifacts
from service.drift.history import history_of
from service.drift.worker import Worker
from service.settings import PREFIX, Settings, read_settings
from service.telemetry import logs

log = logging.getLogger("service.drift")


def main(arguments: list[str] | None = None) -> None:
    """Judges until it is stopped; exits with one sentence where it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m service.drift", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    anew = commands.add_parser("relearn", help="learn what a segment's traffic usually is anew")
    anew.add_argument("segment", help="`all`, `key:ID` or `label:NAME`")
    asked = parser.parse_args(arguments)
    logs.configure(logs.asked_format(), "info")
    try:
        settings = read_settings()
        logs.configure(settings.log_format, settings.log_level)
        if asked.command == "relearn":
            asyncio.run(_relearn(settings, asked.segment))
        else:
            asyncio.run(Worker(settings).run())
    except (KoineError, OSError) as error:
        title = f"{error.title}: " if isinstance(error, KoineError) else ""
        logs.stop(f"koine: {title}{error}")


async def _relearn(settings: Settings, segment: str) -> None:
    if settings.redis_url is None:
        raise SettingsError(f"references that are learnt lie in Redis; set {PREFIX}REDIS_URL")
    if segment == "all" and settings.drift_reference == "artifact":
        raise RequestError(
            f"all traffic is compared with the artifact's profile; with {PREFIX}DRIFT_REFERENCE="
            "live it is compared with its own beginning"
        )
    history = history_of(settings)
    name = ALL if segment == "all" else segment
    try:
        for path in named_artifacts(settings):
            await history.forget(Artifact.open(path, verify=False).digest, name)
    finally:
        await history.close()
    log.info("the reference of %s is learnt anew from the next window on", segment)


if __name__ == "__main__":
    main()
