"""What several streams tell together, and what a person and a program read of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.monitoring.traffic import long_tailed_rates, traffic
from koine.__main__ import main
from koine.artifact import Artifact
from koine.drift.compare import compare
from koine.drift.means import MeanCounts
from koine.drift.report import as_json, as_text
from koine.drift.verdict import DriftConfig
from koine.errors import RequestError
from koine.profile import Profile, StreamProfile, write_profile

CONFIG = DriftConfig()
RATES_C = long_tailed_rates(300, 3)
DOG = int(np.abs(RATES_C - 0.05).argmin())


def stream(items: int, seed: int, dog: float = 1.0) -> StreamProfile:
    rates_C = RATES_C.copy()
    rates_C[DOG] *= dog
    means = MeanCounts.of(np.random.default_rng(seed).normal(0.4, 0.1, items), np.arange(items))
    fires = traffic(rates_C, items, seed)
    return replace(StreamProfile.empty(300, 16), fires=fires, fvu=means, l0=means)


def profile(items: int, seed: int, dogs: tuple[float, ...], agree: float = 0.5) -> Profile:
    streams = {f"s{n}": stream(items, 10 * seed + n, dog) for n, dog in enumerate(dogs)}
    values_N = np.random.default_rng(seed).normal(agree, 0.1, items)
    return Profile("d@1", streams, {"s0|s1": MeanCounts.of(values_N, np.arange(items))})


THEN = profile(20_000, 1, (1, 1, 1))


@pytest.mark.parametrize(
    ("dogs", "where", "only"),
    [
        ((1, 1, 1), "nowhere", None),
        ((4, 4, 4), "world", None),
        ((0.2, 0.2, 1), "world", None),
        ((1, 4, 1), "stream", "s1"),
        ((0.2, 1, 1), "stream", "s0"),
    ],
)
def test_the_world_and_a_single_stream_are_told_apart(
    dogs: tuple[float, ...], where: str, only: str | None
) -> None:
    found = compare(THEN, profile(4000, 4, dogs), CONFIG)
    assert (found.where, found.only) == (where, only)


SEVERAL = np.argsort(np.abs(RATES_C - 0.02))[:6]


def several(items: int, seed: int, times: tuple[float, ...]) -> Profile:
    """Streams in which six concepts of 2 % are so many times as frequent."""
    streams: dict[str, StreamProfile] = {}
    for n, factor in enumerate(times):
        rates_C = RATES_C.copy()
        rates_C[SEVERAL] *= factor
        fires = traffic(rates_C, items, 10 * seed + n)
        streams[f"s{n}"] = replace(StreamProfile.empty(300, 16), fires=fires)
    return Profile("d@1", streams)


BEFORE = several(20_000, 1, (1, 1))


def test_several_little_changes_of_a_stream_tell_together() -> None:
    # of each concept alone the streams' intervals overlap
    told = [compare(BEFORE, several(1200, s, (2.5, 1)), CONFIG).where for s in range(2, 12)]
    assert told.count("stream") >= 8
    assert "world" not in told


def test_a_change_of_the_world_that_one_stream_misses_is_not_the_other_streams() -> None:
    told = [compare(BEFORE, several(600, s, (2, 2)), CONFIG).where for s in range(2, 32)]
    assert "stream" not in told
    assert "unclear" in told  # one misses it at times, so the test asks what it should


def test_a_stream_alone_has_nothing_to_be_compared_with() -> None:
    one = Profile("d@1", {"s0": THEN.streams["s0"]})
    found = compare(one, Profile("d@1", {"s0": stream(4000, 9, 4.0)}), CONFIG)
    assert found.where == "unclear"


def test_streams_that_part() -> None:
    found = compare(THEN, profile(4000, 4, (1, 1, 1), agree=0.3), CONFIG)
    assert found.agreement["s0|s1"].drifted
    assert "agreement 0.499 → 0.30" in as_text(found, {}, 5)


def test_profiles_of_other_dictionaries_are_refused() -> None:
    with pytest.raises(RequestError, match="d@1, the window of d@2"):
        compare(THEN, replace(THEN, dictionary="d@2"), CONFIG)


def test_text_and_json_say_the_same() -> None:
    found = compare(THEN, profile(4000, 4, (4, 4, 4)), CONFIG)
    text = as_text(found, {DOG: "dog"}, 5)
    assert text.startswith("the streams changed alike")
    assert "s0: drift; dog ×" in text
    report = json.loads(as_json(found, {DOG: "dog"}))
    concept = report["streams"]["s0"]["concepts"][0]
    assert (concept["id"], concept["label"], concept["kind"]) == (DOG, "dog", "more")
    assert concept["low"] < concept["ratio"] < concept["high"]


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def rows(count: int, fire: float, seed: int) -> list[dict[str, object]]:
    """Items of the tiny artifact's first stream; concept 5 fires with chance `fire`."""
    rng = np.random.default_rng(seed)
    made: list[dict[str, object]] = []
    for n in range(count):
        others = rng.choice(np.arange(10, 60), 4, replace=False).tolist()
        indices = [5, *others] if rng.random() < fire else others
        values = rng.random(len(indices)).tolist()
        one = {"id": f"{seed}-{n}", "stream": "tiny_a", "indices": indices, "values": values}
        made.append(one | {"fvu": 0.5, "error": None})
    return made


def test_the_command_names_what_changed(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = table(tmp_path / "then.parquet", rows(3000, 0.05, 1))
    now = table(tmp_path / "now.parquet", rows(1000, 0.3, 2))
    out = tmp_path / "drift.json"
    words = ["drift", str(then), str(now), "--artifact", str(tiny_artifact.path)]
    assert main([*words, "--json", str(out)]) == 0
    assert "tiny_a: drift; concept 5 ×" in capsys.readouterr().out
    assert json.loads(out.read_text())["streams"]["tiny_a"]["state"] == "drift"
    assert main([*words, "--fail-on-drift"]) == 1


def test_items_that_come_again_are_counted_once(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = table(tmp_path / "then.parquet", rows(2000, 0.05, 1))
    fresh = rows(500, 0.05, 2)
    burst = [fresh[n % 5] | {"id": f"again-{n}"} for n in range(2000)]
    now = table(tmp_path / "now.parquet", fresh + burst)
    assert main(["drift", str(then), str(now), "--artifact", str(tiny_artifact.path)]) == 0
    assert "nothing changed beyond chance in 500 items" in capsys.readouterr().out


def test_a_profile_beside_itself_is_quiet(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(tmp_path / "p", THEN)
    assert main(["drift", str(tmp_path / "p"), str(tmp_path / "p")]) == 0
    assert "nothing changed beyond chance" in capsys.readouterr().out
    assert main(["drift", str(tiny_artifact.path), str(tiny_artifact.path)]) == 0


def test_what_cannot_be_compared_is_refused(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = table(tmp_path / "good.parquet", rows(10, 0.5, 1))
    bad = table(tmp_path / "bad.parquet", [{"id": "a", "stream": "tiny_a"}])
    wild = table(tmp_path / "wild.parquet", [rows(1, 1, 1)[0] | {"indices": [64], "values": [1.0]}])
    (tmp_path / "torn.parquet").write_bytes(good.read_bytes()[:100])
    cases = {
        "there is nothing at": [str(tmp_path / "none"), str(good)],
        "give it by --artifact": [str(good), str(good)],
        "lacks the columns indices": [str(tiny_artifact.path), str(bad)],
        "are not of tiny@": [str(tiny_artifact.path), str(wild)],
        "cannot be read as Parquet": [str(tiny_artifact.path), str(tmp_path / "torn.parquet")],
    }
    for message, words in cases.items():
        assert main(["drift", *words]) == 2
        assert message in capsys.readouterr().err
