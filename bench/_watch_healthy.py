"""Trainings that learn, of every kind: nothing said of them as a fault is right. `least`: the score that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler

import _watch_nets as net
from _watch_loop import (
    EVERY,
    Habits,
    Loss,
    Seen,
    Set,
    fashion,
    fit,
    flat,
    friedman,
    in_order,
    lines,
    moons,
    parameters,
    rows,
    shuffled,
)
from runtrue import nets

Make = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Plan:
    """train: watches one run by the seed's batches and returns its score. right: causes whose warning is right here."""

    name: str
    train: Callable[[Seen, int], float]
    least: float = 0.6
    right: frozenset[str] = frozenset()
    every: int = EVERY


def plan(
    name: str, model: Callable[[], nn.Module], make: Make, data: Callable[[], Set] = flat, loss: Loss = F.cross_entropy,
    least: float = 0.6, right: tuple[str, ...] = (), every: int = EVERY, **habits: Any,
) -> Plan:  # fmt: skip
    def train(seen: Seen, seed: int) -> float:
        network = model()
        return fit(seen, network, make(network), data(), Habits(seed=seed, **habits), loss)

    return Plan(name, train, least, frozenset(right), every)


def sgd(rate: float, momentum: float = 0.0, decay: float = 0.0) -> Make:
    return lambda m: SGD(parameters(m), rate, momentum, weight_decay=decay)


def adam(rate: float = 1e-3, decay: float = 0.0) -> Make:
    return lambda m: Adam(parameters(m), rate, weight_decay=decay)


def adamw(rate: float = 1e-3, decay: float = 0.01) -> Make:
    return lambda m: AdamW(parameters(m), rate, weight_decay=decay)


def warmup(steps: int) -> Callable[[Optimizer], Any]:
    return lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / steps))


def warm_cosine(steps: int, total: int) -> Callable[[Optimizer], Any]:
    def rate(step: int) -> float:
        return min(1.0, step / steps) * (1 + math.cos(math.pi * min(1.0, step / total))) / 2

    return lambda o: lr_scheduler.LambdaLR(o, rate)


def tuned(freeze: str) -> nn.Module:
    """A network that was trained already, with a new head, and all but the head frozen if asked."""
    torch.manual_seed(5)
    network = net.cnn(norm=True)
    optimizer = Adam(network.parameters(), 3e-3)
    source = shuffled(fashion(), 64, 9)
    for _ in range(100):
        x, y = next(source)
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert isinstance(network.head, nn.Linear)
    network.head = nn.Linear(network.head.in_features, 10)
    if freeze:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("head"))
    return network


def first_64() -> Set:
    return flat().first(64)


def first_64_images() -> Set:
    return fashion().first(64)


def two_batches() -> Set:
    """Two batches, always in the same order, the second one of other labels half of the time: its loss stays high."""
    data = flat().first(128)
    y = data.y.clone()
    y[64:96] = torch.randint(10, (32,), generator=torch.Generator().manual_seed(1))
    return data._replace(y=y)


def pictures() -> Set:
    data = flat()
    return data._replace(y=data.x, val_y=data.val_x)


def unlikely(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log likelihood of targets that vary little: −log σ is large."""
    mean, log_std = outputs.chunk(2, 1)
    return ((targets - mean).square() / (2 * log_std).exp() / 2 + log_std - 3.0).mean()


def imbalanced() -> Set:
    """One in fifty is a one."""
    data = moons(4000)
    keep = (data.y[:, 0] == 0) | (torch.arange(len(data.y)) % 50 == 0)
    return data._replace(x=data.x[keep], y=data.y[keep])


BCE = F.binary_cross_entropy_with_logits


def perceptrons() -> list[Plan]:
    return [
        plan("mlp, SGD 0.1", net.mlp, sgd(0.1)),
        plan("mlp, SGD 0.5, high", net.mlp, sgd(0.5)),
        plan("mlp, SGD 1e-3, low", net.mlp, sgd(1e-3), steps=1500, least=0.3),
        plan("mlp, SGD 3e-3, low", net.mlp, sgd(3e-3), steps=1500, least=0.4),
        plan("mlp, momentum", net.mlp, sgd(0.02, 0.9)),
        plan("mlp, momentum 0.99", net.mlp, sgd(2e-3, 0.99)),
        plan("mlp, Nesterov, decay", net.mlp, lambda m: SGD(m.parameters(), 0.02, 0.9, weight_decay=5e-4,
             nesterov=True)),
        plan("mlp, Adam 1e-3", net.mlp, adam()),
        plan("mlp, Adam 1e-2, high", net.mlp, adam(1e-2)),
        plan("mlp, Adam 3e-5, low", net.mlp, adam(3e-5), steps=1500, least=0.4),
        plan("mlp, AdamW", net.mlp, adamw()),
        plan("mlp, AdamW, decay 1", net.mlp, adamw(1e-3, 1.0)),
        plan("mlp, RMSprop", net.mlp, lambda m: RMSprop(m.parameters(), 1e-3)),
        plan("mlp, Adagrad", net.mlp, lambda m: torch.optim.Adagrad(m.parameters(), 1e-2)),
        plan("mlp, deep", lambda: net.mlp(*[48] * 6), adam(), steps=600),
        plan("mlp, tanh", lambda: net.mlp(activation="tanh"), adam()),
        plan("mlp, sigmoid", lambda: net.mlp(activation="sigmoid"), adam(3e-3), steps=600),
        plan("mlp, 4 sigmoids, slow start", lambda: net.mlp(*[64] * 4, activation="sigmoid"), adam(3e-3), steps=1500),
        plan("mlp, GELU", lambda: net.mlp(activation="gelu"), adam()),
        plan("mlp, BatchNorm", lambda: net.mlp(norm=True), sgd(0.1, 0.9)),
        plan("mlp, dropout 0.5", lambda: net.mlp(128, 128, dropout=0.5), adam(), steps=600),
        plan("mlp, wide", lambda: net.mlp(1000), sgd(0.05), steps=300),
        plan("mlp, batches of 4", net.mlp, sgd(0.01), batch=4, steps=2000),
        plan("mlp, batches of 1", net.mlp, sgd(3e-3), batch=1, steps=2000, per_epoch=500),
        plan("mlp, decay in the loss", net.mlp, adam(), decay_in_loss=1e-3),
    ]  # fmt: skip


def schedules() -> list[Plan]:
    return [
        plan("warmup", net.mlp, adam(), schedule=warmup(200)),
        plan("long warmup", net.mlp, sgd(0.1), schedule=warmup(600), steps=1000),
        plan("warmup and cosine", net.mlp, adamw(3e-3), schedule=warm_cosine(50, 600), steps=600),
        plan("cosine to 0, ends there", net.mlp, sgd(0.1, 0.9), steps=600,
             schedule=lambda o: lr_scheduler.CosineAnnealingLR(o, 600)),
        plan("cosine restarts", net.mlp, sgd(0.1, 0.9), steps=900,
             schedule=lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 150)),
        plan("OneCycle", net.mlp, sgd(0.1, 0.9), steps=600, schedule=lambda o: lr_scheduler.OneCycleLR(o, 0.3, 600)),
        plan("OneCycle, Adam", net.cnn, adam(), fashion, steps=300, schedule=lambda o: lr_scheduler.OneCycleLR(o,
             1e-2, 300)),
        plan("step decay by epoch", net.mlp, sgd(0.1, 0.9), steps=920, scheduled_by="epoch",
             schedule=lambda o: lr_scheduler.MultiStepLR(o, [10, 15])),
        plan("exponential by epoch", net.mlp, sgd(0.1, 0.9), steps=920, scheduled_by="epoch",
             schedule=lambda o: lr_scheduler.ExponentialLR(o, 0.7)),
        plan("ReduceLROnPlateau, long after", net.mlp, sgd(0.05, 0.9), first_64, batch=16, steps=2000,
             scheduled_by="val_loss",
             per_epoch=4, schedule=lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=3), right=("overfitting",), least=0.8),
        plan("cyclic", net.mlp, sgd(0.01, 0.9), steps=900, schedule=lambda o: lr_scheduler.CyclicLR(o, 1e-3, 0.1, 100)),
        plan("polynomial, not told", net.mlp, adam(3e-3), told=False, steps=600,
             schedule=lambda o: lr_scheduler.PolynomialLR(o, 600)),
    ]  # fmt: skip


def images() -> list[Plan]:
    return [
        plan("cnn, SGD", net.cnn, sgd(0.1, 0.5), fashion),
        plan("cnn, Adam", net.cnn, adam(3e-3), fashion),
        plan("cnn, BatchNorm", lambda: net.cnn(norm=True), sgd(0.1, 0.9), fashion),
        plan("cnn, BatchNorm, dropout", lambda: net.cnn(norm=True, dropout=0.3), adam(3e-3), fashion),
        plan("cnn, BatchNorm, high", lambda: net.cnn(norm=True), sgd(1.0), fashion),
        plan("resnet-8", net.resnet, sgd(0.1, 0.9, 1e-4), fashion, steps=250, batch=32),
        plan("resnet-8, AdamW, OneCycle", net.resnet, adamw(), fashion, steps=250, batch=32,
             schedule=lambda o: lr_scheduler.OneCycleLR(o, 1e-2, 250)),
        plan("resnet-14, clipped", lambda: net.resnet(14), sgd(0.1, 0.9), fashion, steps=200, batch=32, clip=1.0),
        plan("cnn, clipped hard", net.cnn, sgd(0.1, 0.9), fashion, clip=0.1),
        plan("cnn, 4 accumulated", net.cnn, sgd(0.1, 0.9), fashion, batch=16, accumulate=4),
        plan("cnn, not told", net.cnn, adam(3e-3), fashion, told=False),
        plan("cnn, never evaluated", lambda: net.cnn(norm=True), adam(3e-3), fashion, evaluated=False),
        plan("cnn, long", net.cnn, adam(3e-3), lambda: fashion().first(1000), steps=1200, right=("overfitting",)),
        plan("cnn, augmented", net.cnn, adam(3e-3), fashion, at_step=flipped),
        plan("cnn, label smoothing", net.cnn, adam(3e-3), fashion, lambda o, y: F.cross_entropy(o, y,
             label_smoothing=0.1)),
        plan("cnn, wrong labels in part", net.cnn, adam(3e-3), fashion, at_step=mislabelled, least=0.5),
    ]  # fmt: skip


def flipped(step: int, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (x.flip(-1) if step % 2 else x), y


def mislabelled(step: int, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A third of the labels is drawn by chance: a noisy loss."""
    y = y.clone()
    y[: len(y) // 3] = torch.randint(10, (len(y) // 3,))
    return x, y


def sequences() -> list[Plan]:
    return [
        plan("LSTM", net.Reader, adam(5e-3), rows, clip=1.0),
        plan("LSTM, SGD", net.Reader, sgd(0.5, 0.9), rows, steps=600, clip=1.0, least=0.5),
        plan("GRU", lambda: net.Reader("gru"), adam(5e-3), rows),
        plan("tanh RNN, clipped", lambda: net.Reader("rnn"), adam(2e-3), rows, steps=600, clip=1.0, least=0.5),
        plan("transformer, pre-norm", net.Attends, adamw(2e-3), rows),
        plan("transformer, post-norm, warmup", lambda: net.Attends(norm_first=False), adamw(2e-3), rows,
             schedule=warmup(100)),
        plan("transformer, dropout", lambda: net.Attends(dropout=0.1), adamw(3e-3), rows, schedule=warm_cosine(50,
             600), steps=600),
        Plan("characters, transformer", lambda seen, seed: letters(seen, seed, "transformer"), 0.3),
        Plan("characters, GRU", lambda seen, seed: letters(seen, seed, "gru"), 0.3),
    ]  # fmt: skip


def letters(seen: Seen, seed: int, kind: str) -> float:
    model = net.Writer(kind)
    optimizer = AdamW(model.parameters(), 3e-3)
    seen.watch(model, optimizer)
    accuracy = 0.0
    for step, (x, y) in zip(range(600), lines(seed=seed)):
        outputs = model(x)
        loss = F.cross_entropy(outputs.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.step(loss)
        accuracy = 0.95 * accuracy + 0.05 * float((outputs.argmax(-1) == y).float().mean())
        if (step + 1) % 100 == 0:
            seen.epoch(train_loss=float(loss))
    seen.close()
    return accuracy


def regressions() -> list[Plan]:
    return [
        plan("regression, Adam", net.regressor, adam(3e-3), friedman, F.mse_loss),
        plan("regression, SGD, low", net.regressor, sgd(3e-3), friedman, F.mse_loss, steps=1500, least=0.4),
        plan("regression, tanh", lambda: net.regressor(activation="tanh"), adam(3e-3), friedman, F.mse_loss),
        plan("regression, L1", net.regressor, adam(3e-3), friedman, F.l1_loss),
        plan("regression, full batch", net.regressor, adam(1e-2), lambda: friedman().first(200), F.mse_loss,
             batch=200, steps=500),
        plan("regression, full batch, told by 50", net.regressor, sgd(0.05, 0.9), lambda: friedman().first(200),
             F.mse_loss,
             batch=200, steps=600, per_epoch=50, batches="first again", right=("overfitting",)),
        plan("regression, LBFGS", net.regressor, lambda m: LBFGS(m.parameters(), 0.5, max_iter=5),
             lambda: friedman().first(200),
             F.mse_loss, batch=200, steps=60, closure=True, every=2, right=("overfitting",)),
        plan("mlp, LBFGS", lambda: net.mlp(16), lambda m: LBFGS(m.parameters(), 0.5, max_iter=4,
             line_search_fn="strong_wolfe"),
             lambda: flat().first(500), batch=500, steps=200, closure=True, every=3, right=("overfitting",)),
        plan("edge of stability", lambda: net.regressor(activation="tanh"), sgd(0.3), lambda: friedman().first(200),
             F.mse_loss, batch=200, steps=600,
             right=("overfitting",)),
        plan("moons, BCE", lambda: nets.mlp((2, 32, 1)), adam(1e-2), moons, BCE, least=0.85),
        plan("moons, imbalanced", lambda: nets.mlp((2, 32, 1)), adam(1e-2), imbalanced, BCE, least=0.985, steps=800),
        plan("autoencoder", net.Autoencoder, adam(3e-3), pictures, F.mse_loss, least=0.6, steps=600),
        plan("negative loss", net.Doubtful, adam(3e-3), friedman, unlikely, least=-9.0, steps=600),
    ]  # fmt: skip


def on_purpose() -> list[Plan]:
    return [
        plan("one batch, overfitted", net.mlp, adam(), first_64, batch=64, steps=600, batches="first again",
             least=0.95, right=("overfitting",)),
        plan("one batch, not told", lambda: net.cnn(norm=True), adam(3e-3), first_64_images, batch=64, steps=300,
             told=False, least=0.95),
        plan("one batch, no evaluation", net.mlp, adam(), first_64, batch=64, steps=600, per_epoch=100,
             evaluated=False, least=0.95),
        plan("converged, goes on", net.mlp, sgd(0.02, 0.9), first_64, batch=16, steps=2000, per_epoch=50, least=0.95,
             right=("overfitting",)),
        plan("converged, goes on, noisy", lambda: net.mlp(dropout=0.2), adam(), lambda: flat().first(500),
             steps=2000, least=0.9, right=("overfitting",)),
        plan("moons converged, goes on", lambda: nets.mlp((2, 32, 32, 1)), sgd(0.3, 0.9), lambda: moons(500, 0.05),
             BCE, steps=2000, least=0.95),
        plan("two batches in turn", net.mlp, sgd(0.05, 0.9), two_batches, batch=64, steps=800, per_epoch=20,
             batches="in order", right=("overfitting",), least=0.5),
        plan("fine-tuning, only the head", lambda: tuned("body"), adam(3e-3), fashion, mode="norms frozen"),
        plan("fine-tuning, all in evaluation mode", lambda: tuned("body"), adam(3e-3), fashion, mode="evaluation"),
        plan("fine-tuning, all", lambda: tuned(""), adam(3e-4), fashion),
        plan("norms frozen on purpose", lambda: tuned(""), adam(1e-3), fashion, mode="norms frozen"),
        Plan("only the head's parameters", head_alone, 0.6),
        Plan("resumed, converged", resumed, 0.9, frozenset({"overfitting"})),
        Plan("two optimizers", two_optimizers, 0.6),
        Plan("mixed precision", mixed_precision, 0.6),
        Plan("no loss told", untold, 0.6),
        Plan("zero_grad set to zeros", zeroed, 0.6),
        Plan("ten heads", ten_heads, 0.4),
        Plan("many steps of one loss in turn", two_tasks, 0.5),
    ]  # fmt: skip


def head_alone(seen: Seen, seed: int) -> float:
    model = tuned("").eval()
    assert isinstance(model.head, nn.Linear)
    optimizer = Adam(model.head.parameters(), 3e-3)
    return fit(seen, model, optimizer, fashion(), Habits(seed=seed, mode="norms frozen"))


def resumed(seen: Seen, seed: int) -> float:
    """A network that has converged is trained on, for more than a thousand steps, in a run that says where it begins."""
    model, data = net.mlp(dropout=0.1), flat().first(500)
    optimizer = Adam(model.parameters(), 1e-3)
    source = shuffled(data, 64, seed)
    for step in range(2200):
        if step == 1000:
            seen.watch(model, optimizer, start=1000)
        x, y = next(source)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 1000:
            seen.step(loss)
    seen.close()
    return float((model.eval()(data.x).argmax(1) == data.y).float().mean())


def stepped(
    seen: Seen, seed: int, model: nn.Module, optimizer: Optimizer, act: Callable[[int, Tensor, Tensor], Any],
    data: Set | None = None, steps: int = 400,
) -> float:  # fmt: skip
    """A loop whose step is `act`, which tells the watch itself."""
    found = flat() if data is None else data
    source = shuffled(found, 64, seed)
    seen.watch(model, *(optimizer if isinstance(optimizer, tuple) else (optimizer,)))
    for step in range(steps):
        x, y = next(source)
        act(step, x, y)
    seen.close()
    return float((model.eval()(found.x).argmax(1) == found.y).float().mean())


def two_optimizers(seen: Seen, seed: int) -> float:
    model = net.mlp()
    pair = SGD(model[0].parameters(), 0.05), Adam(list(model.parameters())[2:], 1e-3)  # type: ignore[index]

    def act(step: int, x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(model(x), y)
        for one in pair:
            one.zero_grad()
        loss.backward()
        for one in pair:
            one.step()
        seen.step(loss)

    return stepped(seen, seed, model, pair, act)  # type: ignore[arg-type]


def mixed_precision(seen: Seen, seed: int) -> float:
    """The scale of the loss is too large at first: gradients that are no numbers, whose steps are left out."""
    model = net.mlp()
    optimizer, scaler = (
        SGD(model.parameters(), 0.1),
        torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=50),
    )

    def act(step: int, x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss * 1e3).backward()
        scaler.unscale_(optimizer)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad /= 1e3
        scaler.step(optimizer)
        scaler.update()
        seen.step(loss)

    return stepped(seen, seed, model, optimizer, act)


def untold(seen: Seen, seed: int) -> float:
    model = net.mlp()
    optimizer = Adam(model.parameters())

    def act(step: int, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        seen.step(None)

    return stepped(seen, seed, model, optimizer, act)


def zeroed(seen: Seen, seed: int) -> float:
    model = net.mlp()
    optimizer = SGD(model.parameters(), 0.1)

    def act(step: int, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        float((model(x).argmax(1) == y).float().mean())  # a second look, with gradients on, in front of the step
        optimizer.step()
        seen.step(loss)

    return stepped(seen, seed, model, optimizer, act)


class Branches(nn.Module):
    """One of ten heads a batch: the last bias gets a gradient in one step of ten."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(196, 64), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(64, 10) for _ in range(10))
        self.turn = 9

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.heads[self.turn](self.body(x))
        return found


def ten_heads(seen: Seen, seed: int) -> float:
    model = Branches()
    optimizer = Adam(model.parameters(), 2e-3)

    def act(step: int, x: Tensor, y: Tensor) -> None:
        model.turn = (step + 9) % 10
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        seen.step(loss)

    return stepped(seen, seed, model, optimizer, act, steps=600)


def two_tasks(seen: Seen, seed: int) -> float:
    """Two losses of different sizes in turn, both told: the curve goes up and down and nothing is wrong."""
    model = net.mlp()
    optimizer = Adam(model.parameters(), 1e-3)

    def act(step: int, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        outputs = model(x)
        loss = F.cross_entropy(outputs, y) if step % 2 else 0.2 * F.cross_entropy(outputs, y)
        loss.backward()
        optimizer.step()
        seen.step(loss)

    return stepped(seen, seed, model, optimizer, act, steps=600)


def unusual() -> list[Plan]:
    """Losses that do not fall although all is well, and several optimizers."""
    return [
        Plan("GAN, one watch, the maker's loss", lambda seen, seed: gan(seen, seed, "one"), 0.5),
        Plan("GAN, two watches", lambda seen, seed: gan(seen, seed, "two"), 0.5),
        Plan("GAN, both losses in turn", lambda seen, seed: gan(seen, seed, "turn"), 0.5),
        Plan("GAN with a sigmoid", lambda seen, seed: gan(seen, seed, "two", sigmoid=True), 0.5),
        Plan("variational, KL rises", variational, 0.3),
        Plan("policy gradient", policy, 0.8),
        Plan("temporal differences, the loss rises", differences, 0.5),
        Plan("contrastive", contrastive, 0.5),
        Plan("rewards found late", lambda seen, seed: differences(seen, seed, found=400), 0.5),
        Plan("a second loss from step 300 on", second_loss, 0.6),
        plan("three classes first, then ten", net.mlp, adam(), at_step=three_first, steps=800, right=("overfitting",)),
        Plan("labels by a teacher in each step", taught, 0.6),
        Plan("a language model tuned gently", gently, 0.3),
    ]


def gan(seen: Seen, seed: int, way: str, sigmoid: bool = False) -> float:
    """Points on a circle. Score: how near the radii of what is made are to 1, 1 − mean |r − 1|."""
    both = net.Twins(sigmoid)
    makes, tells = Adam(both.make.parameters(), 1e-3, (0.5, 0.9)), Adam(both.tell.parameters(), 1e-3, (0.5, 0.9))
    if way == "two":
        seen.watch(both.make, makes)
        seen.watch(both.tell, tells)
    else:
        seen.watch(both, makes, tells)

    def cost(outputs: Tensor, truth: float) -> Tensor:
        goal = torch.full_like(outputs, truth)
        return F.binary_cross_entropy(outputs, goal) if sigmoid else BCE(outputs, goal)

    for _ in range(1500):
        angle = 2 * math.pi * torch.rand(64)
        real = torch.stack([angle.cos(), angle.sin()], 1)
        fake = both.make(torch.randn(64, 4))
        tells.zero_grad()
        told = cost(both.tell(real), 1.0) + cost(both.tell(fake.detach()), 0.0)
        told.backward()
        tells.step()
        if way == "turn":
            seen.step(told)
        makes.zero_grad()
        made = cost(both.tell(fake), 1.0)
        made.backward()
        makes.step()
        seen.step(made)
        if way == "two":
            seen.step(told, 1)
    seen.close()
    with torch.no_grad():
        return 1 - float((both.make(torch.randn(500, 4)).norm(dim=1) - 1).abs().mean())


def variational(seen: Seen, seed: int) -> float:
    """The weight of the divergence rises from 0: so does the loss, though the network learns."""
    model = net.Variational()
    optimizer = Adam(model.parameters(), 2e-3)
    data, source = flat(), shuffled(flat(), 64, seed)
    seen.watch(model, optimizer)
    for step in range(1000):
        x, _ = next(source)
        made, mean, log_variance = model(x)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        loss = F.mse_loss(made, x) + min(1.0, step / 500) * 0.2 * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.step(loss)
    seen.close()
    with torch.no_grad():
        return float(1 - F.mse_loss(model(data.x)[0], data.x) / data.x.var())


def policy(seen: Seen, seed: int) -> float:
    """REINFORCE on a bandit with ten arms that the input names: the loss has any sign and does not fall."""
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = Adam(model.parameters(), 3e-3)
    seen.watch(model, optimizer)
    won = 0.0
    for _ in range(1500):
        state = torch.randint(10, (32,))
        choice = torch.distributions.Categorical(logits=model(F.one_hot(state, 10).float()))
        action = choice.sample()
        reward = (action == (state + 3) % 10).float()
        loss = -(choice.log_prob(action) * (reward - won)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        won = 0.95 * won + 0.05 * float(reward.mean())
        seen.step(loss)
    seen.close()
    return won


def three_first(step: int, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A curriculum: the loss leaps up when the other classes come."""
    keep = (y < 3) if step < 400 else (y >= 0)
    return x[keep], y[keep]


def second_loss(seen: Seen, seed: int) -> float:
    """A second term with a large weight comes in late: the loss leaps far above its first value, and the network learns both."""
    model = net.mlp()
    optimizer = Adam(model.parameters(), 1e-3)
    steps = 0

    def act(step: int, x: Tensor, y: Tensor) -> None:
        nonlocal steps
        steps += 1
        outputs = model(x)
        loss = F.cross_entropy(outputs, y) + (steps > 300) * 60 * (outputs.logsumexp(1) - 5).square().mean().sqrt()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.step(loss)

    return stepped(seen, seed, model, optimizer, act, steps=800)


def taught(seen: Seen, seed: int) -> float:
    """The network's own guesses on other images are labels: a pass without gradients in each step, in training mode."""
    model = net.mlp(dropout=0.2)
    optimizer = Adam(model.parameters(), 1e-3)
    others = shuffled(flat(), 64, seed + 1)
    right = []

    def act(step: int, x: Tensor, y: Tensor) -> None:
        other = next(others)[0]
        with torch.no_grad():
            guess = model(other).softmax(1)
        loss = F.cross_entropy(model(x), y) + 0.1 * F.cross_entropy(model(other), guess)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.step(loss)
        right.append(1.0)
        if len(right) % 50 == 0:
            seen.epoch(val_loss=float(loss))

    return stepped(seen, seed, model, optimizer, act)


def gently(seen: Seen, seed: int) -> float:
    """Trained already, and now with a rate a hundred times lower: the loss falls by a few hundredths."""
    model = net.Writer("gru")
    accuracy = 0.0
    for rate, steps in ((3e-3, 300), (3e-5, 500)):
        optimizer = AdamW(model.parameters(), rate)
        if rate < 1e-3:
            seen.watch(model, optimizer)
        for _, (x, y) in zip(range(steps), lines(seed=seed)):
            outputs = model(x)
            loss = F.cross_entropy(outputs.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if rate < 1e-3:
                seen.step(loss)
            accuracy = 0.95 * accuracy + 0.05 * float((outputs.argmax(-1) == y).float().mean())
    seen.close()
    return accuracy


def differences(seen: Seen, seed: int, found: int = 0) -> float:
    """Q-learning on a corridor of 12 places with the reward at its end: values, and the loss with them, rise from 0. found: the
    step from which the reward is found at all."""
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer, gamma = Adam(model.parameters(), 2e-3), 0.95
    seen.watch(model, optimizer)
    for step in range(1500 + found):
        place, action = torch.randint(11, (32,)), torch.randint(2, (32,))
        after = (place + 2 * action - 1).clamp(min=0)
        ends = after == 11
        with torch.no_grad():
            goal = 10.0 * (step >= found) * ends + gamma * model(F.one_hot(after, 12).float()).max(1).values * ~ends
        now = model(F.one_hot(place, 12).float()).gather(1, action[:, None])[:, 0]
        loss = F.mse_loss(now, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.step(loss)
    seen.close()
    with torch.no_grad():
        values = model(torch.eye(12)[:11]).max(1).values
    truth = 10 * gamma ** torch.arange(10, -1, -1)
    return float(1 - (values - truth).square().mean() / truth.var())


def contrastive(seen: Seen, seed: int) -> float:
    """Two noisy views of an image are to be found among those of others; the loss is a negative cosine in part."""
    model = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = Adam(model.parameters(), 2e-3)
    source = shuffled(flat(), 64, seed)
    seen.watch(model, optimizer)
    share = 0.0
    for _ in range(500):
        x, _ = next(source)
        a, b = (F.normalize(model(x + 0.5 * torch.randn_like(x)), dim=1) for _ in range(2))
        likeness = a @ b.T / 0.2
        loss = F.cross_entropy(likeness, torch.arange(64)) - likeness.diagonal().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.step(loss)
        share = 0.9 * share + 0.1 * float((likeness.argmax(1) == torch.arange(64)).float().mean())
    seen.close()
    return share


def healthy() -> list[Plan]:
    found = [*perceptrons(), *schedules(), *images(), *sequences(), *regressions(), *on_purpose(), *unusual()]
    assert len({one.name for one in found}) == len(found)
    return found


__all__ = ["Plan", "adam", "adamw", "healthy", "in_order", "plan", "replace", "sgd", "stepped", "tuned", "warmup"]
