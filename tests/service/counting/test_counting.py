"""Counts of real processes in a real Redis: whole, once, and there again after it was wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from koine.codes import PAD, Codes
from koine.drift.segments import Asker
from koine.errors import ArtifactError, TextError
from koine.profile import StreamProfile
from service import metrics
from service.contents import Contents
from service.counting import Counting, Served
from service.counting import counting as module
from service.counting.buckets import OwnBuckets, RedisBuckets
from service.jobs import Row
from tests.service.cache.server import RedisServer

C, K = 30, 3
SERVED = Served("d" * 64, "demo@1", ("a", "b"), ("text", "image"), C, K, ((), ()))


def rows(seed: int) -> dict[str, Row]:
    rng = np.random.default_rng(seed)
    indices_K = rng.choice(C, K, replace=False).astype(np.int32)
    indices_K[-1] = PAD if seed % 3 == 0 else indices_K[-1]
    values_K = np.where(indices_K == PAD, 0, rng.random(K)).astype(np.float32)
    return {"a": Row(indices_K, values_K, float(rng.random()))}


def content(number: int) -> Contents:
    return {"text": f"{number:064x}"}


def take(counting: Counting, numbers: range, client: str = "") -> None:
    contents = [content(n) for n in numbers]
    counting.take(SERVED, "independent", contents, [rows(n) for n in numbers], Asker(client))


def expected(numbers: range) -> StreamProfile:
    found = [rows(n)["a"] for n in numbers]
    codes = Codes(
        np.stack([row.indices_K for row in found]),
        np.stack([row.values_K for row in found]),
        np.array([row.fvu for row in found], np.float32),
    )
    return StreamProfile.of(codes, np.zeros(len(found), np.int64), C)


async def seen(counting: Counting) -> Any:
    profile = (await counting.window(SERVED.digest, 3600)).profile
    return None if profile is None else profile.streams["a"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def of_redis(server: RedisServer, writer: str, bucket_s: int = 3600) -> Counting:
    return Counting(RedisBuckets(SecretStr(server.url), writer, 3600), bucket_s)


def test_counts_are_those_of_the_items() -> None:
    async def run() -> None:
        counting = Counting(OwnBuckets(3600), 3600)
        assert await seen(counting) is None
        take(counting, range(50))
        await counting.flush()
        take(counting, range(50, 80))
        found, whole = await seen(counting), expected(range(80))
        assert found.items == 80
        assert np.array_equal(found.fires.fires_C, whole.fires.fires_C)
        assert np.array_equal(found.fires.fire_squares_C, whole.fires.fire_squares_C)
        assert found.value_sums_C == pytest.approx(whole.value_sums_C)
        assert found.fires.blocks == 1

    asyncio.run(run())


def test_equal_items_errors_and_joint_codes_are_not_counted() -> None:
    async def run() -> None:
        counting = Counting(OwnBuckets(3600), 3600)
        take(counting, range(10))
        await counting.flush()
        take(counting, range(5, 15))
        counting.take(SERVED, "joint", [content(90)], [rows(90)], Asker())
        counting.take(SERVED, "independent", [content(91)], [TextError("too long")], Asker())
        counting.take(SERVED, "independent", [None], [TextError("unreadable")], Asker())
        assert (await seen(counting)).items == 15

    asyncio.run(run())


def test_an_image_with_other_captions_is_one_item_of_image_streams() -> None:
    def both(n: int) -> dict[str, Row]:
        return {"a": rows(n)["a"], "b": rows(n)["a"]}

    async def items(counting: Counting) -> tuple[int, int, int]:
        found = (await counting.window(SERVED.digest, 3600)).profile
        assert found is not None
        a, b = found.streams["a"].items, found.streams["b"].items
        return a, b, found.agreement["a|b"].items

    async def run() -> None:
        counting = Counting(OwnBuckets(3600), 3600)
        contents = [{"text": f"{n:064x}", "image": f"{n // 5:064x}"} for n in range(50)]
        counting.take(SERVED, "independent", contents, [both(n) for n in range(50)], Asker())
        assert await items(counting) == (50, 10, 10)
        counting.take(SERVED, "independent", [{"activations.b": "0" * 64}], [rows(1)], Asker())
        assert (await items(counting))[0] == 51  # a stream that reads nothing known is counted

    asyncio.run(run())


def test_equal_items_count_once_in_a_window_of_several_buckets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 7200.0
    monkeypatch.setattr(module.time, "time", lambda: now)

    async def run() -> None:
        nonlocal now
        counting = Counting(OwnBuckets(36_000), 60, window_s=3600)
        for at in (7200.0, 7300.0, 7400.0):
            now = at
            take(counting, range(20))
            take(counting, range(100, 110))
            await counting.flush()
        assert (await seen(counting)).items == 30
        now = 10_900.0  # the next window
        take(counting, range(20))
        found = (await counting.window(SERVED.digest, 60)).profile
        assert found is not None
        assert found.streams["a"].items == 20

    asyncio.run(run())


def test_clients_are_blocks() -> None:
    async def run() -> None:
        counting = Counting(OwnBuckets(3600), 3600)
        for start, client in ((0, "ann"), (10, "bob"), (20, "ann")):
            take(counting, range(start, start + 10), client)
            await counting.flush()
        fires = (await seen(counting)).fires
        assert (fires.blocks, fires.block_squares) == (2, 20**2 + 10**2)

    asyncio.run(run())


def test_segments_are_their_own_items_and_few(redis: RedisServer) -> None:
    def send(counting: Counting, numbers: range, asker: Asker) -> None:
        contents = [content(n) for n in numbers]
        counting.take(SERVED, "independent", contents, [rows(n) for n in numbers], asker)

    async def run() -> None:
        one = Counting(RedisBuckets(SecretStr(redis.url), "one", 3600), 3600, most_segments=4)
        other = Counting(RedisBuckets(SecretStr(redis.url), "other", 3600), 3600, most_segments=4)
        send(one, range(30), Asker("ann", "shop"))
        send(one, range(30, 40), Asker("bob"))
        send(one, range(40, 45), Asker("cat", "search"))  # the third key: two are watched
        await one.flush()
        send(other, range(45, 65), Asker("ann", "feed"))  # the third label
        await other.flush()

        async def items(segment: str) -> int:
            found = (await other.window(SERVED.digest, 3600, segment)).profile
            return 0 if found is None else found.streams["a"].items

        assert await other.buckets.segments(SERVED.digest) == {
            "key:ann", "key:bob", "label:search", "label:shop",
        }  # fmt: skip
        assert await items("") == 65
        assert await items("key:ann") == 50
        assert await items("key:bob") == 10
        assert await items("label:shop") == 30
        assert await items("label:search") == 5
        assert await items("key:cat") == await items("label:feed") == 0
        shop = (await other.window(SERVED.digest, 3600, "label:shop")).profile
        assert shop is not None
        fires_C = expected(range(30)).fires.fires_C
        assert np.array_equal(shop.streams["a"].fires.fires_C, fires_C)
        await one.close()
        await other.close()

    asyncio.run(run())


def test_too_many_at_once_are_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 20)
    dropped = metrics.DRIFT_ITEMS.labels("dropped")
    before = dropped._value.get()

    async def run() -> None:
        counting = Counting(OwnBuckets(3600), 3600)
        take(counting, range(30))
        assert (await seen(counting)).items == 20
        take(counting, range(30, 50))
        assert (await seen(counting)).items == 40

    asyncio.run(run())
    assert dropped._value.get() - before == 10


def test_processes_add_up_and_writing_twice_changes_nothing(redis: RedisServer) -> None:
    async def run() -> None:
        one, other = of_redis(redis, "one"), of_redis(redis, "other")
        take(one, range(40))
        take(other, range(40, 100))
        for _ in range(3):
            await one.flush()
            await other.flush()
        take(one, range(100, 110))
        await one.flush()
        found = await seen(other)
        assert found.items == 110
        assert np.array_equal(found.fires.fires_C, expected(range(110)).fires.fires_C)
        await one.close()
        again = of_redis(redis, "one again")  # a restart: what it had counted stays
        take(again, range(110, 120))
        assert (await seen(again)).items == 120
        await other.close()
        await again.close()

    asyncio.run(run())


def test_counts_wait_for_a_redis_that_is_away(redis: RedisServer) -> None:
    async def run() -> None:
        counting = of_redis(redis, "one")
        take(counting, range(10))
        await counting.flush()
        redis.stop()
        take(counting, range(10, 30))
        await counting.flush()
        with pytest.raises(OSError, match="Redis cannot be reached|Redis refused"):
            await counting.window(SERVED.digest, 60)
        take(counting, range(30, 40))
        redis.start()
        assert (await seen(counting)).items == 40  # the bucket that grows is written whole again
        await counting.close()

    asyncio.run(run())


def test_a_wiped_redis_has_the_bucket_that_grows_again(redis: RedisServer) -> None:
    async def run() -> None:
        counting = of_redis(redis, "one")
        take(counting, range(10))
        await counting.flush()
        with redis.client() as client:
            client.flushall()
        take(counting, range(10, 20))
        assert (await seen(counting)).items == 20
        await counting.close()

    asyncio.run(run())


def test_buckets_that_ended_are_forgotten_here_and_kept_there(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.0)

    async def run() -> None:
        counting = of_redis(redis, "one", bucket_s=1)
        for start in range(0, 40, 10):
            take(counting, range(start, start + 10))
            await counting.flush()
            await asyncio.sleep(0.6)
        await asyncio.sleep(1.1)
        await counting.flush()
        assert not counting._counted
        assert (await seen(counting)).items == 40
        await counting.close()

    asyncio.run(run())
    with redis.client() as client:
        assert all(0 < int(str(client.ttl(key))) <= 3600 for key in client.keys("koine:drift:*"))


def test_damaged_counts_are_told(redis: RedisServer) -> None:
    async def run() -> None:
        counting = of_redis(redis, "one")
        take(counting, range(10))
        await counting.flush()
        with redis.client() as client:
            (key,) = client.keys("koine:drift:*")
            client.hset(key, "one", b"damaged")
        reader = of_redis(redis, "reader")
        with pytest.raises(ArtifactError, match="are damaged"):
            await reader.window(SERVED.digest, 60)
        await reader.close()
        await counting.close()

    asyncio.run(run())
