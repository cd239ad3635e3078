"""What clients call their traffic reaches the counts, whichever transport it comes by."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.audit.segments import segments_of
from koine.audit.verify import verify_log
from koine.client import Client, Text
from tests.koine.client.service_thread import serving as serving_both
from tests.service.conftest import serving
from tests.service.test_unhappy_requests import problem_of


def test_both_transports_of_the_client_bring_the_segment(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    with serving_both(tiny_artifact, audit=tmp_path) as served:
        for url, segment in ((served.http, "shop"), (served.grpc, "search")):
            with Client(url, segment=segment) as client:
                client.encode([Text(f"{segment} {n}") for n in range(7)])
        counting = served.core.counting
        assert counting is not None
        asyncio.run(counting.flush())
        (dictionary,) = served.core.dictionaries.served
        found = asyncio.run(counting.buckets.segments(dictionary.digest))
        assert found == {"label:shop", "label:search"}
        window = asyncio.run(counting.window(dictionary.digest, 3600)).profile
        assert window is not None
        together = window.streams["tiny_text"].cofiring
        known = dictionary.profile.streams["tiny_text"].cofiring
        assert together is not None
        assert known is not None
        assert together.top_T.tolist() == known.top_T.tolist() != []
        assert together.fires.items == 14
    (checked,) = verify_log(tmp_path, None)
    assert not checked.faults
    (segment_file,) = segments_of(tmp_path / checked.writer)
    entries = [json.loads(line) for line in segment_file.read_text().splitlines()[1:]]
    encoded = [entry["event"] for entry in entries if entry["event"]["kind"] == "encode"]
    assert len(encoded) == 14
    assert {event.get("key") for event in encoded} == {None}  # nobody in particular


@pytest.mark.parametrize("label", ["two words", "x" * 65, "a;b", "a,b", ""])
def test_a_label_that_is_none_is_refused(tiny_artifact: Artifact, label: str) -> None:
    with serving(tiny_artifact) as client:
        answer = client.post(
            "/v1/encode",
            json={"inputs": [{"text": "a dog"}]},
            headers={"Koine-Segment": label},
        )
        assert "a segment's label is 1 to 64" in problem_of(answer, 400)


def test_a_segment_that_nobody_sends_is_told(client: TestClient) -> None:
    for path in ("/v1/drift", "/v1/drift/concepts"):
        answer = client.get(path, params={"segment": "label:nowhere"})
        assert "is no segment that is watched" in problem_of(answer, 400)
