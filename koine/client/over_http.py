"""Carries calls over HTTP, one try each; decides no retry.

The synchronous form runs the asynchronous one in a thread of its own: httpx bounds each read, so
a server that drips bytes would outlast any deadline, and a running read could not be stopped.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any

import httpx

import koine
from koine.client.calls import Call
from koine.client.config import Config, Tls
from koine.client.errors import Failure
from koine.client.wire_json import JsonWire
from koine.errors import ClientError, DeadlineError, ServiceUnavailableError

_LONGEST_MS = 999_999_999
"""The service reads nine digits."""


class AsyncHttp:
    """One pool of connections for one event loop."""

    wire: JsonWire

    def __init__(
        self,
        config: Config,
        transport: httpx.AsyncBaseTransport | None = None,
        trust: ssl.SSLContext | bool | None = None,
    ) -> None:
        """`transport`: carries the requests in place of sockets, such as `httpx.ASGITransport`."""
        self.wire = JsonWire()
        self._url = config.target.url
        headers = {"User-Agent": f"koine-client/{koine.__version__}", "Accept": "application/json"}
        headers |= config.headers
        self._client = httpx.AsyncClient(
            base_url=self._url,
            headers=headers,
            verify=ssl_context(config.tls) if trust is None else trust,
            transport=transport,
            timeout=None,  # `send` bounds the whole
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            # a proxy from the environment must not see what stays on this machine
            trust_env=not config.target.is_loopback,
        )

    async def send(self, call: Call, timeout_s: float) -> Any:
        """The call's result, or a `Failure`."""
        method, path, params, body, if_match = self.wire.request(call)
        headers = {"Koine-Timeout-Ms": str(min(_LONGEST_MS, max(1, int(timeout_s * 1000))))}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if if_match is not None:
            headers["If-Match"] = if_match
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.request(
                    method, path, params=params, content=body, headers=headers
                )
        except TimeoutError:
            return Failure(
                DeadlineError(
                    f"{self._url} did not answer within {timeout_s:.3g} s; give more time "
                    "(`timeout`), or send fewer items"
                )
            )
        except httpx.HTTPError as error:
            return self._broken(error)
        return self.wire.read(call, answer.status_code, answer.headers, answer.content)

    def _broken(self, error: httpx.HTTPError) -> Failure:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        if _untrusted(error):
            return Failure(
                ClientError(
                    f"the certificate of {self._url} is not trusted ({reason}); give the file of "
                    "its authority as `ca`"
                )
            )
        if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError):
            return Failure(
                ServiceUnavailableError(
                    f"no answer from {self._url} ({reason}); check the address and that the "
                    "service runs"
                ),
                retry=True,
            )
        return Failure(ClientError(f"{self._url} cannot be asked ({reason}); check the URL"))

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.aclose()


class SyncHttp:
    """The same for any number of threads."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._trust = ssl_context(config.tls)
        self.wire = JsonWire()
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._closed = False

    def send(self, call: Call, timeout_s: float) -> Any:
        """The call's result, or a `Failure`."""
        try:
            return self._running().send(call, timeout_s)
        except CancelledError:
            return Failure(ClientError("the client was closed during the call; make a new one"))

    def close(self) -> None:
        """Ends what is under way and closes every connection."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None and loop.alive:
            loop.close()

    def _running(self) -> _Loop:
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._loop is None or not self._loop.alive:
                self._loop = _Loop(self._config, self._trust)
            return self._loop


class _Loop:
    """An event loop in a daemon thread, and the connections that live in it."""

    def __init__(self, config: Config, trust: ssl.SSLContext | bool) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._ended = False
        self.http = AsyncHttp(config, trust=trust)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="koine-client", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False in a process that was forked off: the thread stayed behind."""
        return self._pid == os.getpid()

    def send(self, call: Call, timeout_s: float) -> Any:
        """What `AsyncHttp.send` returns; cancels it where the waiting thread is interrupted.

        Raises `CancelledError` where the loop ends meanwhile.
        """
        with self._lock:  # what is handed over is ahead of the end, or refused
            if self._ended:
                raise CancelledError
            work = self._tracked(self.http.send(call, timeout_s))
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _tracked(self, work: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        """Ends what is under way, then the thread."""
        with self._lock:
            self._ended = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        # our own only: those of the libraries beneath must be ended by who started them
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.http.close()


def ssl_context(tls: Tls) -> ssl.SSLContext | bool:
    """Whom to trust: the public authorities, or those in `ca` alone. Raises `ClientError`."""
    if not tls.given:
        return True
    try:
        if tls.ca is not None:
            context = ssl.create_default_context(cafile=tls.ca)
        else:
            context = httpx.create_ssl_context()
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(str(path) for path in tls if path is not None)
        raise ClientError(
            f"the TLS files {names} cannot be used: {error}; give PEM files"
        ) from error
    return context


def _untrusted(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
