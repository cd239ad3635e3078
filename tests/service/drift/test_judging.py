"""Windows are judged once each, whoever judges and whenever; what persists becomes an alarm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from koine.audit.events import DriftEvent
from koine.errors import ArtifactError, AuditError
from service.counting.buckets import Bucket, Buckets, OwnBuckets, RedisBuckets
from service.drift.history import History, OwnHistory, RedisHistory
from service.drift.judging import Judging
from service.drift.records import record_bytes, record_digest, record_of
from tests.service.cache.server import RedisServer
from tests.service.drift.made import (
    DIGEST,
    SETTINGS,
    START,
    WATCHED,
    WINDOW_S,
    count,
    ended,
    run,
)

CHANGED = {7: 4.0, 9: 3.0}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["own", "redis"])
def kept(request: pytest.FixtureRequest, redis: RedisServer) -> tuple[Buckets, History]:
    if request.param == "own":
        return OwnBuckets(10**9), OwnHistory()
    with redis.client() as client:
        client.flushall()
    url = SecretStr(redis.url)
    return RedisBuckets(url, "one", 10**6), RedisHistory(url)


async def close(kept: tuple[Buckets, History]) -> None:
    for each in kept:
        await each.close()


def test_drift_that_persists_is_an_alarm_with_names_and_a_beginning(
    kept: tuple[Buckets, History],
) -> None:
    told: list[DriftEvent] = []

    async def tell(*events: DriftEvent) -> None:
        told.extend(events)

    async def work() -> None:
        buckets, history = kept
        judging = Judging(SETTINGS, buckets, history, tell)
        for window in range(7):
            await count(buckets, window, times=CHANGED if 2 <= window < 5 else None)
            (*_, record) = await judging.judge(WATCHED, "", ended(window))
            states.append((record["streams"]["a"]["state"], record["streams"]["a"]["alarm"]))
            if window == 4:
                found = record["streams"]["a"]["concepts"]
                since = {one["label"]: one["since"] for one in found if one["label"]}
                assert since == dict.fromkeys(("dog", "night"), START + 2 * WINDOW_S)
                assert found[0]["href"] == f"/v1/concepts/{found[0]['id']}?dictionary=demo@1"
                assert record["where"] == "world"
                assert "dog ×" in record["streams"]["a"]["says"]
        kept_records = await history.latest(DIGEST, "", 100)
        assert [record_of(one)["from"] for one in kept_records] == [
            START + window * WINDOW_S for window in range(7)
        ]
        assert [event.report for event in told if event.stream == "a"] == [
            record_digest(one) for one in kept_records
        ]
        assert {7, 9} <= set([e.concepts for e in told if e.stream == "a"][3])
        await close(kept)

    states: list[tuple[str, str]] = []
    run(work())
    assert states == [
        ("ok", "quiet"),
        ("ok", "quiet"),
        ("drift", "warning"),
        ("drift", "warning"),
        ("drift", "alarm"),
        ("ok", "alarm"),
        ("ok", "quiet"),
    ]


def test_a_judge_that_was_away_catches_up_and_judges_nothing_twice(
    kept: tuple[Buckets, History],
) -> None:
    async def work() -> None:
        buckets, history = kept
        for window in range(5):
            await count(buckets, window)
        assert await Judging(SETTINGS, buckets, history).judge(WATCHED, "", ended(0))
        again = Judging(SETTINGS, buckets, history)  # another process, later
        await again.judge(WATCHED, "", ended(4))
        first = await history.latest(DIGEST, "", 100)
        assert len(first) == 5
        await again.judge(WATCHED, "", ended(4) + 60)
        assert await history.latest(DIGEST, "", 100) == first
        await close(kept)

    run(work())


def test_counts_that_come_late_change_the_newest_verdict(kept: tuple[Buckets, History]) -> None:
    async def work() -> None:
        buckets, history = kept
        judging = Judging(SETTINGS, buckets, history)
        (early,) = await judging.judge(WATCHED, "", ended(0))
        assert early["streams"]["a"]["state"] == "insufficient_data"
        assert early["streams"]["a"]["items"] == 0
        await count(buckets, 0, times=CHANGED)
        assert await judging.judge(WATCHED, "", ended(0) + 5) == [early]  # too soon to look again
        (late,) = await judging.judge(WATCHED, "", ended(0) + 40)
        assert (late["from"], late["streams"]["a"]["state"]) == (early["from"], "drift")
        assert [record_of(one) for one in await history.latest(DIGEST, "", 9)] == [late]
        await close(kept)

    run(work())


def test_a_window_that_has_not_ended_is_not_judged(kept: tuple[Buckets, History]) -> None:
    async def work() -> None:
        buckets, history = kept
        await count(buckets, 1)
        judging = Judging(SETTINGS, buckets, history)
        (record,) = await judging.judge(WATCHED, "", ended(1) - 1)
        assert record["from"] == START  # the one before
        await close(kept)

    run(work())


def test_a_segment_is_compared_with_its_own_beginning(kept: tuple[Buckets, History]) -> None:
    own = {3: 5.0}  # it always had more of this

    async def work() -> None:
        buckets, history = kept
        judging = Judging(SETTINGS, buckets, history)
        await buckets.seen(DIGEST, ["label:shop"])
        assert await judging.segments(WATCHED) == ["", "label:shop"]
        assert await judging.judge(WATCHED, "label:shop", ended(0)) == []  # nothing came
        states: list[str] = []
        for window in range(1, 5):
            times = {**own, **CHANGED} if window == 4 else own
            await count(buckets, window, times=times, segment="label:shop")
            (*_, record) = await judging.judge(WATCHED, "label:shop", ended(window))
            states.append(record["streams"]["a"]["state"])
            sources.append(record["reference"]["source"])
        assert states == ["no_reference", "ok", "ok", "drift"]
        labels = {one["label"] for one in record["streams"]["a"]["concepts"]}
        assert labels == {"dog", "night"}
        again = Judging(SETTINGS, buckets, history)  # a restart forgets nothing
        assert (await again.references.of(WATCHED, "label:shop")).source == "live"
        await history.forget(DIGEST, "label:shop")
        assert (await again.references.of(WATCHED, "label:shop")).source == "learning"
        await close(kept)

    sources: list[str] = []
    run(work())
    assert sources == ["learning", "live", "live", "live"]


def test_all_traffic_can_be_compared_with_its_own_beginning(kept: tuple[Buckets, History]) -> None:
    async def work() -> None:
        buckets, history = kept
        live = SETTINGS.model_copy(update={"drift_reference": "live"})
        judging = Judging(live, buckets, history)
        for window in range(3):
            await count(buckets, window, times=CHANGED)  # as it always was
            (*_, record) = await judging.judge(WATCHED, "", ended(window))
            states.append(record["streams"]["b"]["state"])
        await close(kept)

    states: list[str] = []
    run(work())
    assert states == ["no_reference", "ok", "ok"]


def test_a_verdict_that_must_be_told_and_cannot_be_is_not_kept() -> None:
    async def tell(*_: DriftEvent) -> None:
        raise AuditError("the disk is full")

    async def work() -> None:
        buckets, history = OwnBuckets(10**9), OwnHistory()
        await count(buckets, 0)
        with pytest.raises(AuditError):
            await Judging(SETTINGS, buckets, history, tell).judge(WATCHED, "", ended(0))
        assert await history.latest(DIGEST, "", 9) == []
        assert await Judging(SETTINGS, buckets, history).judge(WATCHED, "", ended(0))

    run(work())


def test_damaged_counts_and_references_are_told(redis: RedisServer) -> None:
    async def work() -> None:
        url = SecretStr(redis.url)
        buckets, history = RedisBuckets(url, "one", 10**6), RedisHistory(url)
        judging = Judging(SETTINGS, buckets, history)
        await buckets.put({Bucket(DIGEST, "key:x", START): b"damaged"})
        with pytest.raises(ArtifactError, match="counts are damaged"):
            await judging.judge(WATCHED, "key:x", ended(0))
        await count(buckets, 0, segment="key:y")
        await judging.judge(WATCHED, "key:y", ended(0))
        with redis.client() as client:
            client.hset(f"koine:drift:{DIGEST}:reference:key:y", "profile", b"damaged")
        with pytest.raises(ArtifactError, match="learnt reference is damaged"):
            await judging.references.of(WATCHED, "key:y")
        await close((buckets, history))

    run(work())


def test_a_record_has_one_spelling() -> None:
    async def work() -> None:
        buckets, history = OwnBuckets(10**9), OwnHistory()
        await count(buckets, 0, times=CHANGED)
        (record,) = await Judging(SETTINGS, buckets, history).judge(WATCHED, "", ended(0))
        (content,) = await history.latest(DIGEST, "", 1)
        assert record_bytes(record_of(content)) == content == record_bytes(record)

    run(work())
