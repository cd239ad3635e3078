"""Where a client sends to and with what right; checks it before anything is sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict
from urllib.parse import urlsplit

from pydantic import SecretStr

from koine.drift.segments import SEGMENT_HEADER, check_label
from koine.errors import ClientError, RequestError

TransportName = Literal["http", "grpc"]
_PORTS = {"http": 80, "https": 443, "grpc": 50051, "grpcs": 50051}


class Target(NamedTuple):
    """A service's address."""

    scheme: str
    host: str
    port: int
    path: str
    """What stands before `/v1`, behind a gateway."""

    @property
    def transport(self) -> TransportName:
        """What carries the requests."""
        return "grpc" if self.scheme.startswith("grpc") else "http"

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme.endswith("s")

    @property
    def address(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """All of it."""
        return f"{self.scheme}://{self.address}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this very machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Tls(NamedTuple):
    """Files that say whom to trust and who the client is."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return any(path is not None for path in self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of a client's settings; its `repr` holds no secret. Raises `ClientError`."""

    target: Target
    api_key: SecretStr | None = None
    segment: str | None = None
    """What the traffic belongs to; the service judges drift for it too."""
    timeout_s: float = 30.0
    """For a whole call with all its requests and tries."""
    retries: int = 4
    """Of one request, after the first try."""
    max_items: int | None = None
    """Items of one request, below what the service takes."""
    concurrency: int = 4
    """Requests of one call that are under way at once."""
    tls: Tls = Tls()
    allow_plaintext: bool = False
    """Sends the key unencrypted to another machine."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("retries", self.retries, 0),
            ("max_items", self.max_items, 1),
            ("concurrency", self.concurrency, 1),
        ):
            if value is not None and value < least:
                raise ClientError(f"`{name}` must be at least {least}, got {value}")
        if not self.timeout_s > 0:
            raise ClientError(f"`timeout` must be seconds above 0, got {self.timeout_s}")
        if (self.tls.cert is None) != (self.tls.key is None):
            raise ClientError("a client certificate needs both `cert` and `key`")
        if self.tls.given and not self.target.encrypted:
            raise ClientError(
                f"`ca`, `cert` and `key` are for TLS, and {self.target.url} has none; use "
                f"{self.target.scheme}s://"
            )
        if self.segment is not None:
            try:
                check_label(self.segment)
            except RequestError as error:
                raise ClientError(str(error)) from None
        self._check_key()

    def _check_key(self) -> None:
        if self.api_key is None:
            return
        key = self.api_key.get_secret_value()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ClientError(
                "`api_key` must be printable ASCII without spaces; was a newline read with it?"
            )
        if not (self.target.encrypted or self.target.is_loopback or self.allow_plaintext):
            raise ClientError(
                f"the API key would travel unencrypted to {self.target.host}; use "
                f"{self.target.scheme}s://, or `allow_plaintext=True` on a network that you trust"
            )

    @property
    def headers(self) -> dict[str, str]:
        """What goes with every request, by names in lower case."""
        found: dict[str, str] = {}
        if self.api_key is not None:
            found["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        if self.segment is not None:
            found[SEGMENT_HEADER] = self.segment
        return found


def read_target(url: str, transport: TransportName | None = None) -> Target:
    """The parts of `http(s)://…`, `grpc(s)://…`, or of `host:port` with a transport.

    Raises `ClientError`.
    """
    if "://" not in url:
        if transport is None:
            raise ClientError(f"{url!r} has no scheme; write http(s):// or grpc(s):// before it")
        url = f"{transport}://{url}"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as error:
        raise ClientError(f"the URL cannot be read: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ClientError("the URL holds a name or a password; give the key as `api_key`")
    if scheme not in _PORTS or not host:
        raise ClientError(f"{url!r} is no http(s):// or grpc(s):// URL with a host")
    if parts.query or parts.fragment:
        raise ClientError(f"{url!r} has a query or fragment; give the service's address alone")
    target = Target(scheme, host, port or _PORTS[scheme], parts.path.rstrip("/"))
    if transport is not None and target.transport != transport:
        raise ClientError(f"{url!r} is no address for transport {transport!r}")
    if target.transport == "grpc" and target.path:
        raise ClientError(f"{url!r} has a path, which gRPC does not; give host and port")
    return target


class ClientOptions(TypedDict, total=False):
    """How a client is, as keyword arguments."""

    transport: TransportName | None
    """By the URL's scheme where None."""
    api_key: str | SecretStr | None
    segment: str | None
    """What the traffic belongs to, such as a page or a camera: the service judges drift for it too.
    """
    timeout: float
    """Seconds that a whole call may take, with all its requests and tries; default 30."""
    retries: int
    """Of one request, after the first try; default 4."""
    max_items: int | None
    """Items of one request, where fewer than the service takes are wanted."""
    concurrency: int
    """Requests of one call that are under way at once; default 4."""
    ca: str | Path | None
    """PEM file of the authorities to trust in place of the public ones."""
    cert: str | Path | None
    """PEM file of the client's own certificate."""
    key: str | Path | None
    """PEM file of its private key."""
    allow_plaintext: bool
    """Sends the key unencrypted to another machine."""


def read_config(url: str, options: ClientOptions) -> Config:
    """The settings of a client. Raises `ClientError`, `TypeError` for an unknown one."""
    check_names(options, ClientOptions)
    paths = (options.get("ca"), options.get("cert"), options.get("key"))
    key = options.get("api_key")
    return Config(
        target=read_target(url, options.get("transport")),
        api_key=SecretStr(key) if isinstance(key, str) else key,
        segment=options.get("segment"),
        timeout_s=float(options.get("timeout", 30.0)),
        retries=options.get("retries", 4),
        max_items=options.get("max_items"),
        concurrency=options.get("concurrency", 4),
        tls=Tls(*(None if path is None else Path(path) for path in paths)),
        allow_plaintext=options.get("allow_plaintext", False),
    )


def check_names(given: Mapping[str, object], known: type) -> None:
    """Raises `TypeError` for a keyword argument that is none."""
    names: dict[str, object] = known.__annotations__
    for name in given:
        if name not in names:
            raise TypeError(f"there is no argument `{name}`; there are {', '.join(names)}")
