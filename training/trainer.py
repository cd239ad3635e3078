"""Fits an aligned dictionary on an activation store, resumable to the bit.

Knows steps, checkpoints and validation; what is minimised stands in `losses.py`, what a step
reads in `feed.py`, what workers exchange in `parallel.py`.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import closing, nullcontext
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
from training.alignment import Alignment, alignment, balance, plant_prototypes, seen
from training.configs import FitConfig
from training.dead import DeadLatents
from training.feed import Feed, StepBatch, open_feed
from training.initial import initial_model
from training.losses import Forward, Losses, forward, losses
from training.model import AlignedDictionary
from training.optimizer import DictionaryAdam
from training.parallel import ALONE, Group
from training.progress import progress, silent
from training.schedule import lr_factor
from training.validation import validate
from training.watch import Watch, scalars, warnings

log = logging.getLogger(__name__)

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_TERMS = ("self", "cross", "auxk", "contrast", "teach", "code_contrast")


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
    memory: float | None = None,
    group: Group = ALONE,
) -> Path:
    """Fit `config` on the store's training rows into the run directory, resuming what is there.

    A finished run of the same configuration is left as it is. TrainingError where the directory
    holds another run, the loss becomes non-finite, or another worker of `group` is lost; `memory`
    as for `open_feed`.
    """
    identity = {"fit": asdict(config), "recipe": recipe, "store_fingerprint": store.fingerprint}
    with checkpoint.claimed(run, identity) if group.leads else nullcontext():
        group.wait()
        if not (run / checkpoint.RECORD).is_file():
            where = torch.device(device or best_device(group))
            feed = open_feed(store, config, where, memory=memory, group=group)
            trainer = Trainer(store, config, run, where, feed, group)
            trainer.resume()
            trainer.train()
            trainer.finish(recipe)
        group.wait()
    return run


class Trainer:
    """One worker's run in progress; use `fit`."""

    def __init__(
        self,
        store: ActivationStore,
        config: FitConfig,
        run: Path,
        device: torch.device,
        feed: Feed,
        group: Group,
    ) -> None:
        self.store, self.config, self.run, self.device = store, config, run, device
        self.feed, self.group = feed, group
        self.total_steps = config.total_steps(len(feed.rows))
        self.model = initial_model(store, config).to(device)
        self.optimizer = DictionaryAdam(
            self.model.stream.parameters(),
            [self.model.of(name).dictionary_CD for name in self.model.streams],
            lr=config.lr,
            grad_clip=config.grad_clip,
            renormalise=config.renormalise,
        )
        self.selector_optimizer = selector_optimizer(self.model)
        self.watch = Watch(store, feed.rows)
        self.warned: set[str] = set()
        self.dead = DeadLatents(self.model.streams, config, device, group)
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
        self._agree()
        if self.group.leads:
            checkpoint.cut_history(self.run, self.step)

    def train(self) -> None:
        """All remaining steps."""
        started = time.monotonic() - self.seconds
        config = self.config
        writer = self._writer()
        batches = self.feed.batches(self.step, self.total_steps)
        shown = progress(self.total_steps, "fit", self.step) if self.group.leads else silent()
        with closing(batches), shown as bar:
            for batch in batches:
                lost = self.take_step(batch)
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
        if writer:
            writer.close()

    def finish(self, recipe: str | None) -> None:
        """Write the record that marks the run as finished."""
        if not self.group.leads:
            return
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

    def take_step(self, batch: StepBatch) -> Losses:
        """Forward, backward and update; this worker's share of the losses."""
        config = self.config
        factor = lr_factor(self.step, self.total_steps, config)
        self.optimizer.param_groups[0]["lr"] = config.lr * factor
        with self.autocast:
            out = forward(
                self.model, batch.acts, batch.selecting_NS, batch.present_NS, config.method
            )
            aligned = self._align(out, batch)
            self.dead.update(out.codes, batch.counted_N)
            dead_SC = self._dead_mask()
            lost = losses(self.model, out, batch.present_NS, dead_SC, config, self.group, aligned)
        self.optimizer.zero_grad(set_to_none=True)
        if self.selector_optimizer is not None:
            self.selector_optimizer.zero_grad(set_to_none=True)
        lost.total.backward()
        self.group.sum_gradients(self.model.parameters())
        self.optimizer.step()
        if self.selector_optimizer is not None and config.selector is not None:
            for group in self.selector_optimizer.param_groups:
                group["lr"] = config.selector.lr * factor
            self.selector_optimizer.step()
        if config.reinit_every and (self.step + 1) % config.reinit_every == 0:
            self.dead.reinitialise(self.model, self.step)
        if self._resamples():
            self.dead.resample(self.model, self.optimizer, out, batch.present_NS, self.step)
        return lost

    def _align(self, out: Forward, batch: StepBatch) -> Alignment | None:
        """The alignment's losses of a model with a selector, after one step of its balance."""
        if self.config.selector is None or out.own is None or out.joint_NK is None:
            return None
        start = int(self.config.selector.start * self.total_steps)
        if self.step == start:
            seed = self.config.seed
            plant_prototypes(self.model, self.store, self.feed.rows, seed)
        elif self.step > start:
            balance(self.model, out.own, batch.present_NS, self.group)
        return alignment(
            self.model,
            seen(self.model, out.z, self.config.seed, self.step, self.group),
            out.codes,
            out.joint_NK,
            (batch.selecting_NS != batch.present_NS).any(1),
            batch.present_NS,
            self.step > start,
            self.group,
        )

    def _resamples(self) -> bool:
        config, done = self.config, self.step + 1
        if config.resample_every is None or done % config.resample_every:
            return False
        return done <= self.total_steps * config.resample_until

    def _dead_mask(self) -> Tensor | None:
        """None while nothing is dead, or AuxK is left out.

        Looked at every few steps, since looking waits for a GPU.
        """
        if self.config.auxk_weight == 0:
            return None
        mask_SC = self.dead.mask()
        if self.step % self.config.log_every == 0:
            self.any_dead = bool(mask_SC.any())
        # the published code computes AuxK even when nothing is dead (a gradient on the pre-bias)
        return mask_SC if self.any_dead or self.config.method == "sparc" else None

    def _log(self, writer: SummaryWriter | None, lost: Losses) -> None:
        whole = self.group.sum(torch.stack(lost).detach()).tolist()
        values: dict[str, float] = dict(zip(("loss", *_TERMS), whole, strict=True))
        if self.config.selector is None:
            values = {name: values[name] for name in ("loss", *_TERMS[:3])}
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

    def _watch(self, writer: SummaryWriter | None) -> None:
        """Say once what makes the agreement doubtful."""
        figures = self.watch.look(self.model)
        self._record(writer, {f"train/{name}": x for name, x in scalars(figures).items()})
        for sentence in warnings(figures, self.config.num_concepts):
            words = re.sub(r"[\d.,]+", "", sentence)  # whatever its figures are now
            if words not in self.warned:
                self.warned.add(words)
                log.warning("step %d: %s", self.step, sentence)

    def _validate(self, writer: SummaryWriter | None) -> None:
        if self.group.leads:
            self._watch(writer)
        rows = self.store.split("val")
        if len(rows) == 0:
            return
        scores = validate(self.model, self.store, rows, self.device, self.group)
        self._record(writer, {f"val/{name}": value for name, value in scores.items()})
        score = float(np.mean(list(scores.values())))
        if self.config.keep == "best" and score < self.best.score:
            self.best = Best(score, self.step)
            if self.group.leads:
                checkpoint.save_model(self.run, self.model, self.step)

    def _writer(self) -> SummaryWriter | None:
        if not self.group.leads:
            return None
        return SummaryWriter(str(self.run / checkpoint.LOGS), purge_step=self.step)

    def _record(self, writer: SummaryWriter | None, values: dict[str, float]) -> None:
        if writer is None:
            return
        for name, value in values.items():
            writer.add_scalar(name, value, self.step)
        with (self.run / checkpoint.HISTORY).open("a") as file:
            file.write(json.dumps({"step": self.step, **values}) + "\n")

    def _save(self) -> None:
        if not self.group.leads:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for moment, tensor in self._state_of(parameter).items():
                tensors[f"adam.{moment}.{name}"] = tensor
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
            moments = {m: tensors.get(f"adam.{m}.{name}") for m in _MOMENTS}
            state = self._state_of(parameter)
            state |= {m: t.to(self.device) for m, t in moments.items() if t is not None}
        self.dead.idle_steps_SC.copy_(tensors["idle_steps"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.any_dead = facts["any_dead"]
        if facts["best"] is not None:
            self.best = Best(*facts["best"])

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """An optimizer's state of a parameter; empty before its first gradient."""
        mine = self.optimizer.param_groups[0]["params"]
        if self.selector_optimizer is None or any(parameter is p for p in mine):
            return self.optimizer.state[parameter]
        return self.selector_optimizer.state[parameter]

    def _agree(self) -> None:
        """All workers start from the same step and the same bits."""
        step = torch.tensor([self.step])
        if not self.group.least(step).equal(-self.group.least(torch.tensor([-self.step]))):
            raise TrainingError(
                f"the workers found different checkpoints in `{self.run}` (this one step"
                f" {self.step}): give them one shared directory"
            )
        moments = [t for p in self.model.parameters() for t in self._state_of(p).values()]
        self.group.share([*self.model.state_dict().values(), *moments, self.dead.idle_steps_SC])


def selector_optimizer(model: AlignedDictionary) -> torch.optim.Optimizer | None:
    """AdamW for maps, prototypes and sharpness; None for a model without a selector."""
    config = model.config.selector
    if config is None:
        return None
    selectors = [model.selector_of(name) for name in model.streams]
    maps = [p for s in selectors for p in (s.map_RP, s.map_bias_R)]
    others = [model.prototypes_CR, *(s.sharpness for s in selectors)]
    groups = [{"params": maps, "weight_decay": config.weight_decay}, {"params": others}]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=0.0, fused=True)


def best_device(group: Group = ALONE) -> str:
    """A worker's own CUDA device where there is one, else the CPU."""
    return f"cuda:{group.local_rank}" if torch.cuda.is_available() else "cpu"
