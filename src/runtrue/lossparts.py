"""A loss taken apart: what torch's loss function makes of the outputs, and what the user's own loss adds to it (a penalty).

The data part is the result of the one call of a loss function of torch (`tape.LOSSES`) that the user's loss makes; what is left
is the rest. Where there are several calls or none, the parts are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from runtrue.tape import LOSSES


class LossWatch(TorchFunctionMode):
    """Keeps the results of the loss functions that are called while it is entered, with their graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Tensor] = []
        self._inputs: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "").strip("_") in LOSSES and isinstance(result, Tensor):
            self.results.append(result)
            self._inputs += [t for t in (*args, *(kwargs or {}).values()) if isinstance(t, Tensor) and t.requires_grad]
        return result

    def data_part(self) -> Tensor | None:
        """The result of the only call, if there was one and it is a single number."""
        if len(self.results) != 1 or self.results[0].numel() != 1:
            return None
        return self.results[0].reshape(())

    def data_inputs(self) -> list[Tensor]:
        """What the loss functions looked at, as far as it carries a gradient: the outputs."""
        return self._inputs


def parts(run: Callable[[], Tensor]) -> tuple[Tensor, Tensor | None]:
    """(whole, data part) of the loss that `run` computes, both with their graphs; None where the data part is not known.

    >>> import torch
    >>> x = torch.tensor([3.0])
    >>> whole, data = parts(lambda: torch.nn.functional.mse_loss(x, torch.zeros(1)) + 0.5 * x.sum())
    >>> float(whole), float(data)
    (10.5, 9.0)
    """
    with LossWatch() as watch:
        whole = run()
    return whole, watch.data_part()


class Parted:
    """The user's loss (or step) with its penalty times `weight`. Its value is the data part alone, so that runs with another
    weight can be compared; its gradient is that of data + weight · (whole − data).

    A call whose parts are not known is passed on as it is.
    """

    def __init__(self, function: Callable[..., Tensor], weight: float) -> None:
        self.function: Callable[..., Tensor] = function.function if isinstance(function, Parted) else function
        self.weight = weight

    def __call__(self, *given: Any) -> Tensor:
        whole, data = parts(lambda: self.function(*given))
        if data is None or whole.numel() != 1:
            return whole
        rest = whole.reshape(()) - data
        return data + self.weight * (rest - rest.detach())
