"""Networks in files: our own weights, verified before they are believed, and the published checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..files import replaced_when_written
from .vnet import PUBLISHED, Layout, VNet

_STATISTICS = ("running_mean", "running_var")


def save_weights(network: VNet, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> None:
    """Write NAME.safetensors, float16, and NAME.json with the layout, the checksum and `about` the training.

    Running variances of quiet channels are too small for float16: the statistics stay float32. ValueError for another
    suffix and for weights that are not finite.
    """
    from safetensors.torch import save

    target = Path(path)
    if target.suffix != ".safetensors":
        raise ValueError(f"Cannot write weights to {target}: the suffix is .safetensors.")
    tensors = {
        name: (value.float() if name.endswith(_STATISTICS) else value.half()).contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    _require_finite(tensors, "The network")
    content = save(tensors)
    card = {"sha256": hashlib.sha256(content).hexdigest(), "layout": network.layout.to_dict(), **(about or {})}
    with replaced_when_written(target, target.with_suffix(".json")) as (weights, description):
        weights.write_bytes(content)
        description.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def load_weights(path: str | os.PathLike[str] | None = None) -> VNet:
    """The network of NAME.safetensors in evaluation mode; None is the one that comes with the package.

    NAME.json beside it holds its layout and SHA-256. Nothing is unpickled. Raises ValueError for a file that is
    missing, damaged or of another layout.
    """
    if path is None:
        with as_file(files("DeepDRRLogic") / "data" / "vnet.safetensors") as embedded:
            return load_weights(embedded)
    source = Path(path)
    if source.suffix == ".pt" or source.suffix == ".pth":
        return load_published(source)
    from safetensors import SafetensorError
    from safetensors.torch import load

    content, card = _verified(source)
    try:
        network = VNet(Layout.from_dict(card["layout"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{source.with_suffix('.json')} tells no layout ({error!r}): get both files again.") from error
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"{source} is no safetensors file: {error}. Get it again.") from error
    _require_finite(tensors, str(source))
    _fill(network, {name: value.float() for name, value in tensors.items()}, str(source))
    return network.eval()


def _verified(source: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a weights file whose checksum is that of its card."""
    description = source.with_suffix(".json")
    for needed in (source, description):
        if not needed.is_file():
            raise ValueError(f"There is no {needed}: install the package again, or give the path of your own weights.")
    try:
        card: dict[str, Any] = dict(json.loads(description.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{description} is damaged ({error}): get it again, with {source.name}.") from error
    content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card.get("sha256"):
        raise ValueError(
            f"{source} is damaged: its SHA-256 is {found}, {description.name} says {card.get('sha256')}. "
            "Install the package again, or copy the weights again."
        )
    return content, card


def _require_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{name} has weights that are not finite numbers, in {', '.join(broken[:3])}: train it again.")


def load_published(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> VNet:
    """A network with the weights of a checkpoint published with DeepDRR, in evaluation mode.

    `checkpoint` is a .pt or .pth file, a dict that holds `state_dict`, with 202 entries and 45,613,944 parameters, or
    such a dict itself; the file is read without running any code in it. The published code normalised by the statistics
    of each batch; the running ones in the checkpoint are used here, so that a label does not depend on its patch's
    neighbours. Raises ValueError that lists entries which are missing, unexpected or of another shape.
    """
    if isinstance(checkpoint, (str, os.PathLike)):
        source = Path(checkpoint)
        if not source.is_file():
            raise ValueError(f"There is no {source}: check the path of the checkpoint.")
        try:
            content: Any = torch.load(source, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises its own and pickle's errors for whatever is not a plain checkpoint
            raise ValueError(f"{source} is no checkpoint of tensors alone: {error}") from error
        name = str(source)
    else:
        content, name = checkpoint, "The checkpoint"
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{name} is no checkpoint: it is a dict that holds 'state_dict', names with tensors.")
    network = VNet(PUBLISHED)
    _fill(network, {key.removeprefix("module."): value for key, value in state.items()}, name)
    return network.eval()


def _fill(network: VNet, state: Mapping[str, Tensor], name: str) -> None:
    """Load a state whose entries must be exactly the network's; counters of batches may be left out."""
    own = network.state_dict()
    wanted = {key for key in own if not key.endswith("num_batches_tracked")}
    missing, unexpected = sorted(wanted - set(state)), sorted(set(state) - set(own))
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [
        f"{what}: {', '.join(which[:4])}{' …' if len(which) > 4 else ''}"
        for what, which in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if which
    ]
    if faults:
        raise ValueError(f"{name} does not fit a V-Net of layout {network.layout.to_dict()}: {'; '.join(faults)}.")
    network.load_state_dict(dict(state), strict=False)


def folded(network: VNet) -> VNet:
    """The same function without normalisation layers: their scale and shift are put into the convolutions."""
    lean = VNet(network.layout)
    lean.load_state_dict(network.state_dict())
    lean.eval()
    for stage in list(lean.modules()):
        for conv_name, norm_name in (("conv1", "bn1"), ("down_conv", "bn1"), ("up_conv", "bn1")):
            conv, norm = getattr(stage, conv_name, None), getattr(stage, norm_name, None)
            if isinstance(conv, (nn.Conv3d, nn.ConvTranspose3d)) and isinstance(norm, nn.BatchNorm3d):
                _fold(conv, norm)
                setattr(stage, norm_name, nn.Identity())
    return lean.requires_grad_(False)


def _fold(conv: nn.Conv3d | nn.ConvTranspose3d, norm: nn.BatchNorm3d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        isinstance(conv, nn.ConvTranspose3d),
    )  # fmt: skip
