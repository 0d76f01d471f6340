"""LSUV, layer-sequential unit-variance: measure the outputs instead of trusting a formula (Mishkin & Matas 2016)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from runtrue.init import schemes
from runtrue.init.passes import as_found, call
from runtrue.init.plan import Applied, Target, targets
from runtrue.tape import Layer, LossCall, record

NO_VARIANCE = "left orthonormal: its output does not vary on the example"


def lsuv(
    model: nn.Module,
    example: Any,
    *,
    target_std: float = 1.0,
    tolerance: float = 0.02,
    max_iterations: int = 10,
    only: Collection[str] | None = None,
    include_pretrained: bool = False,
    generator: Generator | None = None,
) -> list[Applied]:
    """Orthonormal weights, each layer then scaled until its output, before the activation, has std `target_std`.

    Mishkin & Matas 2016, algorithm 1; the paper stops at |Var - 1| < 0.1, here at |std / target_std - 1| ≤ `tolerance`.
    The std is taken over all values of the output: examples, channels, places, and calls where a layer is called more
    than once. Forward passes run as in training but without dropout; modes, BatchNorm's running statistics and the
    global random numbers are as before. Which layers are taken is as in `apply`; biases become 0. A layer whose output
    does not vary (zero inputs) stays orthonormal and says so. ValueError where no output varies or one is not finite;
    RuntimeError where a layer is still off after `max_iterations` passes. After an error the weights are as before.

    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> x = torch.randn(64, 8)
    >>> [done.scheme for done in lsuv(net, x)]
    ['lsuv', 'lsuv']
    >>> 0.98 <= net(x).std().item() <= 1.02
    True
    """
    found = targets(model, example, None, only, include_pretrained)
    return unit_variance(model, example, found, target_std, tolerance, max_iterations, generator)


def unit_variance(
    model: nn.Module,
    example: Any,
    found: list[Target],
    target_std: float = 1.0,
    tolerance: float = 0.02,
    max_iterations: int = 10,
    generator: Generator | None = None,
) -> list[Applied]:
    """`lsuv` for layers already chosen."""
    chosen = [target for target in found if not target.reason]
    before = [(t, t.detach().clone()) for target in chosen for t in (target.weight, target.bias) if t is not None]
    try:
        with torch.no_grad():
            for target in chosen:
                schemes.orthogonal(target.weight, groups=target.groups, generator=generator)
                if target.bias is not None:
                    schemes.zeros(target.bias)
        scaled = _scaled(model, example, chosen, target_std, tolerance, max_iterations)
    except BaseException:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        raise
    return [target.applied(None, None) if target.reason else _told(target, scaled) for target in found]


def _scaled(
    model: nn.Module, example: Any, chosen: list[Target], target_std: float, tolerance: float, max_iterations: int
) -> dict[int, _Output]:
    """Passes until every output is within the tolerance: as a rule one that scales and one that confirms."""
    outputs = {id(target.weight): _Output(target) for target in chosen}
    for iteration in range(max_iterations + 1):
        scaler = _Scaler(outputs, target_std)
        with as_found(model, batch_statistics=True):
            record(lambda: call(model, example), model, scaler)
        worst = scaler.finish(tolerance)
        if worst is None:
            break
        if iteration == max_iterations:
            raise RuntimeError(
                f"LSUV: layer {worst.target.layer.name!r} has output std {worst.std:.4g} on the example, outside "
                f"{target_std:g} ± {tolerance * target_std:.2g} after {max_iterations} iterations; leave it out "
                "(only=...), or raise max_iterations or tolerance"
            )
    return outputs


@dataclass(eq=False)
class _Output:
    """What a layer put out in the running pass, over all its calls, and by how much its weight was scaled so far."""

    target: Target
    gain: float = 1.0
    moments: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Number of values, their sum, the sum of their squares; in double precision."""
    last: tuple[float, float] | None = None
    """Gain and std of the pass before."""

    @property
    def std(self) -> float:
        count, total, squares = self.moments
        mean = total / count if count else 0.0
        variance = squares / count - mean**2 if count else 0.0
        return math.sqrt(variance) if not variance <= (1e-6 * mean) ** 2 else 0.0  # below is rounding; nan stays nan

    @property
    def at_once(self) -> bool:
        """Whether scaling weight and output now is the same as another pass: called once, and no bias is left."""
        bias = self.target.layer.bias
        return self.target.layer.calls == 1 and (bias is None or not bias.any())

    def add(self, output: Tensor) -> None:
        values = output.detach().to(torch.float32 if output.device.type == "mps" else torch.float64)
        count, total, squares = self.moments
        self.moments = (
            count + values.numel(), total + float(values.sum()), squares + float(values.square().sum())
        )  # fmt: skip

    def scale(self, factor: float) -> None:
        self.target.weight.mul_(factor)
        self.gain *= factor

    def approach(self, target_std: float) -> None:
        """A secant step on log std over log gain: k calls that feed each other answer by up to the k-th power."""
        power: float = self.target.layer.calls
        if self.last is not None and self.gain != self.last[0] and self.last[1] > 0:
            power = math.log(self.std / self.last[1]) / math.log(self.gain / self.last[0])
        self.last = self.gain, self.std
        self.scale((target_std / self.std) ** (1 / max(power, 0.5)))


class _Scaler:
    """Observes one pass: scales each layer as soon as it has spoken, so that those behind it hear the right volume."""

    def __init__(self, outputs: dict[int, _Output], target_std: float) -> None:
        self._outputs = outputs
        self._target_std = target_std
        for output in outputs.values():
            output.moments = (0.0, 0.0, 0.0)

    @torch.no_grad()
    def layer_output(self, layer: Layer, output: Tensor) -> None:
        seen = self._outputs.get(id(layer.weight))
        if seen is None:
            return
        seen.add(output)
        if not math.isfinite(seen.std):
            raise ValueError(f"LSUV: the output of layer {layer.name!r} is not finite on the example; see its inputs")
        if seen.at_once and seen.std > 0:
            output.mul_(self._target_std / seen.std)
            seen.scale(self._target_std / seen.std)

    def activation_output(self, layer: Layer, output: Tensor) -> None: ...

    def loss_call(self, call: LossCall) -> None: ...

    @torch.no_grad()
    def finish(self, tolerance: float) -> _Output | None:
        """The output that is farthest off, None if none is; layers called more than once are scaled here."""
        varying = [output for output in self._outputs.values() if output.std > 0]
        if self._outputs and not varying:
            first = next(iter(self._outputs.values())).target.layer.name
            raise ValueError(
                f"LSUV: no output varies on the example, from layer {first!r} on: give several, different inputs"
            )
        off = {output: abs(output.std / self._target_std - 1) for output in varying}
        worst = max(off, key=lambda output: off[output], default=None)
        if worst is None or off[worst] <= tolerance:
            return None
        for output in varying:
            if not output.at_once:
                output.approach(self._target_std)
        return worst


def _told(target: Target, scaled: dict[int, _Output]) -> Applied:
    output = scaled[id(target.weight)]
    std = float(target.weight.detach().double().square().mean().sqrt())
    done = target.applied("lsuv", std, output.gain)
    return done if output.std > 0 else replace(done, reason=NO_VARIANCE)
