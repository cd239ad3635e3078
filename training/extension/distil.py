"""Distils a new stream from frozen ones, resumable to the bit; its start comes in closed form.

Per pair, with own codes of every stream: self reconstruction of the new one, cross reconstruction
to and from each existing one, teaching of what the existing ones choose together, and contrast of
places in the shared space, as `losses.py` and `alignment.py` have them for all streams at once.
The map sees the components that the closed form found, so it has few weights to overfit.
Only the new stream's weights move; which of them are kept, the pairs kept out decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from koine.errors import TrainingError
from training import checkpoint
from training.activations.store import ActivationStore
from training.alignment import SupportCrossEntropy
from training.configs import FitConfig
from training.extension.config import ExtendConfig
from training.extension.judge import Judge
from training.extension.teacher import Taught, taught
from training.info_nce import mean_info_nce
from training.kernels.sparse import Support, reconstruct
from training.model import AlignedDictionary, select
from training.progress import progress
from training.schedule import lr_factor, step_rows
from training.unit import unit

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Best(NamedTuple):
    """The best look at the pairs kept out so far."""

    value: float
    step: int


class Distiller:
    """A run in progress; use `extend`."""

    def __init__(
        self,
        model: AlignedDictionary,
        store: ActivationStore,
        parent: FitConfig,
        config: ExtendConfig,
        rows_F: np.ndarray,
        run: Path,
    ) -> None:
        self.model, self.store, self.config, self.run = model, store, config, run
        self.rows_F, self.stream, self.parent = rows_F, config.stream, parent
        self.schedule = FitConfig(
            num_concepts=model.config.num_concepts,
            k=model.config.k,
            batch_size=min(config.batch_size, len(rows_F)),
            steps=max(1, config.steps),
            seed=config.seed,
            warmup=0.05,
            decay=0.5,
        )
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.weights = dict(model.of(self.stream).named_parameters())
        self.selector: dict[str, Tensor] = {}
        if model.config.selector is not None:
            self.selector = dict(model.selector_of(self.stream).named_parameters())
        for parameter in (*self.weights.values(), *self.selector.values()):
            parameter.requires_grad_(True)
        self.optimizers = [torch.optim.Adam(self.weights.values(), lr=config.lr)]
        if self.selector:
            mine = self.selector.values()
            decay = config.weight_decay
            self.optimizers.append(
                torch.optim.AdamW(mine, lr=config.selector_lr, weight_decay=decay)
            )
        self.step = 0
        self.best = Best(-float("inf"), -1)

    def run_to_end(self, judge: Judge) -> None:
        """All remaining steps, from the last resume state where there is one."""
        self._resume()
        if self.step == 0:
            self._look(judge)
        with progress(self.config.steps, "extend", self.step) as bar:
            while self.step < self.config.steps:
                losses = self._take_step()
                self.step += 1
                if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                    self._look(judge, losses)
                    self._save()
                bar.advance()

    def _take_step(self) -> dict[str, float]:
        rows_N, draws_N = step_rows(self.rows_F, self.step, self.schedule)
        t = taught(self.model, self.store, self.stream, rows_N, draws_N)
        factor = lr_factor(self.step, self.config.steps, self.schedule)
        rates = (self.config.lr, self.config.selector_lr)
        for optimizer, lr in zip(self.optimizers, rates, strict=False):
            optimizer.param_groups[0]["lr"] = lr * factor
            optimizer.zero_grad(set_to_none=True)
        terms = self._terms(t)
        total = torch.stack(list(terms.values())).sum()
        if not bool(total.isfinite()):
            raise TrainingError(
                f"the loss became {total.item()} at step {self.step}: the new stream's activations "
                "may hold values that are not finite; check its store"
            )
        total.backward()
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return {name: term.item() for name, term in terms.items()}

    def _terms(self, t: Taught) -> dict[str, Tensor]:
        model, config = self.model, self.config
        new = model.of(self.stream)
        own_NK = select([model.scores(self.stream, t.z_ND)], model.config.k)
        support = Support.of(own_NK[None], model.config.num_concepts)
        values_NK = model.codes_at(self.stream, t.z_ND, support)
        mine = values_NK[None, None]
        terms = {"self": _error(mine, new, t.z_ND, support).mean()}
        cross = []
        for column, (name, z_ND) in enumerate(t.others.items()):
            here_N, theirs = t.present_NS[:, column], t.own[name]
            at = Support.of(theirs.indices_NK[None], model.config.num_concepts)
            for error_N in (
                _error(mine, model.of(name), z_ND, support),
                _error(theirs.values_NK[None, None], new, t.z_ND, at),
            ):
                cross.append((error_N * here_N).sum() / here_N.sum().clamp_min(1))
        terms["cross"] = self.parent.cross_weight * torch.stack(cross).mean()
        if model.config.selector is None:
            terms["teach"] = config.teach_weight * self._teach_pre_codes(t)
            return terms
        terms |= self._align(t)
        return terms

    def _align(self, t: Taught) -> dict[str, Tensor]:
        """Teaching and contrast in the shared space."""
        shared, selector = self.model.config.selector, self.model.selector_of(self.stream)
        assert shared is not None
        place_NR = selector(selector.components(t.z_ND))
        weight_N = torch.full((len(place_NR),), 1 / len(place_NR))
        teach = SupportCrossEntropy.apply(
            place_NR * selector.sharpness, unit(self.model.prototypes_CR), t.joint_NK, weight_N
        )
        others = {n: self.model.selector_of(n) for n in t.others}
        products = [place_NR @ s(s.components(t.others[n])).T for n, s in others.items()]
        contrast = mean_info_nce(products, t.present_NS, shared.contrast_temperature)
        return {
            "teach": self.config.teach_weight * teach,
            "contrast": self.config.contrast_weight * contrast,
        }

    def _teach_pre_codes(self, t: Taught) -> Tensor:
        new = self.model.of(self.stream)
        logits_NC = new.pre_codes(t.z_ND)
        return (logits_NC.logsumexp(1) - logits_NC.gather(1, t.joint_NK).mean(1)).mean()

    def _look(self, judge: Judge, losses: dict[str, float] | None = None) -> None:
        judged = judge.look(self.model)
        figures = {f"choose/{name}": value for name, value in judged._asdict().items()}
        line = {"step": self.step, **(losses or {}), **figures}
        with (self.run / checkpoint.HISTORY).open("a") as file:
            file.write(json.dumps(line) + "\n")
        if judged.value > self.best.value:
            self.best = Best(judged.value, self.step)
            checkpoint.save_model(self.run, self.model, self.step)

    def _save(self) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, optimizer, parameter in self._learnt():
            for moment, tensor in optimizer.state[parameter].items():
                tensors[f"adam.{moment}.{name}"] = tensor
        facts: dict[str, Any] = {"step": self.step, "best": list(self.best)}
        checkpoint.save_tensors(self.run / checkpoint.CHECKPOINT, tensors, facts)

    def _resume(self) -> None:
        path = self.run / checkpoint.CHECKPOINT
        if path.is_file():
            tensors, facts = checkpoint.load_tensors(path)
            found = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
            self.model.load_state_dict(found)
            for name, optimizer, parameter in self._learnt():
                moments = {m: tensors.get(f"adam.{m}.{name}") for m in _MOMENTS}
                optimizer.state[parameter] = {m: t for m, t in moments.items() if t is not None}
            self.step, self.best = facts["step"], Best(*facts["best"])
        checkpoint.cut_history(self.run, self.step if path.is_file() else -1)

    def _learnt(self) -> Iterator[tuple[str, torch.optim.Optimizer, Tensor]]:
        parts = (("stream", self.weights), ("selector", self.selector))
        for (part, weights), optimizer in zip(parts, self.optimizers, strict=False):
            yield from ((f"{part}.{name}", optimizer, weight) for name, weight in weights.items())


def _error(values_USNK: Tensor, stream: Any, z_ND: Tensor, support: Support) -> Tensor:
    """Squared error of each item; a fraction of variance where streams are standardised."""
    out = reconstruct(values_USNK, stream.dictionary_CD, stream.pre_bias_D, z_ND, support)
    return out.error_USN[0, 0]
