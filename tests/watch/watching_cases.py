"""Trainings of many kinds, each as one function of how it is watched: with `runtrue.watch`, or by `Nobody`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

STEPS = 12
Start = Callable[..., Any]
Case = Callable[[Start], tuple[nn.Module, list[Optimizer]]]
CASES: dict[str, Case] = {}


class Nobody:
    """Watches nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def step(self, loss: Any = None) -> None: ...

    def epoch(self, **numbers: float) -> None: ...

    def __enter__(self) -> Nobody:
        return self

    def __exit__(self, *error: Any) -> None: ...


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def batch(*shape: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape), torch.randint(0, classes, shape[:1])


def grad_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def plain(start: Start, model: nn.Module, optimizer: Optimizer, *shape: int) -> tuple[nn.Module, list[Optimizer]]:
    with start(model, optimizer) as watch:
        for i in range(STEPS):
            x, y = batch(*shape)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
            if i == STEPS // 2:
                with torch.no_grad():
                    model.eval()
                    model(batch(*shape)[0])
                    model.train()
                watch.epoch(val_accuracy=0.5)
    return model, [optimizer]


def mlp(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8, **options), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


@case
def mlp_with_sgd(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    return plain(start, model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), 6, 5)


@case
def cnn_with_batch_norm_and_relu_in_place(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    return plain(start, model, torch.optim.AdamW(model.parameters(), 0.01), 4, 1, 8, 8)


@case
def dropout_and_random_numbers_of_all_kinds(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout(F.gelu(self.first(x)), 0.3, self.training)
            found: Tensor = self.last(x + 0.01 * random.random() + 0.01 * float(np.random.rand()))
            return found

    model = Noisy()
    return plain(start, model, torch.optim.Adam(model.parameters()), 6, 5)


@case
def shared_module_and_functional_activations(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(5, 8), nn.Linear(8, 8)
            self.last = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu_(self.first(x))
            for _ in range(3):
                x = x + torch.tanh(self.again(x))
            found: Tensor = self.last(x.clamp(min=0))
            return found

    model = Shared()
    return plain(start, model, torch.optim.RMSprop(model.parameters()), 6, 5)


@case
def lazy_modules(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    return plain(start, model, torch.optim.SGD(model.parameters(), 0.1), 6, 5)


@case
def gan_with_two_optimizers(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    nets = nn.ModuleDict({"made": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5)), "judge": mlp()})
    maker, judge = nets["made"], nets["judge"]
    makes, judges = torch.optim.Adam(maker.parameters(), 1e-2), torch.optim.SGD(judge.parameters(), 1e-2)
    with start(nets, [makes, judges]) as watch:
        for _ in range(STEPS):
            fake = maker(torch.randn(6, 4))
            judges.zero_grad()
            (judge(fake.detach()).mean() - judge(torch.randn(6, 5)).mean()).backward()
            judges.step()
            makes.zero_grad()
            loss = -judge(fake).mean()
            loss.backward()
            makes.step()
            watch.step(loss)
    return nets, [makes, judges]


@case
def autocast_to_bfloat16(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    with start(model, optimizer) as watch:
        for _ in range(STEPS):
            x, y = batch(6, 5)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]


@case
def network_of_halves(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp().to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with start(model, optimizer) as watch:
        for _ in range(STEPS):
            x, y = batch(6, 5)
            loss = F.cross_entropy(model(x.bfloat16()).float(), y)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]


@case
def accumulated_and_clipped_gradients(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    with start(model, optimizer) as watch:
        for i in range(3 * STEPS):
            x, y = batch(6, 5)
            loss = F.cross_entropy(model(x), y) / 3
            loss.backward()
            if i % 3 == 2:
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                optimizer.step()
                optimizer.zero_grad()
            watch.step(loss)
    return model, [optimizer]


@case
def loss_scaled_by_a_scaler(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cpu")
    with start(model, optimizer) as watch:
        for _ in range(STEPS):
            x, y = batch(6, 5)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            watch.step(loss)
    return model, [optimizer]


def by_closure(
    start: Start, model: nn.Module, optimizer: Optimizer, by_name: bool
) -> tuple[nn.Module, list[Optimizer]]:
    with start(model, optimizer) as watch:
        for _ in range(STEPS // 2):
            x, y = batch(6, 5)

            def closure(x: Tensor = x, y: Tensor = y) -> Any:  # a tensor, where torch declares a float
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                return loss.detach()

            watch.step(optimizer.step(closure=closure) if by_name else optimizer.step(closure))
    return model, [optimizer]


@case
def lbfgs_with_its_closure(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    return by_closure(start, model, torch.optim.LBFGS(model.parameters(), max_iter=4), by_name=False)


@case
def sgd_with_a_closure(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    return by_closure(start, model, torch.optim.SGD(model.parameters(), 0.1), by_name=True)


def compiled_network(start: Start, watch_compiled: bool) -> tuple[nn.Module, list[Optimizer]]:
    torch.compiler.reset()
    model = mlp()
    fast = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with start(fast if watch_compiled else model, optimizer) as watch:
        for _ in range(STEPS):
            x, y = batch(6, 5)
            loss = F.cross_entropy(fast(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]


@case
def compiled_and_watched_so(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    return compiled_network(start, watch_compiled=True)


@case
def compiled_and_the_network_within_watched(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    return compiled_network(start, watch_compiled=False)


@case
def sparse_embedding(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = nn.Sequential(nn.EmbeddingBag(20, 6, sparse=True), nn.Linear(6, 3))
    optimizers: list[Optimizer] = [
        torch.optim.SparseAdam(list(model[0].parameters())), torch.optim.Adam(model[1].parameters())
    ]  # fmt: skip
    with start(model, optimizers) as watch:
        for _ in range(STEPS):
            loss = F.cross_entropy(model(torch.randint(0, 20, (6, 4))), torch.randint(0, 3, (6,)))
            for one in optimizers:
                one.zero_grad()
            loss.backward()
            for one in optimizers:
                one.step()
            watch.step(loss)
    return model, optimizers


@case
def forward_pass_that_fails_now_and_then(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.calls = nn.Linear(5, 8), nn.Linear(8, 3), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            x = self.first(x)
            found: Tensor = self.last(x[:, :-1] if self.calls % 3 == 0 else x)
            return found

    model = Fails()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with start(model, optimizer) as watch:
        for _ in range(STEPS):
            x, y = batch(6, 5)
            try:
                loss = F.cross_entropy(model(x), y)
            except RuntimeError:
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]


@case
def gradient_penalty_by_a_second_derivative(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with start(model, optimizer) as watch:
        for _ in range(STEPS):
            x = torch.randn(6, 5, requires_grad=True)
            (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            loss = model(x).mean() + (slope.norm(dim=1) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]


@case
def activations_computed_again_in_the_backward_pass(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    from torch.utils.checkpoint import checkpoint

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = (
                nn.Linear(5, 8),
                nn.Sequential(nn.Linear(8, 8), nn.Dropout()),
                nn.Linear(8, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.last(checkpoint(self.middle, F.relu(self.first(x)), use_reentrant=False))
            return found

    model = Again()
    return plain(start, model, torch.optim.SGD(model.parameters(), 0.1), 6, 5)


@case
def recurrent_and_attention(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.attention = (
                nn.LSTM(5, 8, batch_first=True),
                nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True),
            )
            self.last = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.rnn(x)[0]
            mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
            found: Tensor = self.last(self.attention(x, x, x, attn_mask=mask)[0].mean(1))
            return found

    model = Sequence()
    return plain(start, model, torch.optim.Adam(model.parameters(), 0.01), 4, 6, 5)


@case
def data_parallel_wrapper(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = nn.DataParallel(mlp())
    return plain(start, model, torch.optim.SGD(model.parameters(), 0.1), 6, 5)


@case
def hooks_of_the_users_own(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    first = model[0]
    assert isinstance(first, nn.Linear)
    model.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    model[2].register_forward_hook(lambda _, args, output: output + 0.1)
    model[2].register_full_backward_hook(lambda *_: None)
    first.bias.register_hook(lambda gradient: gradient * 0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_value_(model.parameters(), 0.01)

    optimizer.register_step_pre_hook(clip)
    return plain(start, model, optimizer, 6, 5)


@case
def group_added_in_the_middle(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    model = mlp()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    with start(model, optimizer) as watch:
        for i in range(STEPS):
            if i == 5:
                model[0].requires_grad_(True)
                optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.01})
            x, y = batch(6, 5)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]


@case
def parameter_among_the_outputs(start: Start) -> tuple[nn.Module, list[Optimizer]]:
    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.scale = mlp(), nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x), "scale": self.scale}

    model = Told()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with start(model, optimizer) as watch:
        for _ in range(STEPS):
            x, y = batch(6, 5)
            told = model(x)
            loss = F.cross_entropy(told["logits"] * told["scale"], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return model, [optimizer]
