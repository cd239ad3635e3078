"""BentoML's parent process at its end: its listening socket, and what it tells its workers.

The workers inherit the socket, and have sessions of their own: a terminal's Ctrl-C reaches the
parent alone. Accepts nothing.
"""

from __future__ import annotations

import signal
from typing import Any

from bentoml._internal.utils.circus import Arbiter
from circus.sighandler import SysHandler  # pyright: ignore[reportMissingTypeStubs]

_stop = Arbiter.stop


def prepare_parent() -> None:
    """Has the parent give up the socket when it begins to stop, and pass SIGINT on.

    Else it keeps the socket until the last worker has ended, and the kernel takes connections that
    nobody accepts; and it stops with SIGTERM, after which workers wait for clients, at Ctrl-C too.
    """
    Arbiter.stop = _close_and_stop
    SysHandler.handle_int = _interrupt


def _close_and_stop(self: Arbiter) -> None:
    self.sockets.close_all()
    _stop(self)


def _interrupt(self: Any) -> None:
    for watcher in self.controller.arbiter.iter_watchers():
        watcher.stop_signal = signal.SIGINT
    self.quit()
