"""Trains the scatter network on the examples of prepare_scatter.py.

Run: python Testing/Training/train_scatter.py EXAMPLES OUTPUT.pt [--architecture default|paper] [--minutes 15]
[--start OTHER.pt] [--threads 1]
The loss is that of the logarithms of scatter summed over blocks of pixels, weighted with their Monte Carlo noise: no
picture is denoised, and the bias of a logarithm, half its variance, is 0.1 % at the noise of a typical block, 5 %.
Examples are turned and mirrored at random. Until three quarters of the time the convolutions are of half precision.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from DeepDRRLogic.scatter.architecture import CorrectionNet
from DeepDRRLogic.scatter.convnet import ConvNet
from DeepDRRLogic.scatter.layers import MARGIN, SIDE

BATCH, WHOLE = 16, SIDE + 2 * MARGIN
HIGHEST_RATE, LOWEST_RATE, WEIGHT_DECAY = 2e-3, 2e-5, 0.05
AVERAGED = 0.998
HALF_PRECISION_UNTIL = 0.75
BLOCKS, KIND_WEIGHTS = (4, 8), (0.5, 1.0, 1.0)
NOISIEST, CLOSE_ENOUGH = 0.3, 0.05
ARCHITECTURES = {"default": CorrectionNet, "paper": ConvNet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="default")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--rate", type=float, default=HIGHEST_RATE)
    parser.add_argument("--coarse", action="store_true", help="the paper's network on 32 × 32 pixels")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    examples = load(options.examples)
    if options.architecture == "paper":
        examples = of_two_kinds(*examples)
    net = ARCHITECTURES[options.architecture]().to(memory_format=torch.channels_last)
    if options.coarse:
        net.pixels = SIDE
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
        index = torch.from_numpy(rng.integers(len(examples[0]), size=options.batch))
        quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        batch = [turned(x[index], quarters, mirrored) for x in examples]
        with torch.autocast("cpu", torch.bfloat16, enabled=done < HALF_PRECISION_UNTIL):
            found = scattered(net, *batch[:2])
        loss = loss_of(found.float(), *batch[1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(net)
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            print(f"{step} steps, {100 * done:.0f} %, loss {np.mean(losses[-100:]):.5f}", flush=True)
            torch.save(average.module.state_dict(), options.output)
    torch.save(average.module.state_dict(), options.output)
    print(f"{step} steps, loss {np.mean(losses[-100:]):.5f}, {len(examples[0])} examples")


def load(folder: Path) -> tuple[torch.Tensor, ...]:
    """Pictures, base, truth and the truth's standard error, on squares, in units of the open beam."""
    pictures, bases, truths, errors = [], [], [], []
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path) as file:
            scale = file["mean_energy_kev"]
            pictures.append(squared(file["pictures"], WHOLE))
            bases.append(squared(file["base"] / scale, SIDE))
            truths.append(squared(file["truth"] / scale, SIDE))
            errors.append(squared(file["error"] / scale, SIDE))
    return tuple(torch.from_numpy(np.stack(x)) for x in (pictures, bases, truths, errors))


def of_two_kinds(*examples: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same, with Compton and multiple scatter as one kind, as the paper's network has it."""
    pictures, base, truth, error = examples
    both = [torch.stack([x[:, 0], x[:, 1] + x[:, 2]], dim=1) for x in (base, truth)]
    return pictures, *both, torch.stack([error[:, 0], torch.hypot(error[:, 1], error[:, 2])], dim=1)


def squared(picture: np.ndarray, side: int) -> np.ndarray:
    """Pictures padded with nothing to a square."""
    pads = [((side - n) // 2, side - n - (side - n) // 2) for n in picture.shape[1:]]
    return np.pad(picture, ((0, 0), *pads)).astype(np.float32)


def turned(pictures: torch.Tensor, quarters: int, mirrored: bool) -> torch.Tensor:
    rotated = torch.rot90(pictures, quarters, (2, 3))
    return torch.flip(rotated, (3,)) if mirrored else rotated


def scattered(net: torch.nn.Module, pictures: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Scatter in units of the open beam, whether a network finds that or factors on the first estimate."""
    found: torch.Tensor = net(pictures.contiguous(memory_format=torch.channels_last))
    return found if isinstance(net, ConvNet) else base * torch.exp(found[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN])


def loss_of(found: torch.Tensor, base: torch.Tensor, truth: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    scale = base.mean(dim=(2, 3), keepdim=True).clamp_min(1e-9)
    found, truth, error = found / scale, truth / scale, error / scale
    total = torch.zeros(())
    for block in BLOCKS:
        f, t, variance = (functional.avg_pool2d(x, block) for x in (found, truth, error**2))
        relative = variance / block**2 / t.clamp_min(1e-6) ** 2
        weight = torch.where((t > 1e-5) & (relative < NOISIEST**2), 1.0 / (relative + CLOSE_ENOUGH**2), 0.0)
        gap = torch.log(f.clamp_min(1e-6)) - torch.log(t.clamp_min(1e-6))
        losses = functional.huber_loss(gap, torch.zeros(()).expand_as(gap), reduction="none", delta=0.3)
        by_kind = (losses * weight).sum(dim=(0, 2, 3)) / weight.sum(dim=(0, 2, 3)).clamp_min(1e-9)
        total = total + (by_kind * torch.tensor(KIND_WEIGHTS)).sum()
    return total


if __name__ == "__main__":
    main()
