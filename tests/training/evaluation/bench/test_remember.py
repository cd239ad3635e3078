"""What is remembered holds for its origin alone, and a torn file is no memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.evaluation.bench.remember import remembered


def test_what_is_remembered_is_measured_again_when_its_origin_changes(tmp_path: Path) -> None:
    path = tmp_path / "a" / "value.json"

    def counted(value: int) -> Callable[[], int]:
        return lambda: value

    assert remembered(path, {"x": 1}, counted(1)) == 1
    assert remembered(path, {"x": 1}, counted(2)) == 1
    assert remembered(path, {"x": 2}, counted(3)) == 3
    path.write_text('{"torn')
    assert remembered(path, {"x": 2}, counted(4)) == 4
    path.write_text("[]")
    assert remembered(path, {"x": 2}, counted(5)) == 5
