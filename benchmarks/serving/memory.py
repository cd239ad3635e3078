"""How much memory a server takes while something happens to it; sends nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from benchmarks.serving.cores import CLIENT_CORE, on_core
from benchmarks.serving.server import Server

_EVERY_S = 0.25


class PeakMemory:
    """Within a `with` block: the most that is resident in all of the server's processes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.start = self.peak = server.rss

    @property
    def growth(self) -> int:
        """Bytes beyond what was resident at the start."""
        return self.peak - self.start

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        with on_core(CLIENT_CORE):
            while not self._over.wait(_EVERY_S):
                self.peak = max(self.peak, self._server.rss)


def reset_peak(pid: int) -> int:
    """Bytes resident in the process; the kernel's record of its peak begins here again."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return status_bytes(pid, "VmRSS")


def status_bytes(pid: int, name: str) -> int:
    """`VmRSS` or `VmHWM`, the kernel's own record, which misses no short peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
