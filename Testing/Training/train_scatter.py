"""Trains the scatter network on the examples of prepare_scatter.py.

Run: python Testing/Training/train_scatter.py EXAMPLES OUTPUT.pt [--minutes 15] [--start OTHER.pt] [--threads 1]
The loss is quadratic in the scatter itself, so the Monte Carlo's noise, which has no bias, gives no bias either; an
example counts less where it is noisier. Examples are turned and mirrored at random.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from DeepDRRLogic.scatter.architecture import CorrectionNet
from DeepDRRLogic.scatter.layers import MARGIN, SIDE

BATCH, WHOLE = 16, SIDE + 2 * MARGIN
HIGHEST_RATE, LOWEST_RATE, WEIGHT_DECAY = 2e-3, 2e-5, 1e-4
AVERAGED = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--rate", type=float, default=HIGHEST_RATE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    pictures, base, truth, weight = load(options.examples)
    net = CorrectionNet()
    if options.start:
        net.load_state_dict(torch.load(options.start, weights_only=True))
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGED)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY)
    begin, step, losses = time.monotonic(), 0, []
    while (done := (time.monotonic() - begin) / (60.0 * options.minutes)) < 1.0:
        rate = LOWEST_RATE + 0.5 * (options.rate - LOWEST_RATE) * (1.0 + np.cos(np.pi * done))
        rate *= min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = torch.from_numpy(rng.integers(len(pictures), size=BATCH))
        batch = [turned(x[index], int(rng.integers(4)), bool(rng.integers(2))) for x in (pictures, base, truth)]
        loss = loss_of(net, *batch, weight[index])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(net)
        losses.append(float(loss))
        step += 1
        if step % 200 == 0:
            print(f"{step} steps, {100 * done:.0f} %, loss {np.mean(losses[-200:]):.5f}", flush=True)
            torch.save(average.module.state_dict(), options.output)
    torch.save(average.module.state_dict(), options.output)
    print(f"{step} steps, loss {np.mean(losses[-200:]):.5f}, {len(pictures)} examples")


def load(folder: Path) -> tuple[torch.Tensor, ...]:
    """Pictures, base and truth on squares, in units that make each example count alike, and the examples' weights."""
    pictures, bases, truths, weights = [], [], [], []
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path) as file:
            base, truth, error = (file[name] for name in ("base", "truth", "error"))
            # √(local · mean): between errors in units of the picture's mean and of the place's own scatter.
            local = np.sqrt(np.maximum(base, 1e-12) * np.maximum(base.mean(axis=(1, 2), keepdims=True), 1e-9))
            scale = local + 0.05 * base.mean(axis=(1, 2), keepdims=True) + 1e-6
            pictures.append(squared(file["pictures"], WHOLE))
            bases.append(squared(base / scale, SIDE))
            truths.append(squared(truth / scale, SIDE))
            noise = float(((error / scale) ** 2).mean())
            weights.append(1.0 / (noise + 0.1**2))
    weight = torch.tensor(weights, dtype=torch.float32)
    stacked = (torch.from_numpy(np.stack(x)) for x in (pictures, bases, truths))
    return *stacked, weight / weight.mean()


def squared(picture: np.ndarray, side: int) -> np.ndarray:
    """Pictures padded with nothing to a square."""
    pads = [((side - n) // 2, side - n - (side - n) // 2) for n in picture.shape[1:]]
    return np.pad(picture, ((0, 0), *pads)).astype(np.float32)


def turned(pictures: torch.Tensor, quarters: int, mirrored: bool) -> torch.Tensor:
    rotated = torch.rot90(pictures, quarters, (2, 3))
    return torch.flip(rotated, (3,)) if mirrored else rotated


def loss_of(
    net: torch.nn.Module, pictures: torch.Tensor, base: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor
):
    factors = torch.exp(net(pictures)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN])
    error = functional.mse_loss(base * factors, truth, reduction="none").mean(dim=(1, 2, 3))
    return (error * weight).mean()


if __name__ == "__main__":
    main()
