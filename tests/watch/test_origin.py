"""The origin of the first value that is no number: the layer and the operation that made it, and nothing left changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_unchanged import clean, ended, same
from torch import Tensor, nn
from watching_cases import Nobody, grad_of

import runtrue
from runtrue.watch import origin, record_of
from runtrue.watch.origin import Origin, undisturbed
from runtrue.watch.trace import Trace, flaws

Made = Callable[[Any], Any]


class Broken(nn.Module):
    """Two layers with something between them."""

    def __init__(self, between: Made, bias: bool = True) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6), nn.Linear(6, 2, bias=bias)
        self.between, self.drop, self.calls = Between(between), nn.Dropout(0.5), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        found: Tensor = self.last(self.between(self.drop(self.norm(self.first(x)))))
        return found


class Between(nn.Module):
    def __init__(self, do: Made) -> None:
        super().__init__()
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.do(x)
        return found


def origin_of(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor] = torch.mean, before: int = 2) -> str:
    """What the watch says came up at the step after `before` ordinary ones."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    said: list[str] = []
    with runtrue.watch(model, optimizer, say=said.append) as watch:
        for i in range(before + 1):
            optimizer.zero_grad()
            result = loss(model(torch.randn_like(x) if i < before else x))
            result.backward()
            optimizer.step()
            watch.step(result)
        watch.verdicts  # noqa: B018 waits until all is taken in
        assert not watch._off, said
        return watch._scribe.history.origin


X = torch.zeros(5, 4)
FORWARD: dict[str, tuple[Any, str, str]] = {
    "log of 0": (lambda x: (0 * x).log(), "log", "infinity"),
    "0 by 0": (lambda x: (x - x) / (x - x), "div", "NaN"),
    "overflow": (lambda x: (1000 * (1 + x * 0)).exp(), "exp", "infinity"),
    "root of a negative number": (lambda x: (-1 - x * x).sqrt(), "sqrt", "NaN"),
    "in place": (lambda x: (-1 - x * x).sqrt_(), "sqrt", "NaN"),
    "1 by 0": (lambda x: 1 / (0 * x), "rdiv", "infinity"),
    "all of a row masked": (lambda x: (x + float("-inf")).softmax(1), "softmax", "NaN"),
    "told as inf times 0": (lambda x: torch.full_like(x, math.inf) * (0 * x), "mul", "NaN"),
}
BACKWARD: dict[str, tuple[Any, str]] = {
    "root at 0": (lambda x: (0 * x).sqrt(), "sqrt"),
    "root in place": (lambda x: (0 * x).sqrt_(), "sqrt"),
    "power of 0": (lambda x: (0 * x) ** 0.5, "pow"),
    "written in Python": (lambda x: F.pairwise_distance(0 * x[:, None], 0 * x[:, None], eps=0.0).sqrt() + x, "sqrt"),
    "where": (lambda x: torch.where(x > 1e9, (0 * x).sqrt(), x), "sqrt"),
    "arc cosine at 1": (lambda x: (0 * x + 1).acos(), "acos"),
}


@pytest.mark.parametrize("name", FORWARD)
def test_made_in_the_forward_pass(name: str) -> None:
    between, operation, kind = FORWARD[name]
    torch.manual_seed(0)
    said = origin_of(Broken(between), X)
    assert said == f"step 0: `{operation}` in between made {kind} of finite inputs, in the forward pass"


@pytest.mark.parametrize("step", [0, 1, 5])
def test_the_step_is_named(step: int) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.net(x).square() * (0 if bool((x == 0).all()) else 1) + 1e-6 * bool((x != 0).any())
            return found.log()

    said = origin_of(Late(), X, before=step)
    assert said == f"step {step}: `log` in the model made infinity of finite inputs, in the forward pass"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", BACKWARD)
def test_made_in_the_backward_pass(name: str, bias: bool) -> None:
    between, operation = BACKWARD[name]
    torch.manual_seed(0)
    said = origin_of(Broken(between, bias), X, loss=lambda out: out.square().mean())
    assert said.startswith(f"step 0: the gradient of `{operation}` in between is "), said
    assert said.endswith(", of a finite one")


def test_the_norm_of_zeros_has_no_gradient_that_is_lost() -> None:
    """torch gives its norm at 0 the gradient 0: no origin, and none is told."""
    torch.manual_seed(0)
    assert origin_of(Broken(lambda x: x + (0 * x).norm(dim=1, keepdim=True)), X) == ""


def test_the_norm_written_by_hand_has() -> None:
    torch.manual_seed(0)
    said = origin_of(Broken(lambda x: x + (0 * x).square().sum(1, keepdim=True).sqrt()), X)
    assert said.startswith("step 0: the gradient of `sqrt` in between is ")


def plain(x: Any) -> Any:
    return x


def test_inputs_that_hold_it() -> None:
    x = torch.randn(5, 4)
    x[2, 1] = math.nan
    assert origin_of(Broken(plain), x) == "step 2: the inputs of the batch hold NaN"
    x[2, 1] = math.inf
    assert origin_of(Broken(plain), x) == "step 2: the inputs of the batch hold infinity"


def test_weights_that_held_it() -> None:
    model = Broken(plain)
    with torch.no_grad():
        model.first.weight[0, 0] = math.nan
    said = origin_of(model, torch.randn(5, 4))
    assert said == "step 0: first.weight held NaN before this step: an update had made it"


def test_the_loss_that_makes_it() -> None:
    said = origin_of(Broken(plain), torch.randn(5, 4), loss=lambda out: (0 * out).sqrt().sum())
    assert said == "step 0: the outputs are finite: the loss, or its gradient, made NaN"


def test_made_by_a_kernel_that_is_not_torchs_own() -> None:
    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return torch.from_numpy(x.detach().numpy() * math.nan)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return gradients[0]

    said = origin_of(Broken(Kernel.apply), torch.randn(5, 4))
    assert "Between" in said and "in between made NaN of finite inputs" in said


def test_of_accumulated_gradients_the_pass_that_made_it_is_run_again() -> None:
    first = nn.Linear(4, 4)
    model = nn.Sequential(first, Between(lambda x: x.sqrt() if bool((x == -1).all()) else x))
    optimizer, said = torch.optim.SGD(model.parameters(), 0.0), list[str]()
    with torch.no_grad():
        first.weight.zero_()
        first.bias.zero_()
    with runtrue.watch(model, optimizer, say=said.append) as watch:
        for step in range(3):
            for part in range(4):
                with torch.no_grad():
                    first.bias.fill_(-1.0 if (step, part) == (1, 1) else 0.5)
                model(torch.randn(3, 4)).sum().backward()
                with torch.no_grad():
                    first.bias.fill_(-1.0)  # as it was in that pass, for the replay
            optimizer.step()
            optimizer.zero_grad()
            watch.step(0.0)
        watch.verdicts  # noqa: B018
        assert watch._scribe.history.origin == "step 1: `sqrt` in 1 made NaN of finite inputs, in the forward pass"


def test_what_dropout_draws_is_drawn_again() -> None:
    """One unit in a thousand makes it: a replay with other random numbers would hardly meet it."""
    first = nn.Linear(4, 1000)
    model = nn.Sequential(first, nn.Dropout(0.001), Between(lambda x: (x.min() - 1e-9).log() + x), nn.Linear(1000, 2))
    with torch.no_grad():
        first.weight.zero_()
        first.bias.fill_(1.0)
    for seed in range(5):
        torch.manual_seed(seed)
        said = origin_of(copy.deepcopy(model), torch.randn(1, 4), before=10)
        assert "`log` in 2 made NaN" in said


def causal(count: int) -> Tensor:
    return torch.full((count, count), float("-inf")).triu(1)


MASKED: dict[str, Any] = {
    "added": lambda x: (x @ x.T + causal(len(x))).softmax(-1) @ x,
    "filled": lambda x: (x @ x.T).masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), float("-inf")).softmax(-1) @ x,
    "where": lambda x: torch.where(torch.ones(len(x), len(x)).tril().bool(), x @ x.T, float("-inf")).softmax(-1) @ x,
    "written": lambda x: written(x) @ x,
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], attn_mask=causal(len(x)))[0],
    "maximum": lambda x: torch.full_like(x, float("inf")).minimum(x),
    "raw memory": lambda x: torch.empty(5, 6).fill_(math.nan).copy_(x),
}


def written(x: Tensor) -> Tensor:
    scores = x @ x.T
    scores[torch.ones(len(x), len(x)).triu(1).bool()] = -math.inf
    return scores.softmax(-1)


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_infinities_is_not_where_it_came_from(name: str) -> None:
    """A NaN is made behind the mask: it is named, and not the mask."""
    torch.manual_seed(0)
    said = origin_of(Broken(lambda x: (-MASKED[name](x).square() - 1).log()), X)
    assert said == "step 0: `log` in between made NaN of finite inputs, in the forward pass"


@pytest.mark.parametrize("name", MASKED)
def test_a_network_with_a_mask_has_no_origin(name: str) -> None:
    torch.manual_seed(0)
    assert origin_of(Broken(MASKED[name]), torch.randn(5, 4)) == ""


def test_masks_among_the_inputs_and_outputs_are_no_origin() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 4)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            found: Tensor = self.net(x).negative().square().negative().sqrt() + 0 * mask.exp()
            return found

    model = Masked()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with runtrue.watch(model, optimizer, say=lambda _: None) as watch:
        model(torch.randn(2, 4), torch.tensor([0.0, -math.inf, 0.0, 0.0])).sum().backward()
        optimizer.step()
        watch.step(0.0)
        watch.verdicts  # noqa: B018
        assert "`sqrt` in the model made NaN" in watch._scribe.history.origin


def lost_at_step_3(start: Any) -> Any:
    torch.manual_seed(1)
    model = Broken(plain)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    with start(model, optimizer) as watch:
        for i in range(6):
            x = torch.randn(5, 4)
            model.between.do = (lambda x: (-1 - x * x).sqrt()) if i == 3 else plain
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            if i != 3:
                optimizer.step()
            else:  # as a scaler would: the step is left out by a closure that has no step behind it
                kept = [grad_of(p).clone() for p in model.parameters()]
                optimizer.param_groups[0]["lr"] = 0.0
                optimizer.step()
                optimizer.param_groups[0]["lr"] = 0.01
                assert all(
                    torch.equal(a.nan_to_num(), grad_of(p).nan_to_num()) for a, p in zip(kept, model.parameters())
                )
            watch.step(loss)
    model.register_buffer("counted", torch.tensor(model.calls))
    return model, [optimizer]


def test_nothing_is_left_of_the_replay(tmp_path: Path) -> None:
    def nan_alike(one: Any, other: Any) -> bool:
        if isinstance(one, Tensor):
            return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(nan_alike(one[k], other[k]) for k in one)
        if isinstance(one, (list, tuple)):
            return len(one) == len(other) and all(map(nan_alike, one, other))
        return same(one, other)

    alone = ended(lost_at_step_3, Nobody)
    watched = ended(lost_at_step_3, lambda m, o: runtrue.watch(m, o, run=tmp_path, say=lambda _: None))
    assert nan_alike(alone, watched) and clean()
    assert any("`sqrt` in between made NaN" in one["message"] for one in record_of(tmp_path).verdicts())


def test_undisturbed_keeps_buffers_attributes_and_their_identity() -> None:
    model = Broken(plain)
    model(torch.randn(5, 4))
    assert model.norm.running_mean is not None
    kept, version = model.norm.running_mean, model.norm.running_mean._version
    values, state = kept.clone(), torch.get_rng_state()
    with undisturbed(model):
        model(torch.randn(5, 4))
        assert not torch.equal(model.norm.running_mean, values) and model.calls == 2
    assert model.norm.running_mean is kept and torch.equal(kept, values) and kept._version == version
    assert model.calls == 1 and torch.equal(state, torch.get_rng_state())


def test_a_replay_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("a model that runs once")

    monkeypatch.setattr(origin, "replayed", fails)
    torch.manual_seed(0)
    assert origin_of(Broken(FORWARD["log of 0"][0]), X) == ""


def test_a_trace_leaves_nothing_behind_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), Trace(nn.Linear(1, 1)):
        raise ZeroDivisionError
    assert clean()


def test_flaws_and_sentences() -> None:
    assert flaws(iter([torch.tensor([1.0, math.nan]), torch.tensor([-math.inf])])) == {"NaN", "-inf"}
    assert str(Origin("outputs")) == "the outputs hold NaN; which operation made it was not seen"
    assert origin.bad({"-inf"}) is None and origin.bad({"+inf"}) == "infinity"


def test_nothing_of_a_batch_is_kept_when_its_step_is_over() -> None:
    import weakref

    model = Broken(plain)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with runtrue.watch(model, optimizer, every=1) as watch:
        x = torch.randn(5, 4)
        gone = weakref.ref(x)
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        watch.step(loss)
        del x, loss
        assert gone() is None
