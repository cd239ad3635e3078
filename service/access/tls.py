"""TLS of both transports from three settings, checked before anything listens."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koine.errors import SettingsError
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    import grpc

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, the oldest version that Python's `ssl` lets in; BentoML's own default, `TLSv1`,
takes CBC suites only. TLS 1.3 has its own list."""


def check_tls(settings: Settings) -> bool:
    """Whether TLS is configured. Raises `SettingsError` where what is configured cannot work."""
    cert, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is None and key is None:
        if client_ca is not None:
            raise SettingsError(
                f"{PREFIX}TLS_CLIENT_CA is set and {PREFIX}TLS_CERT is not: clients can be asked "
                f"for a certificate over TLS only; set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY too"
            )
        return False
    if cert is None or key is None:
        missing, present = ("TLS_CERT", "TLS_KEY") if cert is None else ("TLS_KEY", "TLS_CERT")
        raise SettingsError(f"{PREFIX}{present} is set and {PREFIX}{missing} is not; set both")
    for name, path in (("TLS_CERT", cert), ("TLS_KEY", key), ("TLS_CLIENT_CA", client_ca)):
        if path is not None:
            _read(name, path)
    _check_pair(cert, key)
    if client_ca is not None:
        _check_authorities(client_ca)
    return True


def bento_ssl(settings: Settings) -> dict[str, Any]:
    """What `@bentoml.service(ssl=…)` takes. Raises `SettingsError` as `check_tls` does."""
    if not check_tls(settings):
        return {"enabled": False}
    # absolute, since the workers of a Bento run in its folder
    found: dict[str, Any] = {
        "enabled": True,
        "certfile": str(_set(settings.tls_cert).absolute()),
        "keyfile": str(_set(settings.tls_key).absolute()),
        "ciphers": CIPHERS,
    }
    if settings.tls_client_ca is not None:
        found["ca_certs"] = str(settings.tls_client_ca.absolute())
        found["cert_reqs"] = int(ssl.CERT_REQUIRED)
    return found


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What a gRPC port is opened with; None without TLS. Raises `SettingsError`."""
    if not check_tls(settings):
        return None
    import grpc  # here, so that HTTP alone needs no grpc package

    pair = (_read("TLS_KEY", _set(settings.tls_key)), _read("TLS_CERT", _set(settings.tls_cert)))
    if settings.tls_client_ca is None:
        return grpc.ssl_server_credentials([pair])
    authorities = _read("TLS_CLIENT_CA", settings.tls_client_ca)
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authorities, require_client_auth=True
    )


def _set(path: Path | None) -> Path:
    assert path is not None, "check_tls has let this through"
    return path


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}{name}={path}: the file cannot be read: {error.strerror}; "
            "set it to a PEM file that the service may read"
        ) from error


def _check_pair(cert: Path, key: Path) -> None:
    try:
        # an encrypted key would be asked for on a terminal that a service does not have
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        said = {
            "KEY_VALUES_MISMATCH": "the key is not the certificate's",
            "BAD_PASSWORD_READ": "the key is encrypted",
            "BAD_DECRYPT": "the key is encrypted",
        }.get(str(reason), "one of them is no PEM file of its kind, or the key is encrypted")
        raise SettingsError(
            f"{PREFIX}TLS_CERT={cert} and {PREFIX}TLS_KEY={key}: {said}; "
            "set them to a certificate and its own key, not encrypted"
        ) from error


def _check_authorities(path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise SettingsError(
            f"{PREFIX}TLS_CLIENT_CA={path}: no certificate can be read in it; "
            "set it to a PEM file of authorities"
        ) from error
