"""What a client refuses to be, and a key that shows nowhere."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import grpc
import pytest

from koine.client import AsyncClient, Client, Text
from koine.client.config import read_config
from koine.client.wire_proto import refusal
from koine.errors import ClientError, KoineError, OverloadedError, TooLargeError
from tests.koine.client.canned import canned, encoded, problem
from tests.koine.client.conftest import Run

KEY = "kk-5ecret-9f"


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("localhost:3000", {}, "no scheme"),
        ("ftp://host", {}, "no http"),
        ("http://", {}, "no http"),
        ("http://host:port", {}, "cannot be read"),
        (f"http://me:{KEY}@host", {}, "give the key as `api_key`"),
        ("http://host/?a=1", {}, "query or fragment"),
        ("grpc://host/v1", {}, "has a path"),
        ("grpc://host", {"transport": "http"}, "no address for transport 'http'"),
        ("http://host", {"api_key": KEY}, "unencrypted to host"),
        ("grpc://10.0.0.1", {"api_key": KEY}, "use grpcs://"),
        ("http://127.0.0.1.example.com", {"api_key": KEY}, "unencrypted"),
        ("https://host", {"api_key": f"{KEY}\n"}, "newline"),
        ("https://host", {"api_key": ""}, "printable"),
        ("https://host", {"api_key": f"{KEY}é"}, "ASCII"),
        ("https://host", {"cert": "c.pem"}, "both `cert` and `key`"),
        ("http://host", {"ca": "c.pem"}, "use https://"),
        ("https://host", {"ca": "/nowhere/c.pem"}, "give"),
        ("grpcs://host", {"ca": "/nowhere/c.pem"}, "give"),
        ("http://host", {"timeout": 0.0}, "seconds above 0"),
        ("http://host", {"timeout": float("nan")}, "seconds above 0"),
        ("http://host", {"retries": -1}, "at least 0"),
        ("http://host", {"max_items": 0}, "at least 1"),
        ("http://host", {"concurrency": 0}, "at least 1"),
        ("http://host", {"segment": "two words"}, "segment's label"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_refusals_say_what_to_do(kind: Any, url: str, options: Any, told: str) -> None:
    with pytest.raises(ClientError, match=told) as caught:
        kind(url, **options)
    assert KEY not in str(caught.value)


def test_addresses() -> None:
    for url, wanted in (
        ("http://host", "http://host:80"),
        ("HTTPS://Host/base/", "https://host:443/base"),
        ("grpcs://[::1]:9", "grpcs://[::1]:9"),
        ("grpc://host", "grpc://host:50051"),
    ):
        assert read_config(url, {}).target.url == wanted
    assert read_config("host:1", {"transport": "grpc"}).target.url == "grpc://host:1"
    for url in ("http://127.0.0.2", "http://localhost:1", "http://[::1]"):
        assert read_config(url, {"api_key": KEY}).target.is_loopback
    assert read_config("http://10.0.0.1", {"api_key": KEY, "allow_plaintext": True})


def test_a_key_travels_and_shows_nowhere(call: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with canned(lambda asked, n: encoded if n else problem(401, "unauthorized")) as server:
        with pytest.raises(KoineError) as caught:
            call(server.url, "encode", [Text("a")], client={"api_key": KEY})
        call(f"{server.url}/base/", "encode", [Text("a")], client={"api_key": KEY})
    assert [asked.headers["authorization"] for asked in server.asked] == [f"Bearer {KEY}"] * 2
    assert server.asked[1].path == "/base/v1/encode"
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    config = read_config("https://host", {"api_key": KEY})
    clients = [Client("https://host", api_key=KEY), AsyncClient("grpcs://host", api_key=KEY)]
    told += repr(config) + repr(clients) + repr(vars(clients[0])) + repr(vars(clients[1]))
    assert KEY not in told


def test_importing_koine_loads_no_transport() -> None:
    code = """
import sys, koine
assert not {"httpx", "grpc", "PIL"} & sys.modules.keys()
import koine.client
koine.client.Client("http://localhost").close()
assert not {"grpc", "torch", "bentoml", "starlette", "scipy", "service"} & sys.modules.keys()
koine.client.Client("grpc://localhost").close()
assert not {"torch", "bentoml", "starlette", "service", "training"} & sys.modules.keys()
"""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=120)


def test_grpc_status_to_errors() -> None:
    def told(code: grpc.StatusCode, details: str = "d", **trailers: str) -> Any:
        names = {name.replace("_", "-"): value for name, value in trailers.items()}
        return refusal(code.name, details, names)

    failure = told(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_ms="250")
    assert isinstance(failure.error, OverloadedError)
    assert (failure.retry, failure.retry_after_s, failure.error.retry_after_s) == (True, 0.25, 0.25)
    failure = told(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 1)")
    assert (type(failure.error), failure.retry) == (TooLargeError, False)
    failure = told(grpc.StatusCode.INVALID_ARGUMENT, koine_error_type="urn:koine:error:too-large")
    assert type(failure.error) is TooLargeError
    for code in grpc.StatusCode:
        failure = told(code, retry_after_ms="soon")
        assert isinstance(failure.error, KoineError)
        assert failure.retry_after_s is None
        retried = code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        assert failure.retry == retried
