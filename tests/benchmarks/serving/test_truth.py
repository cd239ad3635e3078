"""Answers are held against the truth of their own input, and mistakes are told apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.serving import samples as made
from benchmarks.serving.replies import Reply
from benchmarks.serving.truth import Judge, Truth
from koine.artifact import Artifact
from service.settings import Settings
from tests.service.conftest import serving

SAMPLES = [*made.images(4, 40, 30), *made.activations(3, {"imported": 10}), *made.broken_images(2)]
REQUEST = made.request(SAMPLES, [2, 5, 7, 0])
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def judge(tiny_artifact: Artifact) -> Judge:
    return Judge([Truth.of(tiny_artifact.path, SAMPLES)], [REQUEST])


@pytest.fixture(scope="module")
def answer(tiny_artifact: Artifact) -> Answer:
    """What the service says."""
    assert Settings
    with serving(tiny_artifact) as client:
        headers = {"content-type": "application/json"}
        return client.post("/v1/encode", content=REQUEST.body, headers=headers).json()


def verdict(judge: Judge, answer: Answer) -> str:
    return judge.verdict(0, Reply(200, json.dumps(answer).encode()))


def test_the_service_is_right(judge: Judge, answer: Answer) -> None:
    assert verdict(judge, answer) == "right"


def _swap_codes(answer: Answer) -> None:
    first, last = answer["results"][0], answer["results"][3]
    first["codes"], last["codes"] = last["codes"], first["codes"]


def _swap_results(answer: Answer) -> None:
    answer["results"].reverse()


def _drop(answer: Answer) -> None:
    answer["results"].pop()


def _no_results(answer: Answer) -> None:
    del answer["results"]


def _one_value(answer: Answer) -> None:
    answer["results"][0]["codes"]["tiny_a"]["values"][0] *= 1.001


def _two_concepts(answer: Answer) -> None:
    codes = answer["results"][0]["codes"]["tiny_a"]
    codes["indices"][:2] = [c for c in range(64) if c not in codes["indices"]][:2]


def _one_stream(answer: Answer) -> None:
    del answer["results"][0]["codes"]["tiny_b"]


def _short_values(answer: Answer) -> None:
    answer["results"][0]["codes"]["tiny_a"]["values"].pop()


def _error_for_a_good_item(answer: Answer) -> None:
    error = answer["results"][2]["error"]
    answer["results"][0] = {"id": answer["results"][0]["id"], "error": error}


def _codes_for_a_broken_item(answer: Answer) -> None:
    codes = answer["results"][0]["codes"]
    answer["results"][2] = {"id": answer["results"][2]["id"], "codes": codes}


def _bare_error(answer: Answer) -> None:
    answer["results"][2]["error"] = {"title": "no"}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_swap_codes, "mixed_up"),
        (_swap_results, "mixed_up"),
        (_drop, "partial"),
        (_no_results, "partial"),
        (_one_value, "wrong"),
        (_two_concepts, "wrong"),
        (_one_stream, "wrong"),
        (_short_values, "wrong"),
        (_error_for_a_good_item, "wrong"),
        (_codes_for_a_broken_item, "wrong"),
        (_bare_error, "wrong"),
    ],
)
def test_mistakes_are_seen(
    judge: Judge, answer: Answer, spoil: Callable[[Answer], None], expected: str
) -> None:
    spoiled = copy.deepcopy(answer)
    spoil(spoiled)
    assert verdict(judge, spoiled) == expected


def test_a_cut_answer_is_partial_and_another_dictionary_is_not_taken(
    judge: Judge, answer: Answer
) -> None:
    assert judge.verdict(0, Reply(200, json.dumps(answer).encode()[:-30])) == "partial"
    assert verdict(judge, answer | {"dictionary": "other@1"}) == "partial"


def test_a_tie_at_rank_k_may_fall_either_way(judge: Judge, answer: Answer) -> None:
    tied = copy.deepcopy(answer)
    codes = tied["results"][0]["codes"]["tiny_a"]
    codes["indices"][-1] = next(c for c in range(64) if c not in codes["indices"])
    assert verdict(judge, tied) == "right"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(429, b"", retry_after_s=1.0, problem=True), "told"),
        (Reply(400, b"", problem=True), "told"),
        (Reply(429, b"", problem=True), "mute"),
        (Reply(500, b"oops"), "mute"),
        (Reply(0, b"", fault="timeout"), "lost"),
        (Reply(0, b"", fault="unreadable"), "mute"),
        (Reply(0, b"", fault="reset"), "reset"),
    ],
)
def test_errors_are_told_or_not(judge: Judge, reply: Reply, expected: str) -> None:
    assert judge.verdict(0, reply) == expected


def test_samples_that_look_alike_are_refused(tiny_artifact: Artifact) -> None:
    with pytest.raises(AssertionError, match="have the same answer"):
        Truth.of(tiny_artifact.path, [SAMPLES[0], SAMPLES[1], SAMPLES[0]])
