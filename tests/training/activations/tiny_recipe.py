"""A recipe of three tiny untrained encoders; as a module it runs `training` with it.

python -m tests.training.activations.tiny_recipe extract --recipe tiny …
python -m tests.training.activations.tiny_recipe --fork

The second form imports everything once and forks a process for each command line that it reads
(a JSON list), so that a test can kill many without waiting for torch each time. It answers each
with the process's id, then with its exit code (negative: the signal) and most memory in KiB.
"""

from __future__ import annotations

import json
import os
import sys

from training.configs import FitConfig
from training.encoders import Encoder, EncoderConfig, load_encoder
from training.recipes import RECIPES, Recipe

_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1
    },
}  # fmt: skip
STREAMS = {
    "vit": EncoderConfig(
        kind="timm", modality="image", name="test_vit", weights="random:0", pooling="cls",
        kwargs={"img_size": 64, "depth": 1},
    ),
    "clip_image": EncoderConfig(
        kind="open_clip", modality="image", name="ViT-B-32", weights="random:1", kwargs=_CLIP
    ),
    "clip_text": EncoderConfig(
        kind="open_clip", modality="text", name="ViT-B-32", weights="random:1", kwargs=_CLIP
    ),
}  # fmt: skip


def encoders(*names: str) -> dict[str, Encoder]:
    """Some or all of the recipe's encoders."""
    return {name: load_encoder(STREAMS[name]) for name in names or STREAMS}


def tiny() -> Recipe:
    """Any source, three encoders of a few thousand weights."""
    return Recipe(name="tiny", source="captions-folder", streams=STREAMS, fit=FitConfig(
        num_concepts=32, k=4, steps=10
    ))  # fmt: skip


def fork_for_each_line() -> None:
    """Serve command lines until the input ends."""
    from training.commands import extract  # noqa: F401
    from training.encoders import open_clip_towers, timm_vision  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            os._exit(main(json.loads(line)))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status, usage = os.wait4(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    from training.__main__ import main

    RECIPES["tiny"] = tiny
    if sys.argv[1:] == ["--fork"]:
        fork_for_each_line()
    else:
        sys.exit(main())
