"""Keeps Python's collector of cycles off what lives as long as the process; frees nothing itself.

A third of the time of a refusal went to passes over modules, graphs and dictionaries that no
request makes and none leaves behind, and such a pass stops every other request (docs/log.md).
"""

from __future__ import annotations

import gc

YOUNG = 20_000
"""Objects made since the last pass over the young ones; the interpreter's own 700 come together
every second request."""


def settle() -> None:
    """Frees what is unreachable now and leaves the rest out of later passes; some 20 ms."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
