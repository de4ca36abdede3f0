"""Training of the V-Net on annotated CTs: seeded, checkpointed, and the same whether interrupted or not."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import replaced_when_written
from .augmentation import Augmentation
from .losses import segmentation_loss
from .patches import Case, Sampling, batch
from .vnet import COMPACT, Layout, VNet, features

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same recipe and cases give the same network on one device.

    The defaults take less than two hours on two cores of a laptop. Up to the share `small_until` of the steps a step
    sees two patches of two thirds the size instead of one, which takes two thirds of the time: most of what is to be
    learnt is learnt from any voxels, what is around a kidney only from large patches. The learning rate rises for
    `warm_up` steps, stays, and falls to zero from the share `decay_from` of all `steps` on, so that a run can be given
    more steps while it has not begun to fall. From the share `settle_from` on the normalisation is held at the
    statistics gathered so far: what is trained then is exactly what is used later. The result is the running mean of
    the weights, `average` being the share of the past per step.
    """

    layout: Layout = COMPACT
    steps: int = 22_000
    patches_per_step: int = 1
    small_until: float = 0.55
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warm_up: int = 100
    decay_from: float = 0.55
    settle_from: float = 0.65
    average: float = 0.995
    largest_gradient: float = 5.0
    half_precision: bool = True
    seed: int = 2018
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        multiple = self.layout.multiple
        if any(side < multiple or side % multiple for side in self.sampling.size):
            raise ValueError(
                f"Patches of {self.sampling.size} voxels: this network takes multiples of {multiple} along every axis."
            )

    def patches(self, step: int) -> tuple[int, Sampling]:
        """How many patches a step sees, and how they are sampled."""
        if step >= self.small_until * self.steps:
            return self.patches_per_step, self.sampling
        multiple = self.layout.multiple
        depth, height, width = (max(multiple, side * 2 // 3 // multiple * multiple) for side in self.sampling.size)
        return 2 * self.patches_per_step, replace(self.sampling, size=(depth, height, width))

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warm_up))
        start = self.decay_from * self.steps
        left = 1.0 if step < start else max(0.0, (self.steps - step) / max(1.0, self.steps - start))
        return self.learning_rate * warm * left


class Trainer:
    """A network in training: steps, checkpoints, and the averaged network at the end."""

    def __init__(self, cases: Sequence[Case], recipe: Recipe, device: torch.device | str = "cpu") -> None:
        if not cases:
            raise ValueError("No cases to train on: give at least one annotated CT.")
        self.cases = list(cases)
        self.recipe = recipe
        self.device = torch.device(device)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.network = VNet(recipe.layout)
        self.network.to(self.device, memory_format=torch.channels_last_3d)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.averaged = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step = 0
        self.history: list[tuple[int, float]] = []
        self.seen = {case.name: case.patient for case in self.cases}

    def run(
        self,
        checkpoint: Path | None = None,
        *,
        until: int | None = None,
        seconds_between_checkpoints: float = 120.0,
        progress: Callable[[int, int, float], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train up to step `until`, by default to the end, saving a checkpoint now and then and when cancelled."""
        saved = time.monotonic()
        last = self.recipe.steps if until is None else min(until, self.recipe.steps)
        for _ in range(self.step, last):
            if cancelled():
                break
            loss = self.train_step()
            if progress is not None:
                progress(self.step, self.recipe.steps, loss)
            if checkpoint is not None and time.monotonic() - saved > seconds_between_checkpoints:
                self.save(checkpoint)
                saved = time.monotonic()
        if checkpoint is not None:
            self.save(checkpoint)

    def train_step(self) -> float:
        """One step of gradient descent; returns the loss of its patches. FloatingPointError where it has none."""
        recipe = self.recipe
        _set_training(self.network, settled=self.step >= recipe.settle_from * recipe.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        count, sampling = recipe.patches(self.step)
        hu, labels, weight = batch(
            self.cases, count, (recipe.seed, self.step), sampling, recipe.augmentation, self.device
        )
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision(sampling.size):
            logits = self.network(features(hu, recipe.layout.input_kind))
        loss = segmentation_loss(logits, labels, weight)
        loss.backward()
        length = nn.utils.clip_grad_norm_(self.network.parameters(), recipe.largest_gradient)
        if not torch.isfinite(length):
            raise FloatingPointError(
                f"Step {self.step + 1}, patches of {sampling.size} voxels, loss {float(loss.detach())}: the gradient "
                "is not finite. Go on from the last checkpoint in full precision, or with a lower learning rate."
            )
        self.optimizer.step()
        self._average()
        self.step += 1
        self.history.append((self.step, float(loss.detach())))
        return self.history[-1][1]

    def result(self) -> VNet:
        """The averaged network, in evaluation mode, on the CPU."""
        network = VNet(self.recipe.layout)
        network.load_state_dict({name: value.cpu() for name, value in self.averaged.items()})
        return network.eval()

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, whole or not at all."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "layout": self.recipe.layout.to_dict(),
            "seen": self.seen,
        }
        with replaced_when_written(path) as (temporary,):
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint was saved; ValueError for one that is damaged, of another layout or further on.

        A network that had no refinement, and gets one, goes on too. `seen` are all cases that it was ever trained on,
        with their patients.
        """
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises its own, pickle's and the system's errors for what is damaged
            raise ValueError(f"{path} is no checkpoint ({error}): delete it to begin anew.") from error
        found = Layout.from_dict(state["layout"])
        if found not in (self.recipe.layout, replace(self.recipe.layout, refine=0)):
            raise ValueError(f"{path} is of a network of layout {state['layout']}, not {self.recipe.layout.to_dict()}.")
        if state["step"] > self.recipe.steps:
            raise ValueError(
                f"{path} is at step {state['step']}, and the recipe ends at {self.recipe.steps}: give as many steps or "
                "more, or begin anew in another folder."
            )
        if found != self.recipe.layout:
            _add_refinement(state, self.network, self.optimizer)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaged = state["averaged"]
        self.step = int(state["step"])
        self.history = [(int(step), float(loss)) for step, loss in state["history"]]
        self.seen = state.get("seen", {}) | self.seen
        _logger.info("Going on at step %d of %d.", self.step, self.recipe.steps)

    @contextlib.contextmanager
    def _precision(self, size: tuple[int, int, int]) -> Iterator[None]:
        # On processors, torch 2.13 returns nonsense for the bfloat16 gradient of layers two samples deep.
        shallow = self.device.type == "cpu" and min(size) <= 2 * self.recipe.layout.multiple
        half = self.recipe.half_precision and not shallow
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            yield

    def _average(self) -> None:
        """The running mean follows fast at first, when the weights of the past are worth little."""
        past = min(self.recipe.average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.averaged[name].lerp_(value, 1.0 - past)
                else:
                    self.averaged[name].copy_(value)


def _add_refinement(state: dict[str, Any], network: VNet, optimizer: torch.optim.Optimizer) -> None:
    """Give the state of a network without refinement the untrained one of `network`; its parameters are the last."""
    for name, value in network.state_dict().items():
        if name.startswith("refine."):
            state["network"][name], state["averaged"][name] = value, value.detach().clone()
    for group, own in zip(state["optimizer"]["param_groups"], optimizer.state_dict()["param_groups"], strict=True):
        group["params"] = own["params"]


def _set_training(network: nn.Module, settled: bool) -> None:
    """Training mode, in which normalisation gathers statistics until it is settled."""
    network.train()
    if settled:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval()


def mean_loss(history: Sequence[tuple[int, float]], every: int = 50) -> list[tuple[int, float]]:
    """The learning curve: the mean loss of each `every` steps, at the last of them."""
    curve = []
    for start in range(0, len(history), every):
        part = history[start : start + every]
        curve.append((part[-1][0], math.fsum(loss for _, loss in part) / len(part)))
    return curve
