"""Whether images reach a trained network as it was trained to see them: the statistics that its batch normalizations stored,
beside those of the user's batch. The commonest silent fault of fine-tuning: 0 to 255 where 0 to 1 was meant, or another mean
and spread.

Measured on MobileNetV2's ImageNet weights and 35 photographs of 160 × 160 pixels, mean |log(spread / stored spread)| at the first
normalization: prepared as the weights ask 0.26, from −1 to 1 0.59, from 0 to 1 1.22, normalized twice 1.69, 0 to 255 4.3. The
order of the channels cannot be seen that way (BGR: 0.25).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runtrue.findings import Finding
from runtrue.keeping import keep_modes, keep_random_state

FAR = 0.5
"""Mean |log(spread / stored)| above which a batch is not what the network was trained on: a factor of 1.65 in each channel."""
BETTER = 0.6  # share of that distance to which another preparation has to bring it, to be named
STILL = 1e-3  # share of the median stored variance below which a channel carried nothing, and is left out
EDGE = 80.0  # logarithm, beyond which a spread is no number that float32 holds
FEW = 8  # images, below which chance decides


@dataclass(frozen=True)
class Fit:
    """How far the first normalization's stored spread is from the batch, as it is (`given`) and prepared in other `ways`."""

    layer: str
    given: float
    ways: Mapping[str, float]
    images: int


Way = Callable[[Tensor], Tensor]


def ways(mean: Sequence[float], std: Sequence[float]) -> dict[str, Way]:
    """What may have been forgotten, or done twice, in words that say what to do. mean, std: as the weights ask for them."""
    m, s = (torch.tensor(list(values)).reshape(1, -1, 1, 1) for values in (mean, std))
    asked = f"mean {tuple(round(x, 3) for x in mean)} and std {tuple(round(x, 3) for x in std)}"
    return {
        f"divide by 255 and normalize with {asked}": lambda x: (x / 255 - m) / s,
        f"normalize with {asked}": lambda x: (x - m) / s,
        f"bring them from −1…1 to 0…1 and normalize with {asked}": lambda x: ((x + 1) / 2 - m) / s,
        "divide by 255": lambda x: x / 255,
        "normalize once, not twice": lambda x: x * s + m,
    }


@torch.no_grad()
def measured(model: nn.Module, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Fit | None:
    """images: (N, C, H, W), prepared as the user does. None for a network without stored statistics, or with those that a new
    one begins with. Leaves no trace."""
    first = first_norm(model, images)
    if first is None or untouched(first[1]):
        return None
    name, norm = first
    shape = images.shape[1] == len(mean)
    found = {told: _distance(model, norm, way(images)) for told, way in ways(mean, std).items()} if shape else {}
    return Fit(name, _distance(model, norm, images), found, len(images))


def judged(fit: Fit) -> Iterator[Finding]:
    if fit.images < FEW or fit.given <= FAR:
        return
    best = min(fit.ways, key=lambda way: fit.ways[way], default=None)
    evidence = {"layer": fit.layer, "distance": fit.given, "limit": FAR, "images": fit.images}
    told = (
        f"the network's first normalization ({fit.layer}) stored another spread than your images have: they differ by a factor "
        f"of {_factor(fit.given)} in the mean of the channels (limit {_factor(FAR)})"
    )
    if best is not None and fit.ways[best] < BETTER * fit.given and fit.ways[best] <= FAR:
        yield Finding(
            "inputs-not-scaled", "fault", "the images", f"{told}. Prepared otherwise they would be as it was trained to see "
            f"them ({_factor(fit.ways[best])}): {best}.", {**evidence, "way": best, "then": fit.ways[best]},
        )  # fmt: skip
    else:
        yield Finding(
            "inputs-not-scaled", "warning", "the images", f"{told}, and none of the usual mistakes explains it. Look up how the "
            "weights want their images; if these are of another kind (X-rays, drawings), let the statistics follow them.",
            evidence,
        )  # fmt: skip


def _factor(distance: float) -> str:
    return f"{torch.tensor(distance).exp().item():.3g}"


def first_norm(model: nn.Module, images: Tensor) -> tuple[str, _BatchNorm] | None:
    """The batch normalization that is reached first, with its name."""
    norms = {norm: name for name, norm in with_statistics(model)}
    reached: list[_BatchNorm] = []

    def there(norm: nn.Module, _: object) -> None:
        assert isinstance(norm, _BatchNorm)
        reached.append(norm)
        raise _ReachedError

    _asking(model, images[:1], norms, there)
    return (norms[reached[0]], reached[0]) if reached else None


def with_statistics(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """The batch normalizations that store a mean and a variance."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_var is not None:
            yield name, module


def untouched(norm: _BatchNorm) -> bool:
    """Nothing was ever seen: mean 0 and variance 1."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    return not bool(mean.any()) and bool((var == 1).all())


def _distance(model: nn.Module, norm: _BatchNorm, images: Tensor) -> float:
    """Mean over the channels of |log(spread / stored spread)| at this normalization's input. The pass ends there."""
    caught: list[Tensor] = []

    def there(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0])
        raise _ReachedError

    _asking(model, images, [norm], there)
    return float(ratios(norm, caught[0]).abs().mean())


def ratios(norm: _BatchNorm, x: Tensor) -> Tensor:
    """log(spread / stored spread) of each channel that carries something; x: what the normalization is given, (N, C, …)."""
    stored = norm.running_var
    assert stored is not None
    stored = stored.double()
    spread = x.detach().double().transpose(0, 1).flatten(1).var(1)
    seen = stored > STILL * stored.median()
    return (spread[seen].clamp(min=1e-12) / stored[seen]).log() / 2


@torch.no_grad()
def spreads(model: nn.Module, images: Tensor) -> dict[str, float]:
    """How many times as wide the activations are as each normalization has stored, typical channel, in the order in which a
    pass in evaluation mode reaches them. Leaves no trace."""
    found: dict[str, float] = {}
    norms = {norm: name for name, norm in with_statistics(model)}

    def seen(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        found[norms[norm]] = math.exp(min(EDGE, float(ratios(norm, inputs[0]).median().nan_to_num(EDGE))))

    _asking(model, images, norms, seen)
    return found


class _ReachedError(Exception):
    """What a pass was made for is seen."""


def _asking(model: nn.Module, images: Tensor, norms: Iterable[_BatchNorm], there: Callable[..., None]) -> None:
    """A pass with `there` called in front of these normalizations; it ends where that raises _ReachedError."""
    handles = [norm.register_forward_pre_hook(there) for norm in norms]
    try:
        _passed(model, images)
    except _ReachedError:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _passed(model: nn.Module, images: Tensor) -> None:
    restore_modes = keep_modes(model)
    restore = keep_random_state()
    try:
        model.eval()(images)
    finally:
        restore_modes()
        restore()
