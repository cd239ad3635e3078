"""Whole measurements at small sizes, against real servers with the tiny artifact."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving import chaos, counters, poison
from benchmarks.serving import samples as made
from benchmarks.serving.artifacts import DEMO_VARIABLE, Skipped, demo
from benchmarks.serving.faults import Fault, Setting
from benchmarks.serving.server import Server, ServerError, serving, started
from benchmarks.serving.truth import Judge, Truth
from koine.artifact import Artifact

SAMPLES = [*made.images(6, 40, 30), *made.activations(6, {"imported": 10})]


@pytest.fixture(scope="module")
def server(tiny_artifact: Artifact) -> Iterator[Server]:
    with serving(tiny_artifact.path, core=None) as server:
        yield server


def test_what_was_sent_is_what_was_counted(server: Server) -> None:
    samples = [*made.images(10, 40, 30), *made.broken_images(5)]
    bodies = made.mixed_requests(samples, 40, most_items=4, seed=0)
    counts = counters.counted(server, samples, bodies, ("tiny_a", "tiny_b"))
    assert [one for one in counts if one.counted != one.sent] == []
    by_name = {one.name: one.sent for one in counts}
    assert by_name["requests"] == 40
    assert by_name["broken items"] > 0
    assert sum(name.startswith("koine_queue_items") for name in by_name) == 4


def test_a_miscount_is_seen(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = made.images(3, 40, 30)
    bodies = made.requests(samples, 1)
    real, reads = server.metrics, itertools.count()

    def one_too_many() -> dict[str, float]:
        found = real()
        found['koine_requests_total{outcome="ok",route="/v1/encode"}'] += next(reads)
        return found

    monkeypatch.setattr(server, "metrics", one_too_many)
    wrong = [one.name for one in counters.counted(server, samples, bodies, ()) if
             one.counted != one.sent]  # fmt: skip
    assert wrong == ["requests"]


def test_poison_costs_no_good_item(server: Server, tiny_artifact: Artifact) -> None:
    samples = poison.poisoned_samples()
    requests = poison.poisoned_requests(samples, 200)
    run = poison._send(server, requests)
    assert poison.judged(run, Truth.of(tiny_artifact.path, samples)) == (198, 198, 2, 2)
    # the largest image that is read would take 192 MB
    assert poison.bomb_cost(server) < 50 * 2**20


def test_answers_that_never_came_count_against_it(tiny_artifact: Artifact) -> None:
    samples = poison.poisoned_samples()
    requests = poison.poisoned_requests(samples, 32)
    lost = poison.Run(requests, [], 1.0)
    right, good, refused, broken = poison.judged(lost, Truth.of(tiny_artifact.path, samples))
    assert (right, refused, good + broken) == (0, 0, 32)


def _under(fault: Fault, artifact: Path) -> dict[str, object]:
    requests = made.mixed_requests(SAMPLES, 30, most_items=3, seed=1)
    judge = Judge([Truth.of(artifact, SAMPLES)], requests)
    return dict(chaos._under(fault, requests, judge, 2.0))


def test_a_fault_that_does_nothing_loses_nothing(tiny_artifact: Artifact) -> None:
    fault = Fault(
        name="none", prepare=lambda _: Setting(tiny_artifact.path), strike=lambda *_: None
    )
    found = _under(fault, tiny_artifact.path)
    assert found["ratio"] == 1.0
    assert found["ours"] == found["baseline"] != 0


def test_a_server_that_dies_and_was_not_meant_to_is_told(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "RECOVERY_S", 0.5)

    def kill(server: Server, setting: Setting) -> None:
        for one in (*server.workers, server.process):
            one.kill()

    fault = Fault(name="dead", prepare=lambda _: Setting(tiny_artifact.path), strike=kill)
    found = _under(fault, tiny_artifact.path)
    assert found["ratio"] == 0.0, "it never recovered"
    assert found["ours"] != found["baseline"], "refusals count as lost where none are meant"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="ended; its log ends:\nsorry"),
        started(["sh", "-c", "echo sorry; exit 3"], settings={}, log=tmp_path / "log"),
    ):
        pass


def test_without_the_demo_there_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEMO_VARIABLE, str(tmp_path))
    with pytest.raises(Skipped, match="make demo"):
        demo()
