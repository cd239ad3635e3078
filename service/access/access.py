"""Decides who may do what: keys, scopes and rates; knows neither HTTP nor gRPC.

A key is looked up by the SHA-256 of what the client sent. How long a dictionary takes to find a
hash or not says something of the hash at most, and nobody can choose a secret by its hash, so
there is no comparison whose time would tell a secret; the secret itself is stored nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from koine.errors import ForbiddenError, RateLimitError, SettingsError, UnauthorizedError
from service import metrics
from service.access.bound import is_loopback, listening_host
from service.access.keys import ANONYMOUS, SECRET, Key, Scope, hash_of, read_keys, stamp_of
from service.access.rates import Bucket
from service.settings import Settings

POLL_S = 2.0
"""How often the keys file is looked at."""
_SEND = "send `Authorization: Bearer KEY` or `X-API-Key: KEY`"

log = logging.getLogger(__name__)


class _Buckets(NamedTuple):
    items: Bucket | None
    requests: Bucket | None


class Access:
    """One process's keys and what each may still send. Every decision is synchronous and cheap."""

    def __init__(
        self,
        keys_file: Path | None,
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises `SettingsError` where the keys file cannot be used."""
        self._path, self._workers, self._clock, self._now = keys_file, workers, clock, now
        self._keys: dict[str, Key] = {}
        self._buckets: dict[str, _Buckets] = {}
        self._polling: asyncio.Task[None] | None = None
        self.followers: set[Callable[[Mapping[str, Key], Mapping[str, Key]], None]] = set()
        """Called with the keys of before and of now, by hash, when they change."""
        self._fault: str | None = None
        if keys_file is not None:
            self._stamp = stamp_of(keys_file)
            self._take_over(read_keys(keys_file))
            if not self._keys:
                raise SettingsError(
                    f"the keys file {keys_file} has no key; "
                    "`python -m service.access create` adds one, no file at all lets everybody in"
                )

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Raises `SettingsError` where `keys_file` is set and cannot be used."""
        return cls(settings.keys_file, workers=settings.workers)

    @property
    def open(self) -> bool:
        """Whether everybody may do everything, since no keys are configured."""
        return self._path is None

    async def start(self) -> None:
        """Begins to follow the keys file; without one, warns where others can reach the port."""
        if self._path is not None:
            self._warn_of_mode(self._path)
            self._polling = asyncio.create_task(self._poll(), name="keys")
        elif not is_loopback(host := listening_host()):
            log.warning(
                "no API keys are configured and the service listens on %s: whoever reaches it "
                "may use it; set KOINE_KEYS_FILE",
                host,
            )

    async def close(self) -> None:
        """Stops following the keys file."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    def key_of(self, authorization: str | None, api_key: str | None = None) -> Key:
        """Whose request this is, by its `Authorization` and `X-API-Key` headers.

        `X-API-Key` goes first: an `Authorization` beside it may be meant for a proxy. Raises
        `UnauthorizedError`, whose message holds nothing of what was sent.
        """
        if self.open:
            return ANONYMOUS
        try:
            return self._known(_secret_in(authorization, api_key))
        except UnauthorizedError:
            metrics.REJECTED.labels("auth").inc()
            raise

    def key_of_metadata(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> Key:
        """Whose call this is, by gRPC metadata. Raises `UnauthorizedError`."""
        found: dict[str, str | None] = {"authorization": None, "x-api-key": None}
        for name, value in metadata or ():
            if name.lower() in found:
                # a header given twice has no one meaning
                twice = found[name.lower()] is not None
                text = value if isinstance(value, str) else value.decode("latin-1")
                found[name.lower()] = "" if twice else text
        return self.key_of(found["authorization"], found["x-api-key"])

    def check(self, key: Key, scope: Scope) -> None:
        """Raises `ForbiddenError` where the key lacks the scope."""
        if scope not in key.scopes:
            metrics.REJECTED.labels("forbidden").inc()
            held = ", ".join(f"`{held}`" for held in sorted(key.scopes))
            raise ForbiddenError(
                f"this needs the scope `{scope}`, the key {key.name} ({key.id}) has {held}; "
                "use another key, or ask for one with that scope"
            )

    def spend(self, key: Key, items: int = 0, *, requests: int = 0) -> None:
        """Takes items and requests from what the key may send in a minute.

        Raises `RateLimitError` and takes nothing where either is used up. A transport spends the
        request where it lets it in, and its items once they are counted.
        """
        buckets = self._buckets.get(key.id)
        if buckets is None:
            return
        now = self._clock()
        asked = ((buckets.items, items, "items"), (buckets.requests, requests, "requests"))
        for bucket, amount, what in asked:
            if bucket and amount and (wait_s := bucket.wait_s(amount, now)):
                metrics.REJECTED.labels("rate_limit").inc()
                limit = key.items_per_minute if what == "items" else key.requests_per_minute
                raise RateLimitError(
                    f"the key {key.name} ({key.id}) may send {limit} {what} a minute, which are "
                    f"used up; send the request again in {wait_s:.3g} s",
                    wait_s,
                )
        for bucket, amount, _ in asked:
            if bucket:
                bucket.take(amount)

    def refresh(self) -> None:
        """Takes the keys file over where it has changed; one that cannot be used changes nothing.

        For the thread that the decisions are made in; it reads a file.
        """
        if (keys := self._changed()) is not None:
            self._take_over(keys)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if (keys := await asyncio.to_thread(self._changed)) is not None:
                    self._take_over(keys)
            except Exception:  # the edge: a fault must not end the loop, and with it revocation
                log.exception("an unforeseen error while reading the keys file")

    def _changed(self) -> dict[str, Key] | None:
        """The keys of a file that has changed; logs why they cannot be used, once."""
        assert self._path is not None
        try:
            stamp = stamp_of(self._path)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            keys = read_keys(self._path)
        except SettingsError as error:
            if self._fault != str(error):
                log.error("%s; the keys of before stay in use", error)
            self._fault = str(error)
            return None
        self._fault = None
        self._warn_of_mode(self._path)
        log.info("the keys file has changed: %d keys", len(keys))
        if not keys:
            log.warning("the keys file %s has no key any more: nobody is let in", self._path)
        return keys

    def _known(self, secret: str) -> Key:
        key = self._keys.get(hash_of(secret))
        if key is None:
            raise UnauthorizedError("the API key is not known here; check it, or ask for a new one")
        if key.disabled:
            raise UnauthorizedError(
                f"the API key {key.name} ({key.id}) is revoked; ask for a new one"
            )
        if key.expires is not None and key.expires <= self._now():
            raise UnauthorizedError(
                f"the API key {key.name} ({key.id}) ended on {key.expires:%Y-%m-%d %H:%M %Z}; "
                "ask for a new one"
            )
        return key

    def _take_over(self, keys: dict[str, Key]) -> None:
        for follower in self.followers:
            follower(self._keys, keys)
        now = self._clock()
        self._buckets = {
            key.id: _Buckets(
                self._bucket(key.items_per_minute, self._owed(key).items, now),
                self._bucket(key.requests_per_minute, self._owed(key).requests, now),
            )
            for key in keys.values()
        }
        self._keys = keys

    def _owed(self, key: Key) -> _Buckets:
        return self._buckets.get(key.id, _Buckets(None, None))

    def _bucket(self, limit: int | None, present: Bucket | None, now: float) -> Bucket | None:
        if limit is None:
            return None
        share = limit / self._workers  # workers share nothing, and requests spread evenly
        if present is None:
            return Bucket(share, now)
        present.refit(share, now)
        return present

    def _warn_of_mode(self, path: Path) -> None:
        if self._stamp.mode & 0o077:
            log.warning(
                "the keys file %s has mode %04o: others may read whose keys exist; `chmod 600` it",
                path,
                self._stamp.mode,
            )


def _secret_in(authorization: str | None, api_key: str | None) -> str:
    """The secret in these headers. Raises `UnauthorizedError`."""
    if api_key is not None:
        secret = api_key.strip()
    elif authorization is not None:
        kind, _, secret = authorization.strip().partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer":
            raise UnauthorizedError(f"the `Authorization` header is no `Bearer KEY`; {_SEND}")
    else:
        raise UnauthorizedError(f"no API key was sent; {_SEND}")
    if not SECRET.fullmatch(secret):
        raise UnauthorizedError(
            "what was sent is no API key: one has `koine_` and 43 more characters; check it"
        )
    return secret
