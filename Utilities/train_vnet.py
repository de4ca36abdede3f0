"""Trains the V-Net on annotated CTs: python Utilities/train_vnet.py CASES RUN_FOLDER [--hold-out NAME ...]

CASES is a folder of the .npz files that Testing/Annotation/annotate.py makes, or the one file that
Utilities/pack_patches.py makes of them to be carried to a GPU. RUN_FOLDER gets checkpoint.pt, from which
the same command goes on, and at the end vnet.safetensors with vnet.json, and curve.csv. A run may go on with other
options. Held-out cases, and all others of their patients, are never trained on: not even before, in a run that goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from DeepDRRLogic.files import replaced_when_written
from DeepDRRLogic.segmentation.packing import Pack, read_pack
from DeepDRRLogic.segmentation.patches import Sampling, patients_of, read_cases, without
from DeepDRRLogic.segmentation.training import Recipe, Trainer, mean_loss
from DeepDRRLogic.segmentation.vnet import COMPACT, PUBLISHED
from DeepDRRLogic.segmentation.weights import save_weights


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    chosen = {name: value for name in ("width", "refine") if (value := getattr(options, name)) is not None}
    layout = PUBLISHED if options.full_width else dataclasses.replace(COMPACT, **chosen)
    recipe = Recipe(
        layout=layout,
        steps=options.steps,
        patches_per_step=options.patches,
        small_until=options.small_until,
        learning_rate=options.learning_rate,
        settle_from=options.settle_from,
        seed=options.seed,
        sampling=Sampling(size=(options.patch_size,) * 3),
    )
    pack = _to_train_on(options.cases, options.hold_out)
    logging.info("%d cases or patches of %s", len(pack.patches), ", ".join(_names(case.name for case in pack.patches)))
    trainer = Trainer(pack.patches, recipe, options.device)
    options.run.mkdir(parents=True, exist_ok=True)
    checkpoint = options.run / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
        before = pack.held_out_patients & set(trainer.seen.values()) or set(pack.held_out) & set(_names(trainer.seen))
        if before:
            raise SystemExit(f"{checkpoint} was trained on {', '.join(sorted(before))}: use a new folder.")
    started, first = time.monotonic(), trainer.step
    paused = options.pause_while

    def progress(step: int, steps: int, loss: float) -> None:
        if step % 50 == 0:
            recent = mean_loss(trainer.history[-50:], 50)[0][1]
            rate = (time.monotonic() - started) / (step - first)
            logging.info("step %d of %d: loss %.4f, %.2f s per step", step, steps, recent, rate)
        while paused is not None and paused.exists():
            time.sleep(2.0)

    trainer.run(checkpoint, progress=progress)
    save_weights(trainer.result(), options.run / "vnet.safetensors", _about(trainer, pack))
    rows = [f"{step},{loss:.5f}" for step, loss in mean_loss(trainer.history)]
    with replaced_when_written(options.run / "curve.csv") as (curve,):
        curve.write_text("\n".join(["step,loss", *rows]) + "\n", encoding="utf-8")


def _to_train_on(path: Path, hold_out: Sequence[str]) -> Pack:
    """The cases of a folder, or a pack, without those held out here; they join those held out from the pack."""
    everyone = read_pack(path) if path.is_file() else Pack(read_cases(path), [], frozenset())
    more = [name for name in hold_out if name not in everyone.held_out]
    return Pack(
        without(everyone.patches, more),
        [*everyone.held_out, *more],
        everyone.held_out_patients | patients_of(everyone.patches, more),
    )


def _about(trainer: Trainer, pack: Pack) -> dict[str, object]:
    """What the weights were made of: all cases they have ever seen, and those they have not."""
    recipe = dataclasses.asdict(trainer.recipe)
    recipe.pop("layout")
    return {
        "recipe": recipe,
        "step": trainer.step,
        "cases": _names(trainer.seen),
        "patients": sorted(set(trainer.seen.values())),
        "held_out": pack.held_out,
        "held_out_patients": sorted(pack.held_out_patients),
    }


def _names(cases: Iterable[str]) -> list[str]:
    """The cases, each once: patches of a pack are named CASE:NUMBER."""
    return list(dict.fromkeys(name.partition(":")[0] for name in cases))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--hold-out", nargs="*", default=[], metavar="NAME", help="cases of patients not trained on")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--patches", type=int, default=Recipe().patches_per_step, help="per step")
    parser.add_argument(
        "--small-until", type=float, default=Recipe().small_until, help="share of the steps with smaller patches"
    )
    parser.add_argument("--patch-size", type=int, default=Sampling().size[0], help="voxels along every axis")
    parser.add_argument("--learning-rate", type=float, default=Recipe().learning_rate)
    parser.add_argument(
        "--settle-from", type=float, default=Recipe().settle_from, help="share of the steps with normalisation at work"
    )
    parser.add_argument("--width", type=int, help=f"channels of the first stage, {COMPACT.width} unless given")
    parser.add_argument(
        "--refine", type=int, help=f"channels of the last stage, 0 for none, {COMPACT.refine} unless given"
    )
    parser.add_argument("--full-width", action="store_true", help="the width and kernels of the published network")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pause-while", type=Path, help="wait as long as this file exists")
    options = parser.parse_args()
    if options.full_width and (options.width, options.refine) != (None, None):
        parser.error("--full-width says what --width and --refine would: leave them out")
    return options


if __name__ == "__main__":
    main()
