"""Asks OSV whether what a lock file pins has known vulnerabilities; part of `make check`.

Exits 1 where there are some. Where the database cannot be asked it says `not audited` and exits 0:
a check without a network must not fail for that, nor say that all is well. Package indexes are
not asked.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

_UNREACHABLE = re.compile(r"requests\.exceptions\.|ServiceError|vulnerability feed")
"""What pip-audit ends with where the database does not answer, or not in its own format."""
SECONDS = 60.0
"""Longest that the whole audit takes."""


def main() -> None:
    """One line for each vulnerability, or one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path, help="a lock file with hashes")
    parser.add_argument("--osv-url", help="another OSV database than the public one")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    asked = parser.parse_args()
    if not asked.lock.is_file():
        sys.exit(f"{asked.lock} is no file; name a lock file")
    try:
        found = _audit(asked.lock, asked.osv_url, asked.seconds)
    except subprocess.TimeoutExpired:
        print(f"not audited: {asked.lock}: no answer within {asked.seconds:g} s")
        return
    if isinstance(found, str):
        print(f"not audited: {asked.lock}: {found}")
        return
    bad = [f"{name}: {', '.join(ids)}" for name, ids in found.items() if ids]
    if bad:
        sys.exit("\n".join([f"known vulnerabilities in {asked.lock}; upgrade or replace:", *bad]))
    print(f"audited: {asked.lock}: {len(found)} packages without a known vulnerability")


def _audit(lock: Path, osv_url: str | None, seconds: float) -> dict[str, list[str]] | str:
    """The ids of what is known of each package, or why that cannot be said."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes",
        "--disable-pip", "--vulnerability-service", "osv", "--format", "json",
        "--progress-spinner", "off", "--timeout", "10",
    ]  # fmt: skip
    if osv_url:
        command += ["--osv-url", osv_url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    try:
        report = json.loads(run.stdout)
    except ValueError:
        if not _UNREACHABLE.search(run.stderr):
            sys.exit(f"{lock} cannot be audited; pip-audit says:\n{run.stderr.strip()}")
        return run.stderr.strip().splitlines()[-1][:300]
    return {
        f"{package['name']} {package.get('version', '')}".strip(): [
            f"{fault['id']} (mended in {' or '.join(fault['fix_versions']) or 'no version yet'})"
            for fault in package.get("vulns", ())
        ]
        for package in report["dependencies"]
    }


if __name__ == "__main__":
    main()
