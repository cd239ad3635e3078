"""Every setting of the service, read once from `KOINE_*` variables; opens no file.

docs/api.md lists them for people; a test holds the two together.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from koine.errors import SettingsError
from koine.images import MAX_PIXELS

PREFIX = "KOINE_"
_KUBERNETES = re.compile(r"KOINE_(SERVICE_(HOST|PORT)|PORT)(_.*)?")
"""What Kubernetes puts into pods beside a Service called `koine`."""
_ORIGINS = r"^(\*|https?://[^\s,/]+(\s*,\s*https?://[^\s,/]+)*)$"

log = logging.getLogger(__name__)


class Settings(BaseSettings):
    """The service's settings; nothing writes to them after they are read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    artifact: str | None = None
    """Directory that `export` wrote or `hf://owner/name[@revision]`, or several with `:` between;
    the first is the default."""
    reload_s: float = Field(default=5.0, ge=0, le=3600)
    """How often the artifacts' manifests are looked at for a newer version; 0 never."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """ONNX Runtime execution provider; `auto` is CUDA where a GPU answers, CPU otherwise."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads of each graph; 0 takes every core, or a worker's share of them."""
    decode_threads: int = Field(default=0, ge=0, le=256)
    """Threads that decode images, and as many that tokenize; 0 takes one per core of the worker."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that serve; each loads the artifact and has its own queues."""
    http_port: int = Field(default=3000, ge=0, le=65535)
    """Port of HTTP; `bentoml serve --port` goes before it."""
    grpc_host: str = Field(default="127.0.0.1", min_length=1)
    """Address that gRPC listens on; 0.0.0.0 is every one."""
    grpc_port: int = Field(default=50051, ge=0, le=65535)
    """Port of gRPC, which all workers share; 0 turns it off."""
    grpc_max_message_bytes: int | None = Field(default=None, ge=1024, le=2**31 - 1)
    """Bytes of one gRPC message; None is `max_body_bytes`."""
    grpc_max_streams: int = Field(default=1000, ge=1, le=1_000_000)
    """Calls that one gRPC connection may have under way; the client holds back more."""
    max_batch: int = Field(default=32, ge=1, le=4096)
    """Items that one forward pass takes."""
    batch_wait_ms: float = Field(default=3.0, ge=0, le=1000)
    """How long an idle session waits for items that are still being decoded."""
    max_queue: int = Field(default=512, ge=1, le=1_000_000)
    """Items that may wait in each queue; more are answered with 429."""
    max_wait_s: float = Field(default=10.0, gt=0, le=3600)
    """Seconds that a request may have to wait in a queue, by its own estimate; beyond, 429."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Seconds until a request that is not answered ends with 504; clients may ask for less."""
    lame_duck_s: float = Field(default=1.0, ge=0, le=300)
    """Seconds after SIGTERM in which requests are still taken, though not ready; 0 for none."""
    drain_s: float = Field(default=30.0, ge=0, le=3600)
    """Seconds that requests under way have to end when the service stops."""
    max_items: int = Field(default=256, ge=1, le=1_000_000)
    """Items of one request."""
    max_body_bytes: int = Field(default=64 * 2**20, ge=1024, le=2**32)
    """Bytes of one request body."""
    max_inflight_bytes: int = Field(default=256 * 2**20, ge=1024, le=2**40)
    """Bytes of all requests under way in one process; beyond, 429."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=89_478_485)
    """Width times height of one image; Pillow itself refuses more than the upper bound."""
    jpeg_shrink: int = Field(default=0, ge=0, le=64)
    """JPEGs are decoded at 1/2, 1/4 or 1/8 while their shorter side keeps this many times the
    largest side that a stream resizes to; 0 decodes them whole."""
    max_text_chars: int = Field(default=100_000, ge=1, le=10_000_000)
    """Characters of one text; up to it, what the encoder cannot read is cut off."""
    labels: Path | None = None
    """Directory of label layers, shared by all instances; without one labels cannot be changed."""
    audit: Path | None = None
    """Directory of the audit log, in which every worker is a writer of its own; none by default."""
    audit_policy: Literal["fail_open", "fail_closed"] = "fail_closed"
    """What happens where an event cannot be kept: nothing is answered that is not on disk, or it is
    dropped and counted."""
    audit_key: Path | None = None
    """PEM file that `python -m koine audit key` makes; without one nothing is signed or removed."""
    audit_publish: str | None = None
    """Where signed checkpoints go besides, with commas between: `stdout`, `redis`, files."""
    audit_retention_days: float = Field(default=183.0, gt=0, le=36_500)
    """Signed segments whose last entry is older are removed."""
    drift: bool = True
    """Whether concepts are counted, so that `/v1/drift` can tell how the traffic changes."""
    drift_bucket_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of a bucket; the same in every instance."""
    drift_window_s: int = Field(default=3600, ge=1, le=31_536_000)
    """Seconds of a judged window, whole buckets; `/v1/drift` looks back as long unless it is asked
    for others."""
    drift_segments: int = Field(default=16, ge=0, le=256)
    """Segments of the traffic that are watched beside all of it, half of them API keys and half
    labels of `Koine-Segment`, the first that come; 0 for none."""
    drift_reference: Literal["artifact", "live"] = "artifact"
    """What all traffic is compared with: the artifact's profile, or the first `drift_learn_items`
    that are served. A segment's reference is always the latter."""
    drift_learn_items: int = Field(default=10_000, ge=200, le=10**9)
    """Different items that a reference is learnt from."""
    drift_grace_s: int = Field(default=30, ge=0, le=3600)
    """Seconds after a window's end until it is judged: counts may come late."""
    drift_host: str = Field(default="127.0.0.1", min_length=1)
    """Address that the drift worker listens on; 0.0.0.0 is every one."""
    drift_port: int = Field(default=3001, ge=0, le=65535)
    """Port of the drift worker's `/metrics`, `/livez` and `/readyz`."""
    drift_keep_s: int = Field(default=172_800, ge=60, le=31_536_000)
    """Seconds that counts are kept."""
    keys_file: Path | None = None
    """File of API keys that `python -m service.access` writes; without one everybody is let in."""
    metrics_auth: bool = False
    """Whether `/metrics` needs a key with the scope `read`."""
    cors_origins: str | None = Field(default=None, pattern=_ORIGINS)
    """Origins whose pages may call the service, with commas between, or `*`; none by default."""
    tls_cert: Path | None = None
    """PEM file with the server's certificate and its chain; with `tls_key` both transports use it.
    """
    tls_key: Path | None = None
    """PEM file with the certificate's private key, not encrypted."""
    tls_client_ca: Path | None = None
    """PEM file of authorities; when set, clients must show a certificate that one has signed."""
    log_format: Literal["text", "json"] = "text"
    """What the log's lines are: for people, or a JSON object each."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Which requests get a line: none, those that the service failed, or every one."""
    cache_bytes: int = Field(default=64 * 2**20, ge=0, le=2**40)
    """Memory in each process for codes of items that were encoded before; 0 keeps none."""
    cache_ttl_s: int = Field(default=3600, ge=1, le=31_536_000)
    """Seconds that a tier of the cache keeps an item's codes."""
    redis_url: SecretStr | None = None
    """Redis that shares codes between processes: `redis://`, `rediss://` (TLS) or `unix://`."""
    redis_timeout_ms: float = Field(default=25.0, gt=0, le=10_000)
    """How long a request waits for Redis before it is encoded as if Redis were not there."""

    @model_validator(mode="after")
    def _redis_has_an_address(self) -> Self:
        # a rule of the whole: a field's own would put the password into the message
        if self.redis_url is not None:
            _check_address(self.redis_url.get_secret_value())
        return self

    @model_validator(mode="after")
    def _windows_are_whole_buckets(self) -> Self:
        if self.drift_window_s % self.drift_bucket_s:
            raise ValueError(
                f"`{PREFIX}DRIFT_WINDOW_S` {self.drift_window_s} is no multiple of "
                f"`{PREFIX}DRIFT_BUCKET_S` {self.drift_bucket_s}: a window is whole buckets"
            )
        return self

    @model_validator(mode="after")
    def _a_full_request_fits(self) -> Self:
        if self.max_queue < self.max_items:
            raise ValueError(
                f"`{PREFIX}MAX_QUEUE` {self.max_queue} is smaller than `{PREFIX}MAX_ITEMS` "
                f"{self.max_items}: a full request could never be taken"
            )
        return self

    @property
    def artifacts(self) -> list[str]:
        """Every directory, or place on the hub, in `artifact`."""
        between = rf"{re.escape(os.pathsep)}(?!//)"  # the `:` of hf:// stands between none
        return [part for part in re.split(between, self.artifact or "") if part]

    @property
    def audit_places(self) -> list[str]:
        """Every place in `audit_publish`."""
        return [part.strip() for part in (self.audit_publish or "").split(",") if part.strip()]

    @property
    def origins(self) -> list[str]:
        """Every origin in `cors_origins`."""
        return [part.strip() for part in (self.cors_origins or "").split(",") if part.strip()]


def read_settings() -> Settings:
    """The settings in the environment. Raises `SettingsError`, which names the variables."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ.keys() - known):
        if name.startswith(PREFIX) and not _KUBERNETES.fullmatch(name):
            log.warning("%s is no setting of this service and is ignored", name)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_reason(fault) for fault in error.errors())) from error


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        place = parts.hostname if parts.scheme != "unix" else parts.path
        readable = parts.scheme in ("redis", "rediss", "unix") and place and parts.port != 0
    except ValueError:  # its message holds a part of the address, which may be a secret
        readable = False
    if not readable:
        raise ValueError(
            f"`{PREFIX}REDIS_URL` is no address of Redis (not shown: it may hold a password); set "
            "it to redis://[user:password@]host[:port][/number], with `/`, `#`, `?` and `@` of a "
            "password percent-encoded, or leave it unset"
        )


def _reason(fault: ErrorDetails) -> str:
    name = "_".join(str(part) for part in fault["loc"])
    if not name:
        return str(fault["msg"]).removeprefix("Value error, ")
    return f"{PREFIX}{name.upper()}={fault['input']!r}: {fault['msg']}"
