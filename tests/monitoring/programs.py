"""The Debian programs that tests of monitoring run, or why they cannot."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "redis-server": "redis-server",
}
"""By program, the package that has it."""


def needs(*programs: str) -> None:
    """Skips the test where one is missing; with `CI=true` that is a failure."""
    missing = sorted({PACKAGES[name] for name in programs if shutil.which(name) is None})
    if not missing:
        return
    says = f"not installed: {', '.join(missing)}; `make system-packages` installs them as root"
    if os.environ.get("CI") == "true":
        pytest.fail(says)
    pytest.skip(says)
