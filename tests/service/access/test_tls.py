"""TLS settings are checked before the start, and both transports speak it for real."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from koine.artifact import Artifact
from koine.errors import SettingsError
from service.access.headers import HSTS
from service.access.tls import bento_ssl, check_tls, server_credentials
from service.settings import Settings
from tests.service.access.certificates import Authority, authority
from tests.service.process import BENTOML, ROOT, bentoml_serve, environment


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = authority(tmp_path_factory.mktemp("tls"))
    made.sign("server")
    made.sign("client")
    made.encrypt(made.folder / "server.key")
    (made.folder / "no.pem").write_text("no certificate")
    return made


def settings_of(signed: Authority, **names: str) -> Settings:
    files: dict[str, Any] = {setting: signed.folder / name for setting, name in names.items()}
    return Settings(**files)


def test_none_is_no_tls() -> None:
    assert not check_tls(Settings())
    assert bento_ssl(Settings()) == {"enabled": False}
    assert server_credentials(Settings()) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"tls_cert": "server.pem"}, "TLS_CERT is set and KOINE_TLS_KEY is not; set both"),
        ({"tls_key": "server.key"}, "TLS_KEY is set and KOINE_TLS_CERT is not; set both"),
        ({"tls_client_ca": "ca.pem"}, "TLS_CLIENT_CA is set and KOINE_TLS_CERT is not"),
        ({"tls_cert": "none.pem", "tls_key": "server.key"}, "TLS_CERT=.*none.pem.*No such file"),
        ({"tls_cert": "server.pem", "tls_key": "none.key"}, "TLS_KEY=.*none.key.*No such file"),
        ({"tls_cert": "server.pem", "tls_key": "client.key"}, "the key is not the certificate's"),
        ({"tls_cert": "no.pem", "tls_key": "server.key"}, "no PEM file of its kind"),
        ({"tls_cert": "server.pem", "tls_key": "no.pem"}, "no PEM file of its kind"),
        ({"tls_cert": "server.pem", "tls_key": "server.encrypted"}, "the key is encrypted"),
        (
            {"tls_cert": "server.pem", "tls_key": "server.key", "tls_client_ca": "no.pem"},
            "TLS_CLIENT_CA=.*no certificate can be read",
        ),
    ],
)
def test_what_cannot_work_is_refused(signed: Authority, names: dict[str, str], said: str) -> None:
    settings = settings_of(signed, **names)
    for use in (bento_ssl, server_credentials):
        with pytest.raises(SettingsError, match=said):
            use(settings)


def test_the_server_refuses_to_start_in_one_sentence(
    signed: Authority, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    run = subprocess.run(
        [str(BENTOML), "serve", "service.app:ConceptService", "--host", "127.0.0.1"],
        cwd=ROOT,
        env=environment(
            tmp_path,
            KOINE_ARTIFACT=str(tiny_artifact.path),
            KOINE_TLS_CERT=str(signed.folder / "server.pem"),
            KOINE_TLS_KEY=str(signed.folder / "client.key"),
        ),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 1
    told = run.stdout + run.stderr
    assert "koine: The settings cannot be used: KOINE_TLS_CERT=" in told
    assert "Traceback" not in told


def test_http_over_tls_refuses_clients_without_a_certificate(
    signed: Authority, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder = signed.folder
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_TLS_CERT": str(folder / "server.pem"),
        "KOINE_TLS_KEY": str(folder / "server.key"),
        "KOINE_TLS_CLIENT_CA": str(folder / "ca.pem"),
    }
    trust = signed.trust(folder / "client.pem", folder / "client.key")
    with bentoml_serve(tmp_path, settings=settings, tls=trust) as server:
        answer = server.client.post("/v1/encode", json={"inputs": [{"text": "a dog"}]})
        assert answer.status_code == 200, answer.text
        assert answer.headers["strict-transport-security"] == HSTS
        url = server.client.base_url
        with pytest.raises(httpx.TransportError), httpx.Client(verify=signed.trust()) as client:
            client.get(f"{url}/livez")
        with pytest.raises(httpx.TransportError), httpx.Client() as client:
            client.get(f"http://{url.host}:{url.port}/livez")
        old = signed.trust(folder / "client.pem", folder / "client.key")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("ECDHE+AES+SHA1")  # CBC, what BentoML's default is made of
        with pytest.raises(httpx.TransportError), httpx.Client(verify=old) as client:
            client.get(f"{url}/livez")
        assert server.client.get("/livez").status_code == 200


@pytest.mark.parametrize("asks_clients", [False, True])
def test_grpc_credentials_open_a_port_for_those_who_may(
    signed: Authority, asks_clients: bool
) -> None:
    names = {"tls_cert": "server.pem", "tls_key": "server.key"}
    credentials = server_credentials(
        settings_of(signed, **names, **({"tls_client_ca": "ca.pem"} if asks_clients else {}))
    )
    assert credentials is not None
    read = {
        name: (signed.folder / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")
    }
    stranger = grpc.ssl_channel_credentials(read["ca.pem"])
    guest = grpc.ssl_channel_credentials(read["ca.pem"], read["client.key"], read["client.pem"])

    async def code(port: int, channel_credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", channel_credentials) as channel:
            try:
                await channel.unary_unary("/no/method")(b"", timeout=30)
            except grpc.aio.AioRpcError as error:
                return error.code()
        raise AssertionError("a method that does not exist has answered")

    async def codes() -> list[grpc.StatusCode]:
        server = grpc.aio.server()
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        found = [await code(port, stranger), await code(port, guest)]
        await server.stop(0)
        return found

    # whoever gets through the handshake is told that there is no such method
    first = grpc.StatusCode.UNAVAILABLE if asks_clients else grpc.StatusCode.UNIMPLEMENTED
    assert asyncio.run(codes()) == [first, grpc.StatusCode.UNIMPLEMENTED]
