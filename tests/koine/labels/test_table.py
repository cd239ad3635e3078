"""The round trip through a table: `python -m koine labels export`, an editor, `import`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koine.__main__ import main
from koine.artifact import Artifact
from koine.labels.table import guarded, unguarded
from tests.service.labelled import labelled

Run = Callable[..., int]


@pytest.fixture
def artifact(tiny_artifact: Artifact, tmp_path: Path) -> Artifact:
    return labelled(tiny_artifact, tmp_path / "artifact")


@pytest.fixture
def run(artifact: Artifact, tmp_path: Path) -> Run:
    def run(action: str, *more: str) -> int:
        where = ["--labels", str(tmp_path / "labels")]
        return main(["labels", action, str(artifact.path), *more, *where])

    return run


@pytest.fixture
def table(tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "table.csv"
    assert run("export", "--out", str(path)) == 0
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def edit(path: Path, changes: dict[int, dict[str, str]], separator: str = ",") -> None:
    kept = rows(path)
    for concept, cells in changes.items():
        kept[concept] |= cells
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.DictWriter(file, kept[0].keys(), delimiter=separator)
        out.writeheader()
        out.writerows(kept)


def test_a_table_has_every_concept(table: Path) -> None:
    exported = rows(table)
    assert [row["id"] for row in exported] == [str(n) for n in range(64)]
    assert exported[7]["label"] == "DOG on grass"
    assert exported[7]["candidates"] == "DOG on grass; a hound; square lawn"
    assert exported[7]["captions"] == "a dog; packed; gone"
    assert exported[7]["revision"].startswith("r0@")
    assert float(exported[7]["rate.tiny_a"]) >= 0
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_was_edited_is_applied_once(
    table: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], separator: str
) -> None:
    changes = {
        3: {"status": "verified", "reason": "looked at it"},
        7: {"label": "dog, on grass"},
        8: {"status": "Rejected"},
        9: {"label": "=SUM(A1)", "status": "renamed"},
    }
    edit(table, changes, separator)
    command = ("import", str(table), "--by", "ada")
    assert run(*command, "--dry-run") == 0
    assert "4 changes would be applied" in capsys.readouterr().out
    assert not list((tmp_path / "labels").iterdir())
    assert run(*command) == 0
    assert "4 changes applied" in capsys.readouterr().out
    assert run(*command) == 0, "the same table again changes nothing"
    assert "0 changes applied" in capsys.readouterr().out
    assert run("export", "--out", str(table)) == 0
    exported = rows(table)
    found = [(exported[n]["label"], exported[n]["status"]) for n in (3, 7, 8, 9)]
    assert found == [
        ("red Square", "verified"),
        ("dog, on grass", "renamed"),
        ("", "rejected"),
        ("'=SUM(A1)", "renamed"),
    ]
    capsys.readouterr()
    assert run("log", "--concept", "3") == 0
    out = capsys.readouterr().out
    assert "ada" in out
    assert "looked at it" in out
    assert "1 changes" in out


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"id": "64"}, "line 9: 64 is no concept"),
        ({"id": "-1"}, "line 9: `id` must be"),
        ({"id": "3"}, "line 9: concept 3 stands in line 5"),
        ({"status": "good"}, "line 9: `status` must be one of"),
        ({"status": "renamed", "label": ""}, "line 9: `renamed` needs a label"),
        ({"status": "verified", "label": "cat"}, "line 9: the label 'cat'"),
        ({"revision": "0"}, "line 9: `revision` must be"),
        ({"revision": "r0@000000000000"}, "line 9: the row is of another dictionary"),
        ({"revision": "r5@DIGEST"}, "line 9: the layer has no revision 5"),
    ],
)
def test_a_wrong_line_refuses_the_whole_table(
    table: Path, run: Run, artifact: Artifact, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], cells: dict[str, str], words: str,
) -> None:  # fmt: skip
    told = {name: cell.replace("DIGEST", artifact.digest[:12]) for name, cell in cells.items()}
    edit(table, {3: {"status": "verified"}, 7: told})
    # revision 5 where there is none counts only if something was edited
    assert run("import", str(table), "--by", "ada") == 2
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "labels").iterdir())


def test_what_somebody_else_changed_meanwhile_is_told_by_line(
    table: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late.csv"
    late.write_bytes(table.read_bytes())
    edit(table, {3: {"status": "verified"}})
    edit(late, {3: {"status": "rejected"}, 7: {"status": "verified"}})
    assert run("import", str(table), "--by", "ada") == 0
    assert run("import", str(late), "--by", "bob") == 2
    assert "line 5: somebody else was first" in (err := capsys.readouterr().err)
    assert "by ada" in err
    edit(late, {3: {"status": "proposed"}, 7: {"status": "verified"}})  # row 3 as it was exported
    assert run("import", str(late), "--by", "bob") == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"id,label\n1,x\n", "status, reason, revision is missing"),
        (b"id,label,status,reason,revision,id\n", "id is missing or repeated"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'id,label,status,reason,revision\n1,"x', "mend the quotes"),
    ],
)
def test_files_that_are_no_table_are_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    assert run("import", str(path), "--by", "ada") == 2
    assert words in capsys.readouterr().err
    assert run("import", str(tmp_path / "none.csv"), "--by", "ada") == 2


@given(st.text(st.sampled_from("'=+-@|ab ")))
def test_guarding_is_undone(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert guarded(text)[:1] not in ("=", "+", "-", "@", "|")
