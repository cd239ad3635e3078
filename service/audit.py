"""What the service records in its audit log; knows no file format and no transport.

Every worker is a writer of its own. Under `fail_closed` an answer waits until its events are on
disk, and is refused where they cannot be kept; under `fail_open` nothing waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from koine.audit.config import AuditConfig
from koine.audit.encodes import Encoded, encode_events
from koine.audit.entries import node_name
from koine.audit.events import (
    MOST_TEXT,
    ArtifactEvent,
    ConfigEvent,
    Event,
)
from koine.audit.journal import Written, event_bytes
from koine.audit.log import AuditLog
from koine.audit.signing import read_signing_key
from koine.audit.sinks import FileSink, RedisSink, Sink, StdoutSink
from koine.errors import AuditError, KoineError, RequestError, SettingsError, WriterBusyError
from koine.types import Mode
from service import metrics, telemetry
from service.access.keys import read_keys
from service.contents import Contents
from service.flow import Answer
from service.key_record import changes, digest_of, read_state, recorded, state_of, write_state
from service.settings import PREFIX, Settings

TOP = 8
"""Concepts of each stream that are kept of an answer, the strongest first."""
INLINE_EVENTS = 256
"""Events made in the event loop, about a millisecond; a thread would cost more."""
MOST_WRITERS = 1024
STATS_S = 1.0
"""How often the log's figures go into the metrics."""

log = logging.getLogger(__name__)


class Audit:
    """`open` it in an event loop, `record` what happens, `close` it."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root, self._settings = root, settings
        self._log: AuditLog | None = None
        self._keys = ThreadPoolExecutor(1, "audit-keys")
        self._telling: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Audit | None:
        """The log that the settings ask for; None where they want none."""
        return None if settings.audit is None else cls(settings.audit, settings)

    async def open(self) -> None:
        """Recovers what an earlier process left, and records the settings. Raises `AuditError`."""
        self._log = await asyncio.to_thread(self._opened)
        self._telling = asyncio.create_task(self._tell(), name="audit")
        shown = self._settings.model_dump(mode="json")
        given = {name: str(value)[:MOST_TEXT] for name, value in shown.items() if value is not None}
        keys = await asyncio.to_thread(self._keys_now)
        await self.record(ConfigEvent(settings=given, keys=keys))
        self.follow_keys()

    async def record(self, *events: Event) -> None:
        """Keeps events of one kind, all or none; raises `AuditError` under `fail_closed` where they
        cannot be kept."""
        if events:
            await self._keep(events[0].kind, [event_bytes(event) for event in events])

    async def _keep(self, kind: str, events: Sequence[bytes]) -> None:
        assert self._log is not None, "opened before anything is recorded"
        written = self._log.submit(events)
        metrics.AUDIT_EVENTS.labels(kind).inc(len(events))
        if self._log.config.policy == "fail_closed":
            await _on_disk(written, self._log.config.wait_s)

    async def encoded(
        self,
        digest: str,
        streams: Sequence[str],
        mode: Mode,
        contents: Sequence[Contents | None],
        answers: Sequence[Answer],
        seconds: float,
    ) -> None:
        """Records a request's items, each with its codes or its error. Raises `AuditError`.

        `streams`: the dictionary's; activations of others are no content that it reads.
        """
        request = telemetry.current()
        key, trace = (None, None) if request is None else (request.key_id, request.trace_id)
        known = {"image", "text", *(f"activations.{name}" for name in streams)}

        def events() -> list[bytes]:
            return encode_events(
                [_kept(c, a, known) for c, a in zip(contents, answers, strict=True)],
                dictionary=digest,
                mode=mode,
                key=key,
                latency_us=round(seconds * 1e6),
                trace=trace,
                top=TOP,
            )

        made = await asyncio.to_thread(events) if len(answers) > INLINE_EVENTS else events()
        await self._keep("encode", made)

    async def artifact(self, event: ArtifactEvent) -> None:
        """Records what befell a dictionary; one that cannot be kept is logged and serves on."""
        try:
            await self.record(event)
        except AuditError as error:
            log.error(
                "a dictionary was %s, which the audit log does not say: %s", event.action, error
            )

    def follow_keys(self, *_: object) -> None:
        """Records how the API keys differ from what the log says of them; waits for nothing."""
        if self._settings.keys_file is not None:
            self._keys.submit(self._record_keys)

    async def close(self) -> None:
        """Writes and signs what is left, and lets go of the log."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await asyncio.to_thread(self._keys.shutdown)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    def _opened(self) -> AuditLog:
        config, node = _config(self._settings), node_name()
        signer = (
            None if self._settings.audit_key is None else read_signing_key(self._settings.audit_key)
        )
        for n in range(MOST_WRITERS):
            try:
                opened = AuditLog(
                    self._root, f"{node}-{n}", config, signer=signer, sinks=_sinks(self._settings)
                )
            except WriterBusyError:  # another worker's
                continue
            except OSError as error:
                raise AuditError(f"{self._root} cannot be written: {error}") from error
            log.info("the audit log is %s", self._root / f"{node}-{n}")
            return opened
        raise AuditError(f"{self._root} has {MOST_WRITERS} busy writers of {node}")

    def _keys_now(self) -> str | None:
        path = self._settings.keys_file
        try:
            return None if path is None else digest_of(state_of(read_keys(path)))
        except SettingsError:  # damaged since they were read for use, which a poll will tell
            return None

    def _record_keys(self) -> None:
        """One process of those that see a change records it, also one that none of them saw."""
        assert self._log is not None, "opened before keys are followed"
        assert self._settings.keys_file is not None
        try:
            with recorded(self._root) as path:
                # read under the lock, so that a slow process does not tell of earlier keys
                state = state_of(read_keys(self._settings.keys_file))
                events = changes(read_state(path), state)
                if not events:
                    return
                written = self._log.submit([event_bytes(event) for event in events])
                written.result(self._log.config.wait_s)
                metrics.AUDIT_EVENTS.labels("key").inc(len(events))
                write_state(path, state)
        except SettingsError as error:  # the keys of before stay in use
            log.warning("the audit log does not follow the API keys: %s", error)
        except (AuditError, OSError) as error:
            log.error("API keys changed, which the audit log does not say: %s", error)
        except Exception:  # the edge of a thread: nobody else would tell
            log.exception("an unforeseen error while API keys were recorded")

    async def _tell(self) -> None:
        assert self._log is not None
        while True:
            stats = self._log.stats()
            metrics.AUDIT_BUFFER.set(stats.buffered)
            metrics.AUDIT_ENTRIES.set(stats.size)
            metrics.AUDIT_SIGNED.set(stats.signed)
            metrics.AUDIT_DROPPED.set(stats.dropped)
            metrics.AUDIT_UNPUBLISHED.set(stats.unpublished)
            await asyncio.sleep(STATS_S)


def check_audit(settings: Settings) -> None:
    """Raises `SettingsError` for a log that no worker could open."""
    if settings.audit is None:
        return
    if not settings.audit.is_dir():
        raise SettingsError(
            f"{PREFIX}AUDIT={settings.audit} is no directory to keep a log in; make it first"
        )
    try:
        _sinks(settings)
        if settings.audit_key is not None:
            read_signing_key(settings.audit_key)
    except RequestError as error:
        raise SettingsError(f"{PREFIX}AUDIT_KEY: {error}") from error


async def _on_disk(written: Future[Written], wait_s: float) -> None:
    waited = asyncio.wrap_future(written)
    # a request that is given up must not take its events out of the batch that is being written
    await asyncio.wait([waited], timeout=wait_s)
    if not waited.done():
        raise AuditError(
            f"the audit log's disk did not answer within {wait_s:g} s, so nothing is answered "
            "either; try again later"
        )
    waited.result()


def _kept(content: Contents | None, answer: Answer, known: Set[str]) -> Encoded:
    content = content or {}
    if not content.keys() <= known:
        content = {name: digest for name, digest in content.items() if name in known}
    if isinstance(answer, KoineError):
        return Encoded(content, type(answer).__name__, {})
    return Encoded(content, "ok", answer)


def _config(settings: Settings) -> AuditConfig:
    return AuditConfig(policy=settings.audit_policy, retention_days=settings.audit_retention_days)


def _sinks(settings: Settings) -> list[Sink]:
    """Raises `SettingsError` for Redis without an address."""
    sinks: list[Sink] = []
    for place in settings.audit_places:
        if place == "stdout":
            sinks.append(StdoutSink())
        elif place != "redis":
            sinks.append(FileSink(Path(place)))
        elif settings.redis_url is None:
            raise SettingsError(
                f"{PREFIX}AUDIT_PUBLISH names redis, and {PREFIX}REDIS_URL is not set"
            )
        else:
            sinks.append(RedisSink(settings.redis_url.get_secret_value()))
    return sinks
