"""The keys file: written whole, read strictly, followed while serving; and its commands."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from koine.errors import SettingsError, UnauthorizedError
from service.access import access as access_module
from service.access.__main__ import main
from service.access.keys import SECRET, hash_of, new_secret, read_keys
from tests.service.access.keyring import access_of, add
from tests.service.process import ROOT

HASH = "ab" * 32


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.access", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_create_prints_the_secret_once_and_keeps_its_hash(keys: Path) -> None:
    made = command(
        "create", "search", "--scopes", "encode,read", "--items-per-minute", "600",
        "--expires", "2099-01-31", "--file", str(keys),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert SECRET.fullmatch(secret)
    assert secret not in keys.read_text() + made.stderr
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    key = read_keys(keys)[hash_of(secret)]
    assert (key.name, key.items_per_minute) == ("search", 600)
    assert os.listdir(keys.parent) == ["keys.jsonl"]
    assert access_of(keys).key_of(None, secret) == key
    listed = command("list", "--file", str(keys)).stdout
    assert re.search(
        rf"{key.id}  search +encode,read +valid until 2099-01-31T00:00:00Z, 600 items/min", listed
    )
    assert secret not in listed


def test_revoke_by_id_leaves_the_other_key_of_the_name(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.write_text("# whose keys these are\n")
    old, new = add(keys, "search"), add(keys, "search")
    main(["revoke", hash_of(old)[:8], "--file", str(keys)])
    assert "revoked" in capsys.readouterr().out
    assert [key.disabled for key in read_keys(keys).values()] == [True, False]
    assert keys.read_text().startswith("# whose keys these are\n")
    main(["revoke", "search", "--file", str(keys)])
    assert [key.disabled for key in read_keys(keys).values()] == [True, True]
    with pytest.raises(SystemExit, match="no key in .* that is in use .* 'search'"):
        main(["revoke", "search", "--file", str(keys)])
    assert not access_of(keys)._buckets[hash_of(new)[:8]].items


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "a b", "--scopes", "read"], "`name`.*got 'a b'"),
        (["create", "a", "--scopes", "write"], "`scopes`.*'encode', 'read', 'label' or 'admin'"),
        (["create", "a", "--scopes", ","], "`scopes`.*at least 1 item"),
        (["create", "a", "--scopes", "read", "--items-per-minute", "0"], "`items_per_minute`"),
        (["create", "a", "--scopes", "read", "--expires", "soon"], "ISO 8601, got 'soon'"),
        (["list"], "cannot be read: No such file"),
    ],
)
def test_commands_refuse_in_one_sentence(keys: Path, words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        main([*words, "--file", str(keys)])
    assert not keys.exists()


def test_a_file_with_a_fault_is_not_written_over(keys: Path) -> None:
    keys.write_text("{broken\n")
    with pytest.raises(SystemExit, match="line 1"):
        main(["create", "a", "--scopes", "read", "--file", str(keys)])
    assert keys.read_text() == "{broken\n"
    with pytest.raises(SystemExit, match="cannot be written"):
        main(["create", "a", "--scopes", "read", "--file", str(keys.parent / "no" / "folder")])


def test_commands_at_once_lose_nothing(keys: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: add(keys, f"key{n}"), range(24)))
    assert read_keys(keys).keys() == {hash_of(secret) for secret in made}


def test_a_links_target_is_replaced_not_the_link(keys: Path, tmp_path: Path) -> None:
    real = tmp_path / "mounted" / "keys"
    real.parent.mkdir()
    add(real, "a")
    keys.symlink_to(real)
    add(keys, "b")
    assert keys.is_symlink()
    assert len(read_keys(real)) == 2


def entry(**fields: object) -> str:
    return json.dumps({"name": "a", "sha256": HASH, "scopes": ["read"], **fields})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        (entry(sha256="00"), "`sha256`"),
        (entry(name="x\ny"), "`name`"),
        (entry(scopes=[]), "`scopes`"),
        (entry(scopes=["all"]), "`scopes.0`"),
        (entry(expires="2027-01-01T00:00:00"), "`expires`.*timezone"),
        (entry(expires="soon"), "`expires`"),
        (entry(items_per_minute="5"), "`items_per_minute`"),
        (entry(requests_per_minute=0), "`requests_per_minute`"),
        (entry(disabled="no"), "`disabled`"),
        (entry(enabled=True), "`enabled`: Extra"),
        (entry(name="b"), f"{HASH[:8]} stands in line 2 already"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(keys: Path, line: str, said: str) -> None:
    keys.write_text(f"# keys\n{entry()}\n\n{line}\n")
    with pytest.raises(SettingsError, match=rf"keys\.jsonl line 4: .*{said}"):
        read_keys(keys)


def test_a_secret_in_the_wrong_place_is_not_repeated(keys: Path) -> None:
    secret = new_secret()
    for line in (entry(sha256=secret), entry(**{secret: 1}), entry(name=f"{secret} "), secret):
        keys.write_text(line)
        with pytest.raises(SettingsError) as raised:
            read_keys(keys)
        assert secret not in str(raised.value)


def test_a_broken_new_file_changes_nothing_and_is_logged_once(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = add(keys, "search")
    access = access_of(keys)
    whole = keys.read_text()
    keys.write_text(whole + "{broken\n")
    for _ in range(3):
        access.refresh()
    assert access.key_of(None, secret).name == "search"
    keys.unlink()
    access.refresh()
    assert access.key_of(None, secret).name == "search"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert "line 2" in errors[0]
    assert "No such file" in errors[1]
    other = add(keys, "other")
    access.refresh()
    assert access.key_of(None, other).name == "other"
    with pytest.raises(UnauthorizedError, match="not known"):
        access.key_of(None, secret)


def test_a_file_emptied_on_purpose_lets_nobody_in(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = add(keys, "search")
    access = access_of(keys)
    keys.write_text("")
    access.refresh()
    with pytest.raises(UnauthorizedError):
        access.key_of(None, secret)
    assert not access.open
    assert "nobody is let in" in caplog.text


def test_a_revoked_key_ends_while_running(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "POLL_S", 0.02)
    secret = add(keys, "search")
    access = access_of(keys)

    async def until_refused() -> None:
        await access.start()
        assert access.key_of(None, secret).name == "search"
        await asyncio.to_thread(main, ["revoke", "search", "--file", str(keys)])
        async with asyncio.timeout(60):
            while True:
                try:
                    access.key_of(None, secret)
                except UnauthorizedError:
                    break
                await asyncio.sleep(0.01)
        await access.close()

    asyncio.run(until_refused())


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_may_read_is_warned_of(
    keys: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    add(keys, "search")
    keys.chmod(mode)
    access = access_of(keys)

    async def start() -> None:
        await access.start()
        await access.close()

    asyncio.run(start())
    told = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [f"mode {mode:04o}" in record.getMessage() for record in told] == [True] * warned
