"""How the traffic's concepts differ from the dictionary's reference; counts none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from koine.drift.compare import compare
from koine.drift.report import as_dict
from koine.drift.verdict import DriftConfig
from koine.errors import DriftError
from koine.manifest import PROFILE
from koine.profile import Profile, read_profile
from service.counting import Counting, Window
from service.dictionary import Dictionary
from service.settings import PREFIX


async def drift_of(
    counting: Counting | None, dictionary: Dictionary, window_s: int
) -> dict[str, Any]:
    """The verdict on the last `window_s` seconds, as `/v1/drift` tells it.

    Raises `DriftError` where nothing is counted or the counts cannot be had.
    """
    if counting is None:
        raise DriftError(f"this service counts no concepts; start it without {PREFIX}DRIFT=false")
    try:
        window = await counting.window(dictionary.digest, window_s)
    except OSError as error:
        raise DriftError(f"the counts cannot be read now: {error}; try again later") from error
    reference = await asyncio.to_thread(read_profile, dictionary.encoder.artifact.file(PROFILE))
    judge = partial(_judged, reference, window, dictionary.labels)
    return {
        "dictionary": dictionary.title,
        "digest": dictionary.digest,
        "from": window.start,
        "to": window.end,
        **await asyncio.to_thread(judge),
    }


def _judged(reference: Profile, window: Window, labels: Mapping[int, str]) -> dict[str, Any]:
    seen = window.profile or Profile(reference.dictionary, {})
    return as_dict(compare(reference, seen, DriftConfig()), labels)
