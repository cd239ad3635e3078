"""The dictionaries that are served, side by side, each replaced without a failed request.

Watches the artifacts' folders: a new manifest is verified, loaded and warmed beside the old
dictionary, which is closed when its last request has been answered. An artifact that cannot be
loaded leaves the old one in place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import koine
from koine.artifact import Artifact, local
from koine.audit.events import MOST_TEXT, ArtifactEvent
from koine.errors import ArtifactError, KoineError, NotReadyError, UnknownDictionaryError
from service import garbage, metrics
from service.audit import Audit
from service.dictionary import Dictionary, load
from service.flow import Pools
from service.settings import PREFIX, Settings

MANIFEST = "manifest.json"

log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """What a manifest looked like: another file, or another time, is another artifact."""

    inode: int
    changed_ns: int
    size: int


class Dictionaries:
    """`load` them, `find` one for each request, `close` them."""

    def __init__(self, settings: Settings, audit: Audit | None = None) -> None:
        self._settings, self._audit = settings, audit
        self._pools = Pools(settings)
        self._served: dict[Path, Dictionary] = {}
        self._seen: dict[Path, _Seen | None] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._reason = "the artifact is being verified and warmed up; try again"

    async def run(self) -> None:
        """Loads every artifact, then watches for new ones until it is cancelled."""
        if await self._load() and self._settings.reload_s:
            while True:
                await asyncio.sleep(self._settings.reload_s)
                await self._look_again()

    def refuse(self, error: KoineError) -> None:
        """Nothing is served, for this reason."""
        log.error("not ready: %s", error)
        self._reason = f"{error.title}: {error}"

    async def _load(self) -> bool:
        start = time.perf_counter()
        loaded: dict[Path, Dictionary] = {}
        try:
            for path in await asyncio.to_thread(named_artifacts, self._settings):
                self._seen[path] = await asyncio.to_thread(_look, path)
                loaded[path] = await self._loaded(path)
            check_titles([dictionary.title for dictionary in loaded.values()])
        except KoineError as error:
            self.refuse(error)
            await self._record("refused", str(error))
            return False
        except Exception:  # the edge of the loading task: nobody awaits it
            log.exception("not ready: loading failed")
            self._reason = "loading failed; the server's log says why"
            return False
        for dictionary in loaded.values():
            self._start(dictionary)
            await self._record("loaded", dictionary.title, dictionary.digest)
        self._served = loaded
        garbage.settle()
        metrics.READY.set(1)
        titles = ", ".join(dictionary.title for dictionary in loaded.values())
        log.info("serving %s, loaded in %.1f s", titles, time.perf_counter() - start)
        return True

    async def _loaded(self, path: Path) -> Dictionary:
        loaded = await asyncio.to_thread(load, path, self._settings)
        return Dictionary(loaded, self._settings, self._pools, self._audit)

    def _start(self, dictionary: Dictionary) -> None:
        dictionary.start()
        metrics.prepare(dictionary.queues)
        metrics.QUEUE_LIMIT.set(self._settings.max_queue)
        provider = dictionary.encoder.provider
        metrics.BUILD.labels(koine.__version__, dictionary.title, provider).set(1)

    async def _look_again(self) -> None:
        for path in list(self._served):
            seen = await asyncio.to_thread(_look, path)
            if seen is None or seen == self._seen[path]:
                continue
            self._seen[path] = seen
            try:
                await self._replace(path)
            except KoineError as error:
                metrics.RELOADS.labels("error").inc()
                log.error("the new artifact at %s is not served: %s", path, error)
                await self._record("refused", str(error))
            except Exception:  # the edge of the watching task: it must go on
                metrics.RELOADS.labels("error").inc()
                log.exception("the new artifact at %s is not served", path)

    async def _replace(self, path: Path) -> None:
        start = time.perf_counter()
        new, old = await self._loaded(path), self._served[path]
        others = [d.title for p, d in self._served.items() if p != path]
        check_titles([*others, new.title])
        if new.encoder.artifact.digest == old.encoder.artifact.digest:
            return
        self._start(new)
        await self._record("loaded", new.title, new.digest)
        self._served[path] = new  # requests that have the old one finish on it
        if old.title != new.title:
            metrics.BUILD.labels(koine.__version__, old.title, old.encoder.provider).set(0)
        metrics.RELOADS.labels("ok").inc()
        seconds = time.perf_counter() - start
        log.info("serving %s instead of %s, loaded in %.1f s", new.title, old.title, seconds)
        await self._record("unloaded", old.title, old.digest)
        closing = asyncio.create_task(self._close(old))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _record(
        self,
        action: Literal["loaded", "unloaded", "refused"],
        title: str,
        digest: str | None = None,
    ) -> None:
        if self._audit is not None:
            event = ArtifactEvent(action=action, dictionary=digest, title=title[:MOST_TEXT])
            await self._audit.artifact(event)

    async def _close(self, old: Dictionary) -> None:
        await old.close()
        del old
        garbage.settle()

    @property
    def served(self) -> list[Dictionary]:
        """All, the default first. Raises `NotReadyError`, with the reason."""
        if not self._served:
            raise NotReadyError(self._reason)
        return list(self._served.values())

    def find(self, name: str | None = None) -> Dictionary:
        """The dictionary called `name` or `name@version`; None is the default.

        Raises `NotReadyError`, `UnknownDictionaryError`.
        """
        served = self.served
        if name is None:
            return served[0]
        for dictionary in served:
            if name in (dictionary.title, dictionary.encoder.artifact.manifest.name):
                return dictionary
        titles = ", ".join(dictionary.title for dictionary in served)
        raise UnknownDictionaryError(f"{name!r} is not served here; this service has {titles}")

    @property
    def alive(self) -> bool:
        """Whether every loop beats; true while loading."""
        return all(dictionary.alive for dictionary in self._served.values())

    async def close(self) -> None:
        """Finishes what was let in and ends every thread."""
        metrics.READY.set(0)
        served = list(self._served.values())
        self._reason = "the service is stopping"
        await asyncio.gather(*(d.close() for d in served), *self._closing)
        self._served = {}
        self._pools.close()


def named_artifacts(settings: Settings) -> list[Path]:
    """The directories that the settings name, fetched where they lie on the hub.

    Raises `ArtifactError` for none.
    """
    if not settings.artifacts:
        raise ArtifactError(
            f"{PREFIX}ARTIFACT is not set; set it to the directory that `export` wrote, such as "
            f"{PREFIX}ARTIFACT=runs/demo/artifact"
        )
    return [local(place).path for place in settings.artifacts]


def check_artifacts(settings: Settings) -> list[Path]:
    """The same as absolute paths, every file verified. Raises `ArtifactError`."""
    artifacts = [Artifact.open(path, verify=True) for path in named_artifacts(settings)]
    check_titles([artifact.manifest.title for artifact in artifacts])
    return [artifact.path.absolute() for artifact in artifacts]


def check_titles(titles: Sequence[str]) -> None:
    """Raises `ArtifactError` where two have the same name and version."""
    for title in titles:
        if titles.count(title) > 1:
            raise ArtifactError(
                f"two artifacts are called {title}; give each a name or version of its own"
            )


def _look(path: Path) -> _Seen | None:
    try:
        stat = (path / MANIFEST).stat()
    except OSError:  # being replaced, or gone: what is served stays
        return None
    return _Seen(stat.st_ino, stat.st_mtime_ns, stat.st_size)
