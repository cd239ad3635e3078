"""What the scenarios send, and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.samples import Sample
from load_tests import bodies
from load_tests.bodies import SCENARIOS, Served, missing
from load_tests.run import USERS, parsed
from load_tests.wires import WIRES

ALL = Served(True, True, {"a": 5, "b": 3})


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two of 100 kB are enough to see that they are sent."""
    monkeypatch.setattr(bodies, "PHOTOS", tmp_path)
    monkeypatch.setattr("benchmarks.serving.photos.LARGEST_BYTES", 110_000)


@pytest.mark.parametrize("transport", WIRES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_repeats_by_its_seed(name: str, transport: str) -> None:
    def sent(seed: int) -> list[bytes]:
        return [WIRES[transport].encode(one).data for one in SCENARIOS[name].make(ALL, 6, seed, 2)]

    first = sent(1)
    assert len(first) == 6
    assert first == sent(1)
    assert first != sent(2)


def test_photos_are_files_of_their_own() -> None:
    for body in SCENARIOS["photos"].make(ALL, 6, 1, 2):
        (sample,) = body.samples
        assert body.bare
        assert _is_photo(sample)
        assert 50_000 < len(sample.image or b"") < 200_000


def test_one_picture_in_a_hundred_is_broken() -> None:
    broken = [one for body in SCENARIOS["poison"].make(ALL, 500, 0, 0) for one in body.broken]
    # 40 of 4,000 expected, standard deviation 6
    assert 15 < sum(broken) < 65


def test_activations_are_those_of_a_stream() -> None:
    first, second, *_ = SCENARIOS["activations"].make(ALL, 5, 0, 0)
    assert first.packed
    assert len(first.samples) == 16
    assert {len(one.activations["a"]) for one in first.samples} == {5}
    assert first.samples[0] is not second.samples[0]


def test_photos_with_texts_are_whole() -> None:
    found = [one for body in SCENARIOS["mixed"].make(ALL, 30, 0, 2) for one in body.samples]
    pairs = [one for one in found if one.image is not None and one.text is not None]
    assert pairs
    assert all(_is_photo(one) for one in pairs)


def test_what_a_server_lacks_is_named() -> None:
    info = {"streams": [{"name": "v", "d_in": 4, "accepts": ["activations"]}]}
    served = Served.of(info)
    assert served == Served(False, False, {"v": 4})
    assert missing("mixed", served) == ["images", "texts"]
    assert missing("activations", served) == []


def test_every_scenario_has_its_user_and_unknown_ones_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert USERS.keys() == SCENARIOS.keys()
    with pytest.raises(SystemExit):
        parsed(["photo"])
    assert "unknown: photo" in capsys.readouterr().err


def test_grpc_of_another_service_needs_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--host", "http://there", "--transport", "http", "grpc"]
    with pytest.raises(SystemExit):
        parsed(given)
    assert "--grpc-target" in capsys.readouterr().err
    assert parsed([*given, "--grpc-target", "there:50051"]).transports == ["http", "grpc"]
    assert parsed([]).transports == ["http"]


def _is_photo(sample: Sample) -> bool:
    return sample.image is not None and sample.image.startswith(b"\xff\xd8")
