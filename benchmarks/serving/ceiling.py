"""What the generator itself can do: against a server that answers anything with the same bytes.

`python -m benchmarks.serving.ceiling` prints requests a second and the generator's share of its
core; rates near it in any entry would be the generator's, not the service's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.serving.clients import HttpClient
from benchmarks.serving.cores import SERVER_CORE, on_core
from benchmarks.serving.load import Request, Run, closed_loop, drive
from benchmarks.serving.server import free_port

_TRIVIAL = """
import asyncio, sys
BODY = b'{"results": []}'
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(BODY) + BODY
class Trivial(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.left = transport, 0
    def data_received(self, data):
        while data:
            if not self.left:
                head, _, data = data.partition(b"\\r\\n\\r\\n")
                self.left = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
            taken = min(self.left, len(data))
            self.left, data = self.left - taken, data[taken:]
            if not self.left:
                self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def trivial_server() -> Iterator[str]:
    """Its URL; it reads bodies and looks at nothing."""
    port = free_port()
    with on_core(SERVER_CORE):
        process = subprocess.Popen(
            [sys.executable, "-c", _TRIVIAL, str(port)], stdout=subprocess.PIPE, text=True
        )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def ceiling(body_bytes: int, clients: int, seconds: float) -> Run:
    """A closed loop with bodies of that size."""
    with trivial_server() as url:
        loop = partial(
            closed_loop, requests=[Request(b"x" * body_bytes)], clients=clients, seconds=seconds
        )
        return drive(partial(HttpClient, url), loop)


if __name__ == "__main__":
    for size in (100, 10_000, 100_000, 1_000_000):
        run = ceiling(size, clients=32, seconds=3)
        share = run.generator_share
        print(f"{size:>9,} bytes: {run.goodput:8.0f} requests/s, generator at {share:.0%}")
