"""The only place that copies and restores. Inside it the user's own model is trained; afterwards it is as it was.

What is trained must be what a closure of the loss sees, so no copy of the model is made: the values of its parameters and
buffers are kept (one copy) and written back, also after an error or Ctrl-C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from runtrue import batches as data
from runtrue import optimizers
from runtrue.closures import reachable
from runtrue.keeping import Restore, keep_data, keep_modules, keep_random_state, keep_tensor, seed_all, undisturbed
from runtrue.surgery import unregistered
from runtrue.task import Task, TaskError, blame, forward

EVALUATED_AT_ONCE, EVALUATED = 256, 2048  # examples in one pass of an evaluation, and in all of it


@dataclass(eq=False)
class Sandbox:
    """The task inside: its model built, its batches drawn. `start()` brings back the initial state as often as needed."""

    task: Task
    batches: data.Batches
    device: torch.device
    seed: int
    _restore: Restore
    initial: dict[int, Tensor]
    """The values at the start, by id of the parameter or buffer: the one copy that is kept."""
    _others: list[Restore] = field(default_factory=list)
    """Of tensors that an optimizer holds and no known module does."""
    source: Callable[[], nn.Module] | None = None
    """The function that builds the model, if the task has one."""
    steps: int = 0
    """Training steps taken in here: what a check cost."""
    _evaluation: list[Any] = field(default_factory=list)

    @property
    def model(self) -> nn.Module:
        assert isinstance(self.task.model, nn.Module)
        return self.task.model

    def start(self, seed: int = 0) -> Task:
        """Undo everything: weights, buffers, gradients, modes, layers added, random state. Returns the untreated task.

        seed: added to the sandbox's own.
        """
        self._restore()
        self.restore_others()
        seed_all(self.seed + seed)
        return self.task

    @property
    def can_redraw(self) -> bool:
        """True if the task brings a function that draws new first weights, and an optimizer that can be made for them."""
        return self.source is not None and not isinstance(self.task.optimizer, torch.optim.Optimizer)

    def redrawn(self, seed: int, treat: Callable[[Task], Task] | None = None) -> Callable[[Task], Task] | None:
        """A treatment that first draws the model anew with this seed; `treat` alone where that cannot be done."""
        if not self.can_redraw:
            return treat

        def drawn(task: Task) -> Task:
            seed_all(seed)
            assert self.source is not None
            model = self.source()
            fresh = task.replace(model=model.to(self.device).train())
            return fresh if treat is None else treat(fresh)

        return drawn

    def restore_others(self) -> None:
        for restore in self._others:
            restore()

    def batch(self, step: int) -> Any:
        return data.to_device(self.batches.get(step), self.device)

    def evaluation_batches(self) -> Iterator[Any]:
        """The first examples in batches that are large enough to be read quickly."""
        if not self._evaluation:
            self._evaluation += self.batches.merged(EVALUATED_AT_ONCE, EVALUATED)
        return (data.to_device(data.own(batch), self.device) for batch in self._evaluation)

    def optimizer(self, task: Task) -> torch.optim.Optimizer:
        """An optimizer for this task that is not the user's own object, whatever form the task gives it in.

        What it holds beyond the model (another network's parameters) is kept from now on, and restored as well.
        """
        made = optimizers.twin(self._made(task))
        for parameter in (p for group in made.param_groups for p in group["params"]):
            if id(parameter) not in self.initial:
                self._others.append(keep_tensor(parameter, self.initial))
                parameter.grad = None
        return made

    def _made(self, task: Task) -> torch.optim.Optimizer:
        if isinstance(task.optimizer, torch.optim.Optimizer):
            return task.optimizer
        make = task.optimizer or optimizers.adam
        try:
            made = make(list(self._model_of(task).parameters()))
        except Exception as error:
            raise TaskError(f"the optimizer could not be built on the model's parameters: {blame(error)}") from error
        if not isinstance(made, torch.optim.Optimizer):
            raise TaskError(f"optimizer(params) returned an object of type {type(made).__name__}, not an Optimizer")
        return made

    def _model_of(self, task: Task) -> nn.Module:
        assert isinstance(task.model, nn.Module)
        return task.model

    def loss(self, task: Task, batch: Any) -> tuple[Any, Tensor]:
        """Outputs and loss of one batch in training mode; counts as a step."""
        self.steps += 1
        return forward(task, self._model_of(task), batch)


@contextmanager
def sandbox(task: Task, seed: int = 0) -> Iterator[Sandbox]:
    """Open the task. On leaving, also by an error or Ctrl-C, the user's objects are bit-identical to what they were:
    weights, buffers, gradients, modes, hooks, attributes, optimizer, random state, the loader's generators.

    Raises TaskError if the model cannot be built or there are no batches.
    """
    with ExitStack() as stack:
        stack.callback(undisturbed(keep_random_state()))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(undisturbed(keep_data(task.train)))
        stack.callback(undisturbed(keep_data(task.val)))
        seed_all(seed)
        built = task.built()
        assert isinstance(built.model, nn.Module)
        _refuse_unusable(built.model)
        modules = _all_modules(built)
        initial: dict[int, Tensor] = {}
        restore = keep_modules(modules, initial)
        stack.callback(undisturbed(restore))
        drawn = data.draw(task.train, task.batch_size, seed)
        seed_all(seed)
        inside = _back_to_start(restore, modules)
        source = None if isinstance(task.model, nn.Module) else task.model
        box = Sandbox(built, drawn, device_of(built.model), seed, inside, initial, source=source)
        stack.callback(undisturbed(box.restore_others))
        yield box


def _back_to_start(restore: Restore, roots: list[nn.Module]) -> Restore:
    """Back to the start of the sandbox: as the user gave it, without gradients, in training mode.

    Parts that the user keeps in evaluation mode while the whole trains (frozen normalization) stay so. A module with a `train`
    of its own has it called, as any training loop would: what it does belongs to the network.
    """

    model, *_ = roots

    def again() -> None:
        restore()
        for root in roots:  # a gradient of the user's would be added to in place
            for parameter in root.parameters():
                parameter.grad = None
        if not model.training:
            model.train()
        for module in model.modules():
            if module.training and type(module).train is not nn.Module.train:
                module.train()

    again()
    return again


def _refuse_unusable(model: nn.Module) -> None:
    if next(model.parameters(), None) is None:
        beside = ", ".join(unregistered(model))
        listed = f"; {beside} stand in a plain list or dict: use nn.ModuleList or nn.ModuleDict" if beside else ""
        raise TaskError(f"the model ({type(model).__name__}) has no parameters: there is nothing to train{listed}")
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise TaskError(
                f"parameter {name} is on the meta device and has no values: load or initialise the model first"
            )
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise TaskError(
                f"parameter {name} belongs to a lazy layer that has not seen a batch: call the model once before the check"
            )


def _all_modules(task: Task) -> list[nn.Module]:
    """The model, and whatever else the loss, the step or the optimizer's function can reach."""
    assert isinstance(task.model, nn.Module)
    roots = [task.model, *unregistered(task.model).values()]
    for part in (task.loss, task.step, task.metric, task.optimizer):
        roots += [m for m in reachable(part) if m not in roots]
    return roots


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter or buffer lies; the CPU for a model that has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
