"""The BentoML service: process, workers and packaging; the endpoints are in `service/routes`.

`bentoml serve service.app:ConceptService`
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from koine.errors import ArtifactError, SettingsError
from service.access.tls import bento_ssl
from service.audit import check_audit
from service.dictionaries import check_artifacts
from service.parent import prepare_parent
from service.routes import create_app
from service.rpc.server import check_port
from service.settings import PREFIX, read_settings
from service.telemetry import logs

T = TypeVar("T")


def _or_exit(make: Callable[..., T], *args: object) -> T:
    try:
        return make(*args)
    except SettingsError as error:
        logs.stop(f"koine: {error.title}: {error}")


logs.configure(logs.asked_format(), "info")
SETTINGS = _or_exit(read_settings)
logs.configure(SETTINGS.log_format, SETTINGS.log_level)
APP = _or_exit(create_app, SETTINGS)


class OwnRoutes:
    """ASGI middleware that gives every request to Koine's app before anything of BentoML's.

    Its routes would shadow `/livez`, `/readyz` and `/metrics`, and its index page loads a tracker;
    its time limit keeps a timer and the request for the whole of it after each answer.
    """

    def __init__(self, app: ASGIApp, own: ASGIApp) -> None:
        self._app, self._own = app, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._own if scope["type"] == "http" else self._app)(scope, receive, send)


@bentoml.service(
    name="koine",
    workers=SETTINGS.workers,
    http={"port": SETTINGS.http_port},
    ssl=_or_exit(bento_ssl, SETTINGS),  # pyright: ignore[reportArgumentType]
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(APP)
class ConceptService:
    """Sparse concept codes of images, texts and activations."""

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """In the workers' parent: refuses to start, in one sentence, without whole artifacts and
        gRPC's port."""
        prepare_parent()
        try:
            paths = check_artifacts(SETTINGS)
            check_port(SETTINGS)
            check_audit(SETTINGS)
        except (ArtifactError, SettingsError) as error:
            logs.stop(f"koine: {error.title}: {error}")
        # workers of a Bento run in its folder: a relative path would mean another place there
        os.environ[f"{PREFIX}ARTIFACT"] = os.pathsep.join(str(path) for path in paths)
        for name in (
            "labels",
            "audit",
            "audit_key",
            "keys_file",
            "tls_cert",
            "tls_key",
            "tls_client_ca",
        ):
            if path := getattr(SETTINGS, name):
                os.environ[f"{PREFIX}{name.upper()}"] = str(path.absolute())


class _OwnFirst(type(ConceptService)):
    """BentoML puts the middleware that it is given inside of its own; ours stands outside."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """What a worker serves."""
        return OwnRoutes(super().to_asgi(is_main), APP)  # pyright: ignore[reportArgumentType]


ConceptService.__class__ = _OwnFirst
