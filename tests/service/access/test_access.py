"""Keys, scopes and rates, decided in process."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from koine.errors import ForbiddenError, RateLimitError, SettingsError, UnauthorizedError
from service import metrics
from service.access.access import Access
from service.access.keys import ANONYMOUS, SCOPES, Scope, new_secret
from service.access.rates import Bucket
from tests.service.access.keyring import Clock, access_of, add


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


def refused(reason: str) -> float:
    """How often something was refused for this reason so far."""
    return metrics.REJECTED.labels(reason)._value.get()


def test_without_a_file_everybody_may_do_everything() -> None:
    access = access_of(None)
    assert access.open
    for header in (None, "", "Basic x", "Bearer nonsense"):
        key = access.key_of(header)
        assert key is ANONYMOUS
        for scope in SCOPES:
            access.check(key, scope)
        access.spend(key, 10**9, requests=10**9)


def test_a_key_is_known_by_either_header(keys: Path) -> None:
    secret = add(keys, "search")
    access = access_of(keys)
    for found in (
        access.key_of(f"Bearer {secret}"),
        access.key_of(f" bearer   {secret} "),
        access.key_of(None, secret),
        access.key_of("Basic dXNlcjpwYXNz", secret),  # for a proxy in front
        access.key_of_metadata([("x-other", "1"), ("authorization", f"Bearer {secret}")]),
        access.key_of_metadata([("x-api-key", secret.encode())]),
    ):
        assert (found.name, found.scopes) == ("search", {"encode", "read"})
        assert secret not in repr(found)


def test_what_is_no_key_is_refused_without_an_echo(keys: Path) -> None:
    secret = add(keys, "search")
    access = access_of(keys)
    before = refused("auth")
    wrong = new_secret()
    headers = (
        None,
        "",
        "Bearer",
        f"Basic {secret}",
        secret,
        f"Bearer {secret}x",
        f"Bearer {wrong}",
    )
    for header in headers:
        with pytest.raises(UnauthorizedError) as raised:
            access.key_of(header)
        assert secret not in str(raised.value)
        assert wrong not in str(raised.value)
    twice = [("authorization", f"Bearer {secret}")] * 2
    for metadata in (None, [], twice):
        with pytest.raises(UnauthorizedError):
            access.key_of_metadata(metadata)
    assert refused("auth") == before + len(headers) + 3


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Access:
    path = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    add(path, "search")
    return access_of(path)


@given(
    header=st.text() | st.text().map(lambda text: f"Bearer {text}"), api_key=st.none() | st.text()
)
@example(header="Bearer koine_" + "é" * 43, api_key=None)
@example(header="Bearer koine_" + "a" * 43 + "\n", api_key=None)
@example(header="\udcff", api_key="\udcff")
def test_garbage_in_headers_is_refused(closed: Access, header: str, api_key: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        closed.key_of(header, api_key)


@given(st.lists(st.tuples(st.text(), st.text() | st.binary())))
def test_garbage_in_metadata_is_refused(
    closed: Access, metadata: list[tuple[str, str | bytes]]
) -> None:
    with pytest.raises(UnauthorizedError):
        closed.key_of_metadata(metadata)


def test_a_key_ends_when_it_says(keys: Path) -> None:
    clock = Clock()
    secret = add(keys, "guest", expires=(clock.now() + timedelta(seconds=60)).isoformat())
    access = access_of(keys, clock)
    clock.seconds += 59
    assert access.key_of(f"Bearer {secret}").name == "guest"
    clock.seconds += 1
    with pytest.raises(UnauthorizedError, match=r"guest .* ended on 2026-01-01 00:17 UTC"):
        access.key_of(f"Bearer {secret}")


def test_two_keys_of_one_name_are_valid_while_rotated(keys: Path) -> None:
    old, new = add(keys, "search"), add(keys, "search")
    access = access_of(keys)
    first, second = access.key_of(f"Bearer {old}"), access.key_of(f"Bearer {new}")
    assert first.name == second.name
    assert first.id != second.id


@pytest.mark.parametrize("held", SCOPES)
@pytest.mark.parametrize("needed", SCOPES)
def test_a_scope_is_no_other(keys: Path, held: Scope, needed: Scope) -> None:
    secret = add(keys, "one", held)
    access = access_of(keys)
    key = access.key_of(f"Bearer {secret}")
    if held == needed:
        access.check(key, needed)
        return
    before = refused("forbidden")
    with pytest.raises(ForbiddenError, match=f"the scope `{needed}`.*has `{held}`"):
        access.check(key, needed)
    assert refused("forbidden") == before + 1


def test_items_and_requests_run_out_and_come_back(keys: Path) -> None:
    clock = Clock()
    secret = add(keys, "small", items_per_minute=60, requests_per_minute=3)
    access = access_of(keys, clock)
    key = access.key_of(f"Bearer {secret}")
    before = refused("rate_limit")
    access.spend(key, 60, requests=1)
    with pytest.raises(RateLimitError, match="60 items a minute") as raised:
        access.spend(key, 5, requests=1)
    assert raised.value.retry_after_s == pytest.approx(5)  # one item a second
    clock.seconds += 5
    access.spend(key, 5, requests=1)
    access.spend(key, requests=1)  # the refused one has cost no request; 5 s have given 0.25
    with pytest.raises(RateLimitError, match="3 requests a minute") as raised:
        access.spend(key, requests=1)
    assert raised.value.retry_after_s == pytest.approx(15)
    clock.seconds += 3600
    for _ in range(3):  # an hour fills no more than a minute's worth
        access.spend(key, requests=1)
    with pytest.raises(RateLimitError):
        access.spend(key, requests=1)
    assert refused("rate_limit") == before + 3


def test_more_than_a_minutes_worth_is_served_and_then_waited_for(keys: Path) -> None:
    clock = Clock()
    secret = add(keys, "small", items_per_minute=60)
    access = access_of(keys, clock)
    key = access.key_of(f"Bearer {secret}")
    access.spend(key, 180)
    with pytest.raises(RateLimitError) as raised:
        access.spend(key, 1)
    assert raised.value.retry_after_s == pytest.approx(121)


def test_workers_share_a_limit(keys: Path) -> None:
    secret = add(keys, "small", items_per_minute=60)
    access = access_of(keys, workers=4)
    key = access.key_of(f"Bearer {secret}")
    access.spend(key, 15)
    with pytest.raises(RateLimitError, match="60 items a minute"):
        access.spend(key, 1)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40)), max_size=60))
def test_a_bucket_never_gives_more_than_its_rate(steps: list[tuple[float, int]]) -> None:
    now, given_out, largest = 0.0, 0.0, 0
    bucket = Bucket(30, now)
    for pause, amount in steps:
        now += pause
        if bucket.wait_s(amount, now) == 0:
            bucket.take(amount)
            given_out, largest = given_out + amount, max(largest, amount)
    # a full bucket at first, the rate since, and what the last large one may owe
    assert given_out <= 30 + now / 2 + max(0, largest - 30) + 1e-6


@given(st.floats(0, 30), st.integers(1, 100))
def test_waiting_as_long_as_told_is_enough(pause: float, amount: int) -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(77)
    wait_s = bucket.wait_s(amount, pause)
    assert bucket.wait_s(amount, pause + wait_s) == 0


def test_a_revoked_key_is_refused_and_its_reason_told(keys: Path) -> None:
    secret = add(keys, "search")
    keys.write_text(keys.read_text().replace("}", ', "disabled": true}'))
    with pytest.raises(UnauthorizedError, match="search .* is revoked"):
        access_of(keys).key_of(f"Bearer {secret}")


def test_limits_survive_a_new_file(keys: Path) -> None:
    clock = Clock()
    secret = add(keys, "small", items_per_minute=60)
    access = access_of(keys, clock)
    access.spend(access.key_of(f"Bearer {secret}"), 60)
    add(keys, "other")
    access.refresh()
    with pytest.raises(RateLimitError):
        access.spend(access.key_of(f"Bearer {secret}"), 1)


def test_a_file_that_cannot_be_used_stops_the_start(keys: Path) -> None:
    keys.mkdir()
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        access_of(keys)
    with pytest.raises(SettingsError, match=r"cannot be read: No such file.*create"):
        access_of(keys / "missing")
    empty = keys / "empty"
    empty.write_text("# nobody yet\n\n")
    with pytest.raises(SettingsError, match="has no key"):
        access_of(empty)
