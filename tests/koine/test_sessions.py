"""Sessions: 8-bit kernels follow the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from koine.sessions import has_vnni


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("avx512f avx512_vnni", True),
        ("avx2 avx_vnni", True),
        ("avx2 avx512f", False),
        (None, False),
    ],
)
def test_the_processor_says_whether_it_has_vnni(
    tmp_path: Path, flags: str | None, has: bool
) -> None:
    info = tmp_path / "cpuinfo"
    if flags is not None:
        info.write_text(f"flags : fpu sse {flags}\n")
    assert has_vnni(info) is has
