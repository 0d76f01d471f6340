"""Inputs and targets on a scale that a network can take. The cured model keeps the user's units: the scaler is part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.batches import map_tensors
from runtrue.facts import TensorFacts
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.surgery import Wrapper
from runtrue.task import Task

MANY = 64  # features: beyond this a set is rather pixels of one unit than columns of many
FLOOR = 0.1  # of the pooled std, for sets with many features: a pixel that is nearly always 0 must not be blown up


class Standardize(nn.Module):
    """(x − mean) / std, feature by feature (N, F) or channel by channel (N, C, …). Both are buffers: saved with the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class ScaledInputs(Wrapper):
    """`network` behind a scaler for each input that needs one: raw inputs in."""

    def __init__(self, network: nn.Module, scalers: dict[str, Standardize]) -> None:
        super().__init__(network)
        self.places = tuple(scalers)
        self.scalers = nn.ModuleList(scalers.values())

    def forward(self, *inputs: Any, **named: Any) -> Any:
        values, keywords = list(inputs), dict(named)
        for place, scaler in zip(self.places, self.scalers):
            if place.startswith("['"):
                keywords[place[2:-2]] = scaler(keywords[place[2:-2]])
            else:
                index = int(place[1:-1] or 0) if place else 0
                values[index] = scaler(values[index])
        return self.network(*values, **keywords)


class ScaledOutputs(Wrapper):
    """`network` learns standardized targets; in evaluation its outputs are in the user's units."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__(network)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        outputs = self.network(*inputs, **named)
        return outputs if self.training else map_tensors(outputs, lambda t: t * self.std + self.mean)


class ScaledLoss:
    """The user's loss on standardized targets while `model` trains, on the raw ones while it is evaluated."""

    def __init__(self, loss: Callable[[Any, Any], Tensor], model: ScaledOutputs) -> None:
        self.loss, self.model = loss, model

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        if self.model.training:
            targets = ((targets - self.model.mean) / self.model.std).to(targets.dtype)
        return self.loss(outputs, targets)


@remedy("inputs-not-scaled")
def scale_inputs(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Every wild input standardized by a layer in front of the network."""
    if box.task.step is not None:
        return
    place = finding.where.removeprefix("train inputs")
    tensor = next((t for t in measured.data.inputs if t.name == place), None)
    if tensor is None:
        return
    mean, std, per = constants(tensor)
    device = box.device

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        scaler = Standardize(mean.clone(), std.clone()).to(device)
        return task.replace(model=ScaledInputs(task.model, {place: scaler}))

    yield Remedy("standardize the inputs", True, _input_code(tensor, place, per), treat)


def constants(tensor: TensorFacts) -> tuple[Tensor, Tensor, str]:
    """mean and std to scale by, shaped to broadcast, and over what they were taken, in words."""
    dtype = getattr(torch, tensor.dtype)
    if not tensor.feature_stds or (len(tensor.shape) == 2 and len(tensor.feature_stds) > MANY and _one_unit(tensor)):
        return torch.tensor(tensor.mean, dtype=dtype), torch.tensor(tensor.std or 1.0, dtype=dtype), "all"
    means, stds = torch.tensor(tensor.feature_means), torch.tensor(tensor.feature_stds)
    floor = (
        FLOOR * float(stds.square().mean().sqrt()) if len(stds) > MANY else 1e-6 * float(means.abs().max() + stds.max())
    )
    stds = torch.where(stds > floor, stds, torch.full_like(stds, floor) if len(stds) > MANY else torch.ones_like(stds))
    shape = (-1,) + (1,) * (len(tensor.shape) - 2) if len(tensor.shape) > 3 else (-1,)
    return means.to(dtype).reshape(shape), stds.to(dtype).reshape(shape), "feature"


def _one_unit(tensor: TensorFacts) -> bool:
    """Many features whose means are of one size: pixels, not columns of a table."""
    means = [abs(m) for m in tensor.feature_means]
    return max(means, default=0.0) < 20 * (sum(means) / max(len(means), 1) + 1e-12)


def _input_code(tensor: TensorFacts, place: str, per: str) -> str:
    name = f"inputs{place}"
    dims = (
        "0"
        if len(tensor.shape) <= 2
        else "(0, 1)"
        if len(tensor.shape) == 3
        else str((0, *range(2, len(tensor.shape))))
    )
    keep = ", keepdim=True" if len(tensor.shape) > 3 else ""
    over = f"dim={dims}{keep}" if per == "feature" else ""
    return (
        f"mean, std = {name}.mean({over}), {name}.std({over}){'.clamp(min=1e-6)' if over else ''}  # of the training set, once\n"
        f"{name} = ({name} - mean) / std  # the same constants for validation and use"
    )


@remedy("targets-not-scaled")
def scale_targets(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Train on standardized targets, undo it in evaluation."""
    targets = measured.data.targets
    if box.task.loss is None or targets is None or not targets.std > 0:
        return
    mean, std, device = targets.mean, targets.std, box.device

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module) and task.loss is not None
        model = ScaledOutputs(task.model, mean, std).to(device)
        return task.replace(model=model, loss=ScaledLoss(task.loss, model))

    code = (
        f"mean, std = {mean:.6g}, {std:.6g}  # of the training targets\n"
        "loss = loss_fn(model(inputs), (targets - mean) / std)  # train on the standardized targets\n"
        "prediction = model(inputs) * std + mean  # in use, back to the units of the targets"
    )
    yield Remedy("standardize the targets", True, code, treat, rescales_loss=True)
