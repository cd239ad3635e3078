"""The BentoML service: process, workers and packaging; the endpoints are in `service/routes.py`.

`bentoml serve service.app:ConceptService`
"""

from __future__ import annotations

import os
import sys

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from koine.errors import ArtifactError, SettingsError
from service.dictionaries import check_artifacts
from service.routes import create_app
from service.rpc.server import check_port
from service.settings import PREFIX, Settings, read_settings


def _settings_or_exit() -> Settings:
    try:
        return read_settings()
    except SettingsError as error:
        sys.exit(f"koine: {error.title}: {error}")


SETTINGS = _settings_or_exit()
APP = create_app(SETTINGS)


class OwnRoutes:
    """ASGI middleware that gives every request to Koine's app before BentoML's own routes.

    They would shadow `/livez`, `/readyz` and `/metrics`, and their index page loads a tracker.
    """

    def __init__(self, app: ASGIApp, own: ASGIApp) -> None:
        self._app, self._own = app, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._own if scope["type"] == "http" else self._app)(scope, receive, send)


@bentoml.service(
    name="koine",
    workers=SETTINGS.workers,
    http={"port": SETTINGS.http_port},
    traffic={"timeout": 120},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(APP)
class ConceptService:
    """Sparse concept codes of images, texts and activations."""

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Refuses to start, in one sentence, without whole artifacts and gRPC's port."""
        try:
            paths = check_artifacts(SETTINGS)
            check_port(SETTINGS)
        except (ArtifactError, SettingsError) as error:
            sys.exit(f"koine: {error.title}: {error}")
        # workers of a Bento run in its folder: a relative path would mean another place there
        os.environ[f"{PREFIX}ARTIFACT"] = os.pathsep.join(str(path) for path in paths)


ConceptService.add_asgi_middleware(OwnRoutes, own=APP)  # pyright: ignore[reportArgumentType]
# (its protocol describes a factory's call, not the middleware's)
