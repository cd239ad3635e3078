"""TLS with an authority of one's own, over HTTP and gRPC, with and without client certificates."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from koine.client import Client
from koine.errors import ClientError, KoineError
from tests.koine.client.canned import INFO
from tests.koine.client.conftest import Run
from tests.service.process import free_port


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, and `server` and `client` with `.pem` and `.key`, good for a day."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is missing; install Debian's package openssl")
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    ca = ("-addext", "keyUsage=critical,keyCertSign")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "1", "-subj", "/CN=ca", *ca)
    for name in ("server", "client"):
        openssl(
            *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "1",
            "-subj", f"/CN={name}", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", names,
            "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=["http", "grpc"])
def secure(request: pytest.FixtureRequest, pki: Path) -> Iterator[str]:
    """A server that asks for a client certificate of the same authority."""
    serve = _serve_http if request.param == "http" else _serve_grpc
    yield from serve(pki)


def _serve_http(pki: Path) -> Iterator[str]:
    async def ready(request: Any) -> Any:
        return JSONResponse(INFO)

    app = Starlette(routes=[Route("/readyz", ready)])
    port = free_port()
    config = uvicorn.Config(
        app, port=port, log_config=None, ws="none",
        ssl_certfile=pki / "server.pem", ssl_keyfile=pki / "server.key",
        ssl_ca_certs=str(pki / "ca.pem"), ssl_cert_reqs=ssl.CERT_REQUIRED,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"https://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(60)


def _serve_grpc(pki: Path) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    pair = ((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (pki / "ca.pem").read_bytes(), True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"grpcs://127.0.0.1:{port}"
    server.stop(0).wait()


def test_a_trusted_server_and_a_known_client(call: Run, secure: str, pki: Path) -> None:
    own = {"ca": pki / "ca.pem", "cert": pki / "client.pem", "key": pki / "client.key"}
    assert call(secure, "ready", client=own | {"api_key": "k"}) is True
    named = secure.replace("127.0.0.1", "localhost")
    assert call(named, "ready", client=own) is True


def test_strangers_get_nowhere(secure: str, pki: Path) -> None:
    with Client(secure, ca=pki / "ca.pem", timeout=5.0, retries=0) as client:
        assert not client.ready()  # without a certificate of its own
    with Client(secure, timeout=5.0) as client:
        if secure.startswith("https"):
            with pytest.raises(ClientError, match="give the file of its authority as `ca`"):
                client.info()
        else:  # gRPC tells no more than that there is no connection
            with pytest.raises(KoineError, match=r"(?i)certificate|handshake|connect"):
                list(client.concepts())
