"""Codes as sparse vectors: weights, formats as the stores document them, Qdrant itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from koine.__main__ import main
from koine.artifact import Artifact
from koine.codes import PAD, Codes
from koine.errors import RequestError
from koine.manifest import PROFILE
from koine.profile import StreamProfile, read_profile
from koine.vectors import (
    MOST_PGVECTOR,
    Item,
    SparseVector,
    lines,
    rank_features,
    sparse_vector,
    sparse_vectors,
    sparsevec,
    weights,
)

C = 8
FLAT = np.ones(C)


def profile(items: int, fires: list[int]) -> StreamProfile:
    empty = StreamProfile.empty(len(fires), 4)
    counts = replace(empty.fires, items=items, fires_C=np.array(fires, np.uint32))
    return replace(empty, fires=counts)


def test_a_vector_is_sorted_of_norm_one_and_has_no_pads() -> None:
    vector = sparse_vector([5, 2, PAD], [4.0, 3.0, 0.0], FLAT)
    assert vector.indices_M.tolist() == [2, 5]
    np.testing.assert_allclose(vector.values_M, [0.6, 0.8])
    raw = sparse_vector([5, 2], [4.0, 3.0], FLAT, "raw")
    assert raw.values_M.tolist() == [3.0, 4.0]


def test_idf_leaves_out_what_always_fires_and_lifts_what_is_rare() -> None:
    counted = profile(99, [99, 9, 0])
    weights_C = weights(counted, "idf")
    np.testing.assert_allclose(weights_C, [0, np.log(10), np.log(100)])
    vector = sparse_vector([0, 1, 2], [1.0, 1.0, 1.0], weights_C, "idf")
    assert vector.indices_M.tolist() == [1, 2]
    np.testing.assert_allclose(vector.values_M[1] / vector.values_M[0], 2)
    assert weights(counted, "l2").tolist() == [1, 1, 1]


def test_nothing_active_is_an_empty_vector() -> None:
    vector = sparse_vector([PAD, PAD], [0.0, 0.0], FLAT)
    assert vector.indices_M.tolist() == []
    assert sparsevec(vector, C) == "{}/8"
    assert rank_features(vector) == {}


@pytest.mark.parametrize(
    ("indices", "values", "words"),
    [
        ([C], [1.0], "concept 8 is none of this dictionary's 8"),
        ([-2], [1.0], "is none of this dictionary's"),
        ([1, 1], [1.0, 2.0], "a concept stands twice"),
        ([1], [float("nan")], "negative or non-finite"),
        ([1], [-0.5], "negative or non-finite"),
    ],
)
def test_what_are_no_codes_is_refused(indices: list[int], values: list[float], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        sparse_vector(indices, values, FLAT)


@given(st.dictionaries(st.integers(0, 63), st.floats(2**-10, 2**10, width=32), max_size=20))
def test_every_format_holds_the_same_numbers(codes: dict[int, float]) -> None:
    vector = sparse_vector(list(codes), list(codes.values()), np.ones(64))
    values = {int(i): float(v) for i, v in zip(*vector, strict=True)}
    item = Item("a", {"s": vector})
    (line,) = lines([item], "qdrant", 64)
    sparse = json.loads(line)["vector"]["s"]
    qdrant = dict(zip(sparse["indices"], sparse["values"], strict=True))
    _, line = lines([item], "opensearch", 64)
    features = json.loads(line)["codes"]["s"]
    opensearch = {int(name.removeprefix("c")): value for name, value in features.items()}
    (line,) = lines([item], "pgvector", 64)
    literal = line.split("\t")[2]
    # pgvector's documented text form: {index:value,...}/dimensions, indices from 1
    assert re.fullmatch(r"\{(\d+:[\d.e+-]+(,\d+:[\d.e+-]+)*)?\}/64", literal)
    entries = [entry.split(":") for entry in literal[1 : literal.index("}")].split(",") if entry]
    pgvector = {int(i) - 1: float(v) for i, v in entries}
    for found in (qdrant, opensearch, pgvector):
        assert found == pytest.approx(values, rel=1e-6)


def test_opensearchs_features_are_positive_and_their_names_have_no_dot() -> None:
    first, second = lines(
        [Item("x/1.jpg", {"s": SparseVector(np.array([0, 7]), np.array([1e-9, 0.5]))})],
        "opensearch",
        C,
    )
    assert json.loads(first) == {"index": {"_id": "x/1.jpg"}}
    features = json.loads(second)["codes"]["s"]
    assert min(features.values()) > 0
    assert not any("." in name for name in features)


def test_ids_with_tabs_and_newlines_stay_one_line_of_copy() -> None:
    vector = sparse_vector([1], [2.0], FLAT)
    (line,) = lines([Item("a\tb\nc\\d", {"s": vector})], "pgvector", C)
    assert line == "a\\tb\\nc\\\\d\ts\t{2:1}/8"


def test_pgvectors_index_has_a_limit() -> None:
    many = SparseVector(np.arange(MOST_PGVECTOR + 1), np.ones(MOST_PGVECTOR + 1))
    with pytest.raises(RequestError, match="pgvector's index takes 1000"):
        sparsevec(many, 5000)


def test_qdrant_ranks_as_the_cosine_of_dense_codes_does() -> None:
    qdrant = pytest.importorskip("qdrant_client", reason="make setup installs it")
    rng = np.random.default_rng(3)
    indices_NK = np.stack([rng.permutation(40)[:6] for _ in range(50)]).astype(np.int32)
    codes = Codes(indices_NK, rng.gamma(2, 1, (50, 6)).astype(np.float32), np.zeros(50, np.float32))
    vectors = sparse_vectors(codes, profile(1, [0] * 40))
    client = qdrant.QdrantClient(":memory:")
    client.create_collection(
        "items",
        vectors_config={},
        sparse_vectors_config={"s": qdrant.models.SparseVectorParams()},
    )
    points = [json.loads(line) for line in lines(_items(vectors), "qdrant", 40)]
    client.upsert("items", [qdrant.models.PointStruct(**point) for point in points])
    dense_NC = codes.dense(40)
    dense_NC /= np.linalg.norm(dense_NC, axis=1, keepdims=True)
    for i in (0, 17, 49):
        query = qdrant.models.SparseVector(**points[i]["vector"]["s"])
        hits = client.query_points("items", query=query, using="s", limit=5).points
        expected = np.argsort(-(dense_NC @ dense_NC[i]), kind="stable")[:5]
        assert [int(hit.payload["item"]) for hit in hits] == expected.tolist()
    client.upsert("items", [qdrant.models.PointStruct(**point) for point in points])
    assert client.count("items").count == 50  # the same item has the same id
    client.close()


def _items(vectors: list[SparseVector]) -> list[Item]:
    return [Item(str(i), {"s": vector}) for i, vector in enumerate(vectors)]


def test_the_command_turns_a_table_into_a_file(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_text("no image")
    codes, out = tmp_path / "codes.parquet", tmp_path / "out"
    files = [str(tmp_path / "a.png"), str(tmp_path / "bad.png")]
    assert main(["encode", str(tiny_artifact.path), *files, "--out", str(codes)]) == 0
    vectors = ["vectors", str(tiny_artifact.path), str(codes), "--out", str(out)]
    for store, count in (("qdrant", 1), ("opensearch", 2), ("pgvector", 2)):
        assert main([*vectors, "--for", store, "--weighting", "idf"]) == 0
        assert f"1 items for {store}, 1 without codes" in capsys.readouterr().out
        assert len(out.read_text().splitlines()) == count
    row = pq.read_table(codes).to_pylist()[0]
    counted = read_profile(tiny_artifact.file(PROFILE)).streams["tiny_a"]
    expected = sparse_vector(row["indices"], row["values"], weights(counted, "idf"), "idf")
    assert out.read_text().splitlines()[0].split("\t")[1:] == ["tiny_a", sparsevec(expected, 64)]


def test_tables_that_are_none_or_anothers_are_refused(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def refused(table: Path) -> str:
        command = ["vectors", str(tiny_artifact.path), str(table), "--for", "qdrant"]
        assert main([*command, "--out", str(out)]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    path = tmp_path / "codes.parquet"
    assert "is no Parquet table" in refused(path)
    path.write_bytes(b"PAR1, or not")
    assert "is no Parquet table" in refused(path)
    pq.write_table(pa.table({"id": ["a"]}), path)
    assert "lacks the columns stream, indices, values, error" in refused(path)
    row = {"id": "a", "stream": "other", "indices": [1], "values": [1.0], "error": None}
    table = pa.Table.from_pylist([row])
    pq.write_table(table, path)
    assert "codes of stream 'other', which the artifact does not have" in refused(path)
    pq.write_table(table.replace_schema_metadata({"koine.artifact": "0" * 64}), path)
    assert "was encoded by another artifact" in refused(path)
