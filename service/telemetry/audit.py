"""One record for each thing that must be accounted for later: who changed what, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping

LOGGER = "koine.audit"
log = logging.getLogger(LOGGER)


def write(event: str, fields: Mapping[str, object]) -> None:
    """The event's record, with every field; `KOINE_LOG_LEVEL` does not leave it out."""
    log.info("%s changed", event, extra={"fields": {"event": event, **fields}})
