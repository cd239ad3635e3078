"""What the scenarios send, and how their answers are held against it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from load_tests import bodies
from load_tests.bodies import JPEG, SCENARIOS, Body, Served, fault, missing
from load_tests.run import USERS, parsed

ALL = Served(True, True, {"a": 5, "b": 3})
BODY = Body(b"", "", (False, True))


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two of 100 kB are enough to see that they are sent."""
    monkeypatch.setattr(bodies, "PHOTOS", tmp_path)
    monkeypatch.setattr("benchmarks.serving.photos.LARGEST_BYTES", 110_000)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_repeats_by_its_seed(name: str) -> None:
    make = SCENARIOS[name].make
    first = make(ALL, 6, 1, 2)
    assert len(first) == 6
    assert first == make(ALL, 6, 1, 2)
    assert first != make(ALL, 6, 2, 2)
    for body in first:
        if body.content_type == JPEG:
            assert body.data.startswith(b"\xff\xd8")
            assert 50_000 < len(body.data) < 200_000
        else:
            assert len(json.loads(body.data)["inputs"]) == len(body.broken)


def test_one_picture_in_a_hundred_is_broken() -> None:
    broken = [one for body in SCENARIOS["poison"].make(ALL, 500, 0, 0) for one in body.broken]
    # 40 of 4,000 expected, standard deviation 6
    assert 15 < sum(broken) < 65


def test_activations_are_those_of_a_stream() -> None:
    (body,) = SCENARIOS["activations"].make(ALL, 1, 0, 0)
    sent = json.loads(body.data)
    assert sent["encoding"] == "packed"
    assert {len(one["activations"]["a"]) for one in sent["inputs"]} == {5}


def test_photos_with_texts_are_whole() -> None:
    found = [json.loads(body.data)["inputs"] for body in SCENARIOS["mixed"].make(ALL, 30, 0, 2)]
    pairs = [one for inputs in found for one in inputs if "image" in one and "text" in one]
    assert pairs
    assert all(base64.b64decode(one["image"]).startswith(b"\xff\xd8") for one in pairs)


def test_what_a_server_lacks_is_named() -> None:
    info = {"streams": [{"name": "v", "d_in": 4, "accepts": ["activations"]}]}
    served = Served.of(info)
    assert served == Served(False, False, {"v": 4})
    assert missing("mixed", served) == ["images", "texts"]
    assert missing("activations", served) == []


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (200, {"results": [{"codes": {}}, {"error": {}}]}, None),
        (429, {}, "status 429"),
        (0, {}, "status 0"),
        (200, {"results": [{"codes": {}}]}, "another number of results"),
        (200, {"results": [{"codes": {}}, {"codes": {}}]}, "an error where codes belong"),
        (200, {"results": [{"error": {}}, {"error": {}}]}, "an error where codes belong"),
        (200, {}, "an answer without results"),
        (200, [], "an answer without results"),
    ],
)
def test_answers_are_held_against_what_was_sent(
    status: int, answer: object, expected: str | None
) -> None:
    found = fault(BODY, status, json.dumps(answer).encode())
    assert found == expected or (found is not None and found.startswith(str(expected)))


def test_an_answer_that_was_cut_is_a_fault() -> None:
    assert fault(BODY, 200, b'{"results": [') == "an answer without results"


def test_every_scenario_has_its_user_and_unknown_ones_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert USERS.keys() == SCENARIOS.keys()
    with pytest.raises(SystemExit):
        parsed(["photo"])
    assert "unknown: photo" in capsys.readouterr().err
