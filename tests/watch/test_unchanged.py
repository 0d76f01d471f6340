"""A training that is watched ends with the very bits that it ends with alone, and everything is left as it was found."""

from __future__ import annotations

import copy
import io
import pickle
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn, overrides
from torch.nn.modules import module as module_hooks
from torch.utils.data import DataLoader, TensorDataset
from watching_cases import CASES, Case, Nobody, Start, mlp

import runtrue
from runtrue.watch import record_of


def seeded(seed: int = 0) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def ended(case: Case, start: Start) -> dict[str, Any]:
    """Weights, states of the optimizers, gradients and random states at the end of the case."""
    seeded()
    model, optimizers = case(start)
    return {
        "weights": dict(model.state_dict()), "states": [one.state_dict() for one in optimizers],
        "gradients": [p.grad for p in model.parameters()], "random": random.getstate(),
        "numpy": np.random.get_state(), "torch": torch.get_rng_state(),
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one.to_dense(), other.to_dense()) if one.is_sparse else torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def clean() -> bool:
    """No mode is entered, no hook is left on all modules."""
    hooks = (
        module_hooks._global_forward_hooks, module_hooks._global_forward_pre_hooks, module_hooks._global_backward_hooks,
        module_hooks._global_forward_hooks_always_called,
    )  # fmt: skip
    return not overrides._get_current_function_mode_stack() and not any(hooks)


def hooks_of(model: nn.Module) -> list[Any]:
    found: list[Any] = [*model._forward_hooks.values(), *model._forward_pre_hooks.values()]
    for parameter in model.parameters():
        found += [*(parameter._backward_hooks or {}).values()]
        found += [*(getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values()]
    return [hook for hook in found if "runtrue" in type(hook).__module__]


@pytest.mark.parametrize("every", [1, None])
@pytest.mark.parametrize("name", CASES)
def test_watching_changes_nothing(name: str, every: int | None, tmp_path: Path) -> None:
    said: list[str] = []
    alone = ended(CASES[name], Nobody)
    watched = ended(CASES[name], partial(runtrue.watch, run=tmp_path, every=every, say=said.append))
    for part in alone:
        assert same(alone[part], watched[part]), part
    assert not any("stopped" in line or "while reading" in line for line in said), said
    assert clean()
    assert list(record_of(tmp_path).readings())


UNSEEN = {"compiled_and_watched_so": "torch.compile", "compiled_and_the_network_within_watched": "no forward pass"}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_seen_is_said_by_an_event_and_layers_are_read_elsewhere(name: str, tmp_path: Path) -> None:
    ended(CASES[name], partial(runtrue.watch, run=tmp_path, every=1, say=lambda _: None))
    record = record_of(tmp_path)
    events = [told for _, kind, told in record.events() if kind == "not seen"]
    layers = {layer for reading in record.readings() for layer, what in reading.numbers if what == "std"}
    if name in UNSEEN:
        assert len(events) == 1 and UNSEEN[name] in events[0] and not layers
    else:
        assert not events and layers


def test_both_networks_of_a_gan_are_read_by_their_full_names(tmp_path: Path) -> None:
    ended(CASES["gan_with_two_optimizers"], partial(runtrue.watch, run=tmp_path, every=1, say=lambda _: None))
    numbers = list(record_of(tmp_path).readings())[-1].numbers
    assert {"made.0", "made.2", "judge.0", "judge.4"} <= {layer for layer, what in numbers if what == "std"}
    assert {"made.0.weight", "judge.4.bias"} <= {name for name, what in numbers if what == "update_ratio"}


def test_names_are_counted_from_the_network_within_wrappers(tmp_path: Path) -> None:
    for name in ("data_parallel_wrapper", "compiled_and_watched_so"):
        ended(CASES[name], partial(runtrue.watch, run=tmp_path / name, every=1, say=lambda _: None))
        numbers = list(record_of(tmp_path / name).readings())[-1].numbers
        assert ("4.weight", "grad_norm") in numbers


def test_a_group_that_is_added_later_is_read_too(tmp_path: Path) -> None:
    ended(CASES["group_added_in_the_middle"], partial(runtrue.watch, run=tmp_path, every=1, say=lambda _: None))
    readings = list(record_of(tmp_path).readings())
    assert ("0.weight", "update_ratio") not in readings[0].numbers
    assert ("0.weight", "update_ratio") in readings[-1].numbers


def step(model: nn.Module, optimizer: torch.optim.Optimizer, watch: Any) -> None:
    loss = F.cross_entropy(model(torch.randn(6, 5)), torch.randint(0, 3, (6,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    watch.step(loss)


def test_an_error_in_the_loop_leaves_nothing_behind() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loop() -> None:
        with runtrue.watch(model, optimizer, every=1) as watch:
            step(model, optimizer, watch)
            assert hooks_of(model)
            raise KeyError

    with pytest.raises(KeyError):
        loop()
    assert clean() and not hooks_of(model) and not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_an_interrupt_in_the_middle_of_a_forward_pass_leaves_nothing_behind() -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.net[0](x)
            raise KeyboardInterrupt

    model = Interrupted()
    with pytest.raises(KeyboardInterrupt), runtrue.watch(model, torch.optim.SGD(model.parameters(), 0.1)):
        model(torch.randn(2, 5))
    assert clean() and not hooks_of(model)


def test_a_mode_of_the_users_that_is_entered_in_between_stays() -> None:
    from runtrue.watch.listening import Listening

    class Mine(overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    tape, mine = Listening(mlp(), None, print), Mine()  # type: ignore[arg-type]
    tape.begin()
    with mine:
        tape.end()
        assert overrides._get_current_function_mode_stack() == [mine]
    assert clean()


def test_a_copy_a_pickle_and_a_saved_model_of_one_that_is_watched_are_not_watched() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    with runtrue.watch(model, optimizer, every=1) as watch:
        step(model, optimizer, watch)
        saved = io.BytesIO()
        torch.save(model, saved)
        saved.seek(0)
        copies = [
            copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(saved, weights_only=False),
            copy.deepcopy(copy.deepcopy(model)),
        ]  # fmt: skip
        before = watch._loop.counts.copy()
        for one in copies:
            assert same(dict(one.state_dict()), dict(model.state_dict()))
            one(torch.randn(2, 5)).sum().backward()
        assert watch._loop.counts == before
        twin = copy.deepcopy(optimizer)
        assert same(twin.state_dict()["param_groups"], optimizer.state_dict()["param_groups"])
        step(model, optimizer, watch)
        assert watch._loop.counts["step"] == 2


def test_a_saved_model_loads_where_this_library_is_not() -> None:
    model = mlp()
    with runtrue.watch(model, torch.optim.SGD(model.parameters(), 0.1)):
        assert b"runtrue" not in pickle.dumps(model)


def test_outputs_can_be_saved_without_a_warning() -> None:
    model = mlp()
    with runtrue.watch(model, torch.optim.SGD(model.parameters(), 0.1), every=1):
        torch.save(model(torch.randn(2, 5)), io.BytesIO())  # a warning is an error here


def test_hooks_of_the_users_are_there_after_the_end() -> None:
    model = mlp()
    own = model.register_forward_hook(lambda *_: None)
    first = model[0]
    assert isinstance(first, nn.Linear)
    gradient = first.weight.register_hook(lambda g: g)
    with runtrue.watch(model, torch.optim.SGD(model.parameters(), 0.1)) as watch:
        step(model, watch.optimizers[0], watch)
    assert list(model._forward_hooks) == [own.id] and list(first.weight._backward_hooks or ()) == [gradient.id]


def test_a_parameter_among_the_outputs_gets_no_hook_a_step() -> None:
    seeded()
    counts: list[int] = []

    class Counting(Nobody):
        def __init__(self, model: nn.Module, optimizer: Any) -> None:
            self.watch, self.model = runtrue.watch(model, optimizer, every=1), model

        def step(self, loss: Any = None) -> None:
            self.watch.step(loss)
            counts.append(len(self.model.scale._backward_hooks or ()))

        def __exit__(self, *error: Any) -> None:
            self.watch.close()

    CASES["parameter_among_the_outputs"](Counting)
    assert max(counts) <= 2


def test_compiled_in_one_piece_though_hooks_hang_on_it() -> None:
    torch.compiler.reset()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with runtrue.watch(model, optimizer, every=1) as watch:
        fast: Any = torch.compile(model, backend="eager", fullgraph=True)
        for _ in range(3):
            step(fast, optimizer, watch)
        assert not watch._off


def test_data_loaded_by_forked_processes(tmp_path: Path) -> None:
    seeded()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = TensorDataset(torch.randn(24, 5), torch.randint(0, 3, (24,)))
    with runtrue.watch(model, optimizer, run=tmp_path, every=1) as watch:
        for _ in range(2):
            for x, y in DataLoader(data, 6, num_workers=1, multiprocessing_context="fork"):
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.step(loss)
            watch.epoch(val_accuracy=0.5)
    record = record_of(tmp_path)
    assert len(record.steps()) == 8 and len(list(record.readings())) == 8 and len(record.epochs()) == 2
