"""The drift worker: reads artifacts and counts, judges, and tells Prometheus; loads no graph.

Several may run: one judges, the others stand by.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from koine.artifact import Artifact
from koine.concepts import Concept, read_concepts
from koine.errors import ArtifactError, SettingsError
from koine.labels import LabelLayer
from koine.manifest import CONCEPTS, PROFILE
from koine.profile import Profile, read_profile
from service.audit import Audit, check_audit
from service.counting import buckets_of
from service.dictionaries import named_artifacts
from service.drift.figures import Figures
from service.drift.history import history_of
from service.drift.judging import Judging
from service.drift.leader import Leader
from service.drift.references import Watched
from service.drift.watching import Watching
from service.labels import LabelBook
from service.settings import PREFIX, Settings

STALLED_S = 120.0
"""Seconds without a round after which the process should be started anew."""

log = logging.getLogger(__name__)


class Watch:
    """One artifact as judging needs it, read again when its manifest changes."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Raises `ArtifactError`, `LabelsError`."""
        self._path, self._settings = path, settings
        self._open()

    def now(self) -> Watched:
        """For a thread: it reads files. What can no longer be read stays as it was read."""
        try:
            if Artifact.open(self._path, verify=False).digest != self._artifact.digest:
                self._open()
                log.info("judging %s from now on", self._artifact.manifest.title)
        except ArtifactError as error:  # being replaced
            log.debug("the artifact stays as it was read: %s", error)
        if self._settings.labels is not None:
            self._book.refresh()
        labels = self._book.labelled.labels
        manifest = self._artifact.manifest
        return Watched(self._artifact.digest, manifest.title, labels, self._profile)

    def _open(self) -> None:
        artifact = Artifact.open(self._path, verify=False)
        for name in (PROFILE, CONCEPTS):
            artifact.check(name)
        concepts: list[Concept] = read_concepts(artifact.file(CONCEPTS))
        profile: Profile = read_profile(artifact.file(PROFILE))
        layer = None
        if self._settings.labels is not None:
            layer = LabelLayer(self._settings.labels, artifact, concepts)
        self._book = LabelBook(artifact.manifest.title, concepts, layer)
        self._artifact, self._profile = artifact, profile


class Worker:
    """`run` it until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings) -> None:
        """Raises `SettingsError`, `ArtifactError`, `LabelsError`."""
        if settings.redis_url is None:
            raise SettingsError(
                f"the drift worker reads what the service's processes count from Redis; set "
                f"{PREFIX}REDIS_URL (without Redis a service of one worker judges by itself)"
            )
        check_audit(settings)
        self._settings = settings
        self._watches = [Watch(path, settings) for path in named_artifacts(settings)]
        self._leader = Leader(settings.redis_url)
        self._buckets, self._history = buckets_of(settings), history_of(settings)
        self._audit = Audit.of(settings)
        tell = None if self._audit is None else self._audit.record
        judging = Judging(settings, self._buckets, self._history, tell)
        figures = Figures(settings.drift_window_s)
        self.watching = Watching(judging, figures, self._watched, self._leader.leads)

    @property
    def app(self) -> Starlette:
        """`/metrics`, `/livez` and `/readyz`."""
        return Starlette(
            routes=[
                Route("/metrics", self._metrics),
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
            ],
            lifespan=self._lifespan,
        )

    async def run(self) -> None:
        """Serves `app` and judges. Raises `SettingsError` where the port is taken."""
        config = uvicorn.Config(
            self.app,
            host=self._settings.drift_host,
            port=self._settings.drift_port,
            log_config=None,
            access_log=False,
        )
        await uvicorn.Server(config).serve()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        if self._audit is not None:
            await self._audit.open()
        running = asyncio.create_task(self.watching.run(), name="drift")
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self._leader.resign()
            await self._history.close()
            await self._buckets.close()
            if self._audit is not None:
                await self._audit.close()

    async def _metrics(self, request: Request) -> Response:
        content = generate_latest(self.watching.figures.registry)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    async def _livez(self, request: Request) -> Response:
        silent_s = time.monotonic() - self.watching.beat
        return _told(silent_s < STALLED_S, f"the last round began {silent_s:.0f} s ago")

    async def _readyz(self, request: Request) -> Response:
        return _told(self.watching.well, "the last round failed; the log says why")

    async def _watched(self) -> Sequence[Watched]:
        return await asyncio.to_thread(lambda: [watch.now() for watch in self._watches])


def _told(well: bool, otherwise: str) -> Response:
    if well:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "unwell", "detail": otherwise}, status_code=503)
