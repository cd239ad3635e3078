"""Fits an aligned dictionary on an activation store, resumable to the bit.

Knows steps, checkpoints and validation; what is minimised stands in `losses.py`, what a step
reads in `schedule.py`.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from koine.errors import TrainingError
from training import checkpoint
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.dead import DeadLatents
from training.losses import Losses, forward, losses
from training.model import AlignedDictionary, ModelConfig
from training.optimizer import DictionaryAdam
from training.progress import progress
from training.schedule import lr_at, selecting_streams, step_rows
from training.statistics import stream_statistics
from training.validation import validate

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Best(NamedTuple):
    """The best validation so far."""

    score: float
    step: int


def fit(
    store: ActivationStore,
    config: FitConfig,
    run: Path,
    *,
    recipe: str | None = None,
    device: str | None = None,
) -> Path:
    """Fit `config` on the store's training rows into the run directory, resuming what is there.

    A finished run of the same configuration is left as it is. TrainingError where the directory
    holds another run, or the loss becomes non-finite.
    """
    run.mkdir(parents=True, exist_ok=True)
    identity = {"fit": asdict(config), "recipe": recipe, "store_fingerprint": store.fingerprint}
    checkpoint.claim(run, identity)
    with checkpoint.held(run):
        if not (run / checkpoint.RECORD).is_file():
            trainer = _Trainer(store, config, run, torch.device(device or _best_device()))
            trainer.resume()
            trainer.train()
            trainer.finish(recipe)
    return run


def initial_model(store: ActivationStore, config: FitConfig) -> AlignedDictionary:
    """The untrained dictionary that `fit` starts from: seeded weights, the store's statistics."""
    torch.manual_seed(config.seed)
    shape = ModelConfig(num_concepts=config.num_concepts, k=config.k, selection=config.selection)
    model = AlignedDictionary(shape, {stream.name: stream.d_in for stream in store.streams})
    for name, statistics in stream_statistics(store).items():
        stream = model.of(name)
        stream.mean_D.copy_(torch.from_numpy(statistics.mean_D))
        if config.standardise:
            stream.shift_D.copy_(stream.mean_D)
            stream.scale.fill_(statistics.variance**-0.5)
    return model


class _Trainer:
    def __init__(
        self, store: ActivationStore, config: FitConfig, run: Path, device: torch.device
    ) -> None:
        self.store, self.config, self.run, self.device = store, config, run, device
        self.rows = store.split("train")
        self.total_steps = config.total_steps(len(self.rows))
        self.model = initial_model(store, config).to(device)
        self.optimizer = DictionaryAdam(
            self.model.parameters(),
            [self.model.of(name).dictionary_CD for name in self.model.streams],
            lr=config.lr,
            grad_clip=config.grad_clip,
            renormalise=config.renormalise,
        )
        self.dead = DeadLatents(self.model.streams, config, device)
        self.any_dead = False
        self.step = 0
        self.seconds = 0.0
        self.best = Best(float("inf"), -1)
        bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)

    def resume(self) -> None:
        """Continue from the checkpoint, where there is one."""
        path = self.run / checkpoint.CHECKPOINT
        if path.is_file():
            tensors, facts = checkpoint.load_tensors(path)
            self._restore(tensors, facts)
        checkpoint.cut_history(self.run, self.step)

    def train(self) -> None:
        """All remaining steps."""
        started = time.monotonic() - self.seconds
        config = self.config
        writer = SummaryWriter(str(self.run / checkpoint.LOGS), purge_step=self.step)
        with progress(self.total_steps, "fit", self.step) as bar:
            while self.step < self.total_steps:
                lost = self._one_step()
                self.step += 1
                last = self.step == self.total_steps
                if self.step % config.log_every == 0 or last:
                    self._log(writer, lost)
                if self.step % config.validate_every == 0 or last:
                    self._validate(writer)
                self.seconds = time.monotonic() - started
                if self.step % config.checkpoint_every == 0 or last:
                    self._save()
                bar.advance()
        writer.close()

    def finish(self, recipe: str | None) -> None:
        """Write the record that marks the run as finished."""
        if self.config.keep == "last" or self.best.step < 0:
            checkpoint.save_model(self.run, self.model, self.step)
            kept = self.step
        else:
            kept = self.best.step
        rows = {split: len(self.store.split(split)) for split in ("train", "val", "test")}
        record = {
            "schema": "koine.fit/1",
            "recipe": recipe,
            "method": self.config.method,
            "seed": self.config.seed,
            "store": str(self.store.path.resolve()),
            "store_fingerprint": self.store.fingerprint,
            "rows": rows,
            "steps": self.step,
            "kept_step": kept,
            "seconds": round(self.seconds, 1),
        }
        checkpoint.write_json(self.run / checkpoint.RECORD, record)

    def _one_step(self) -> Losses:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.step, self.total_steps, config)
        drawn = step_rows(self.rows, self.step, config)
        batch = self.store.gather(drawn.rows_N, drawn.draws_N)
        acts = {n: torch.from_numpy(x).to(self.device) for n, x in batch.acts.items()}
        selecting_NS = selecting_streams(batch.present_NS, self.step, config)
        with self.autocast:
            out = forward(self.model, acts, torch.from_numpy(selecting_NS).to(self.device))
            self.dead.update(out.codes, self._counted(selecting_NS, batch.present_NS))
            dead_SC = self._dead_mask()
            present_NS = torch.from_numpy(batch.present_NS).to(self.device)
            lost = losses(self.model, out, present_NS, dead_SC, config)
        self.optimizer.zero_grad(set_to_none=True)
        lost.total.backward()
        self.optimizer.step()
        if config.reinit_every and (self.step + 1) % config.reinit_every == 0:
            self.dead.reinitialise(self.model, self.step)
        if self._resamples():
            self.dead.resample(self.model, self.optimizer, out, present_NS, self.step)
        return lost

    def _counted(self, selecting_NS: np.ndarray, present_NS: np.ndarray) -> Tensor:
        """Items chosen for by all their streams; all items where no item is."""
        joint_N = (selecting_NS == present_NS).all(1)
        return torch.from_numpy(joint_N if joint_N.any() else ~joint_N).to(self.device)

    def _resamples(self) -> bool:
        config, done = self.config, self.step + 1
        if config.resample_every is None or done % config.resample_every:
            return False
        return done <= self.total_steps * config.resample_until

    def _dead_mask(self) -> Tensor | None:
        """None while nothing is dead; looked at every few steps, since looking waits for a GPU."""
        mask_SC = self.dead.mask()
        if self.step % self.config.log_every == 0:
            self.any_dead = bool(mask_SC.any())
        # the published code computes AuxK even when nothing is dead (a gradient on the pre-bias)
        return mask_SC if self.any_dead or self.config.method == "sparc" else None

    def _log(self, writer: SummaryWriter, lost: Losses) -> None:
        values = {
            "loss": lost.total.item(),
            "self": lost.self_.item(),
            "cross": lost.cross.item(),
            "auxk": lost.auxk.item(),
        }
        if not np.isfinite(values["loss"]):
            kept = self.run / checkpoint.CHECKPOINT
            raise TrainingError(
                f"the loss became {values['loss']} at step {self.step} ({values}). "
                + (
                    f"The state in `{kept}` is from before"
                    if kept.is_file()
                    else "No state was kept"
                )
                + f"; lower `--lr` (now {self.config.lr}) in a new `--out`"
            )
        dead_SC = self.dead.mask()
        values["dead"] = int(dead_SC.all(0).sum())
        values["mixed"] = int((dead_SC.any(0) & ~dead_SC.all(0)).sum())
        self._record(writer, values)

    def _validate(self, writer: SummaryWriter) -> None:
        rows = self.store.split("val")
        if len(rows) == 0:
            return
        scores = validate(self.model, self.store, rows, self.device)
        self._record(writer, {f"val/{name}": value for name, value in scores.items()})
        score = float(np.mean(list(scores.values())))
        if self.config.keep == "best" and score < self.best.score:
            self.best = Best(score, self.step)
            checkpoint.save_model(self.run, self.model, self.step)

    def _record(self, writer: SummaryWriter, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, self.step)
        with (self.run / checkpoint.HISTORY).open("a") as file:
            file.write(json.dumps({"step": self.step, **values}) + "\n")

    def _save(self) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for moment in _MOMENTS:
                tensors[f"adam.{moment}.{name}"] = self.optimizer.state[parameter][moment]
        tensors["idle_steps"] = self.dead.idle_steps_SC
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "any_dead": self.any_dead,
            "best": list(self.best) if self.best.step >= 0 else None,
        }
        checkpoint.save_tensors(self.run / checkpoint.CHECKPOINT, tensors, facts)

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        weights = {
            k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")
        }
        self.model.load_state_dict(weights)
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                moment: tensors[f"adam.{moment}.{name}"].to(self.device) for moment in _MOMENTS
            }
        self.dead.idle_steps_SC.copy_(tensors["idle_steps"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.any_dead = facts["any_dead"]
        if facts["best"] is not None:
            self.best = Best(*facts["best"])


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
