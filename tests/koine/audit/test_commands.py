"""`python -m koine audit …` as its users run it, bundles and reproduction included."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.__main__ import main
from koine.artifact import Artifact
from koine.audit.config import AuditConfig
from koine.audit.entries import read_entry
from koine.audit.events import MICRO, ActiveConcept, EncodeEvent, content_digest
from koine.audit.log import AuditLog
from koine.audit.segments import segments_of
from koine.codes import PAD
from koine.encoder import ConceptEncoder
from koine.images import decode_image
from koine.sessions import CPU
from tests.koine.audit.logs import encoded, signing_key, write_log

ALWAYS = ("--from", "2000-01-01", "--to", "2100-01-01")


def run(*arguments: object) -> int:
    return main(["audit", *map(str, arguments)])


def test_verify_says_what_it_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path)
    told = ("--checkpoints", tmp_path / "published.jsonl", "--key", tmp_path / "key.pub")
    assert run("verify", log, *told) == 0
    out = capsys.readouterr().out
    assert out.startswith("w0: ok: entries 0 to 20, signed up to 20, ")
    assert "not" not in out
    assert run("verify", log) == 0
    out = capsys.readouterr().out
    assert "signatures were not checked" in out
    assert "not compared with checkpoints kept elsewhere" in out


def test_verify_exits_1_for_faults_and_2_where_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path)
    path = segments_of(log / "w0")[0]
    path.write_bytes(path.read_bytes().replace(b'"latency_us":1002', b'"latency_us":1003'))
    assert run("verify", log, "--key", tmp_path / "key.pub") == 1
    out = capsys.readouterr().out
    assert f"FAULT {path} line 6 (entry 4, byte" in out
    assert "entry 3 is not the one that this was written after" in out
    assert run("verify", tmp_path / "nothing") == 2
    assert run("verify", tmp_path) == 2
    assert "holds no audit log" in capsys.readouterr().err
    assert run("verify", log, "--checkpoints", tmp_path / "key.pub") == 2
    assert run("verify", log, "--key", tmp_path / "published.jsonl") == 2


def test_a_key_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("key", "--out", tmp_path / "key") == 0
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key.pub").read_text().startswith("koine-audit+")
    assert run("key", "--out", tmp_path / "key") == 2
    assert "is there already" in capsys.readouterr().err


def test_checkpoint_prints_what_verify_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signing_key(tmp_path)
    with AuditLog(tmp_path / "log", "w0") as log:
        log.record(encoded(1))
    assert run("checkpoint", tmp_path / "log") == 0
    assert "nothing is signed yet" in capsys.readouterr().err
    assert run("checkpoint", tmp_path / "log", "--sign", tmp_path / "key") == 0
    kept = tmp_path / "kept.jsonl"
    kept.write_text(capsys.readouterr().out)
    told = ("--checkpoints", kept, "--key", tmp_path / "key.pub")
    assert run("verify", tmp_path / "log", *told) == 0
    shutil.rmtree(tmp_path / "log" / "w0")
    with AuditLog(tmp_path / "log", "w0"):
        pass
    assert run("verify", tmp_path / "log", *told) == 1


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    log = write_log(tmp_path, 40)
    entries = [
        read_entry(line)
        for path in segments_of(log / "w0")
        for line in path.read_bytes().splitlines()[1:]
    ]
    begin, end = entries[7].time, entries[29].time
    key = ("--key", tmp_path / "key.pub")
    out = tmp_path / "bundle"
    assert run("export", log, "--from", begin, "--to", end, "--out", out, *key) == 0
    return out


def third_party(bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The bundle's own script, far from the project."""
    command = [sys.executable, str(bundle / "verify.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, check=False)


def test_a_bundle_verifies_without_koine(bundle: Path, tmp_path: Path) -> None:
    told = third_party(bundle, "--key", tmp_path / "key.pub")
    assert (told.returncode, told.stderr) == (0, "")
    assert "w0: 22 entries (7 to 28) are under the checkpoint at 41" in told.stdout
    assert len(json.loads((bundle / "proofs.json").read_text())["writers"][0]["earlier"]) > 3
    alone = third_party(bundle)
    assert "compare it with the log's" in alone.stdout
    assert "import koine" not in (bundle / "verify.py").read_text()


@pytest.mark.parametrize(
    "damage", ["change", "drop", "last", "checkpoint", "earlier", "key", "proof"]
)
def test_a_damaged_bundle_does_not(bundle: Path, tmp_path: Path, damage: str) -> None:
    entries = bundle / "entries" / "w0.jsonl"
    proofs = json.loads((bundle / "proofs.json").read_text())
    lines = entries.read_bytes().splitlines(keepends=True)
    part = proofs["writers"][0]
    key = tmp_path / "key.pub"
    if damage == "change":
        lines[-1] = lines[-1].replace(b'"latency_us":1', b'"latency_us":2')
    elif damage == "drop":
        del lines[3]
    elif damage == "last":
        part["last"] -= 1
        del lines[-1]
    elif damage == "checkpoint":
        part["checkpoint"] = part["checkpoint"].replace("\n41\n", "\n42\n")
    elif damage == "earlier":
        part["earlier"][0]["consistency"][0] = "0" * 64
    elif damage == "proof":
        del part["beside"][0]
    else:
        run("key", "--out", tmp_path / "other")
        key = tmp_path / "other.pub"
    entries.write_bytes(b"".join(lines))
    (bundle / "proofs.json").write_text(json.dumps(proofs))
    told = third_party(bundle, "--key", key)
    assert told.returncode == 1
    assert "w0: FAULT: " in told.stdout


def test_export_refuses_what_it_cannot_prove(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path)
    key, out = ("--key", tmp_path / "key.pub"), tmp_path / "out"
    assert run("export", log, "--from", "1999", "--to", "2000-01-01", "--out", out, *key) == 2
    assert run("export", log, "--from", "1999-01-01", "--to", "2000-01-01", "--out", out, *key) == 2
    assert "no entry of" in capsys.readouterr().err
    with AuditLog(log, "w0", AuditConfig()) as unsigned:
        unsigned.record(encoded(50))
    assert run("export", log, *ALWAYS, "--out", out, *key) == 1
    assert "signed up to entry 21, the span ends at 23" in capsys.readouterr().err
    assert not out.exists()


def answer(artifact: Artifact, image: bytes, text: str) -> EncodeEvent:
    """What a service would keep of an answer over an image and a text."""
    encoder = ConceptEncoder(artifact, providers=[CPU])
    pixels = encoder.preprocess("tiny_a", decode_image(image))[None]
    acts = {
        "tiny_a": encoder.activations("tiny_a", pixels),
        "tiny_text": encoder.activations("tiny_text", encoder.tokenize("tiny_text", [text])),
    }
    codes = {}
    for name, found in encoder.encode(acts, "joint").items():
        pairs = zip(found.indices_NK[0][:4].tolist(), found.values_NK[0][:4].tolist(), strict=True)
        codes[name] = tuple(
            ActiveConcept(concept=i, micros=round(v * MICRO)) for i, v in pairs if i != PAD
        )
    return EncodeEvent(
        content={"image": content_digest(image), "text": content_digest(text.encode())},
        dictionary=artifact.digest, mode="joint", codes=codes, latency_us=1, outcome="ok",
    )  # fmt: skip


def test_reproduce_encodes_the_same_codes(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, text = tmp_path / "image.png", tmp_path / "text.txt"
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    text.write_text("a dog on grass\n")
    event = answer(tiny_artifact, image.read_bytes(), "a dog on grass")
    (first, *rest) = event.codes["tiny_a"]
    wrong = (first._replace(micros=first.micros + 10_000), *rest)
    with AuditLog(tmp_path / "log", "w0") as log:
        log.record(event)
        log.record(event.model_copy(update={"codes": {"tiny_a": wrong}}))
    inputs = ("--input", image, "--input", text)
    artifact = ("--artifact", tiny_artifact.path)
    entry = tmp_path / "log" / "w0"
    assert run("reproduce", f"{entry}:1", *inputs, *artifact) == 0
    assert "tiny_text: the same, top" in capsys.readouterr().out
    assert run("reproduce", f"{entry}:2", *inputs, *artifact) == 1
    assert "NOT THE SAME" in capsys.readouterr().out
    assert run("reproduce", f"{entry}:1", "--input", image, *artifact) == 2
    assert "also over `text`" in capsys.readouterr().err
    text.write_text("a cat")
    assert run("reproduce", f"{entry}:1", *inputs, *artifact) == 2
    assert "not the input that was sent" in capsys.readouterr().err
    assert run("reproduce", f"{entry}:0", *inputs, *artifact) == 2
    assert run("reproduce", f"{entry}:99", *inputs, *artifact) == 2
    assert "holds no entry 99" in capsys.readouterr().err
