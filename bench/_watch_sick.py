"""Trainings with a known fault, by kinds, with the causes that name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop, lr_scheduler

import _watch_nets as net
from _watch_healthy import Make, adam, adamw, sgd, tuned
from _watch_loop import EVERY, Habits, Loss, Seen, Set, fashion, fit, flat, friedman, rows
from runtrue import nets


@dataclass(frozen=True)
class Sick:
    """causes: those that are right. begins: the step from which it is sick. where: what the place or the origin has to hold."""

    kind: str
    name: str
    train: Callable[[Seen, int], float]
    causes: tuple[str, ...]
    begins: int = 0
    where: str = ""
    every: int = EVERY

    @property
    def noted(self) -> bool:
        """A note is all that can be said: without knowing what the task allows, a low accuracy may be the best there is."""
        return self.kind in ("underfits", "nothing to learn")


HIGH, LOW = ("learning-rate-too-high", "diverging", "exploding-gradient", "dead-units"), ("learning-rate-too-low",)
NOT_OPTIMIZED, EVALUATION = ("parameters-not-optimized",), ("eval-mode-while-training",)
EARLY = ("step-before-backward",)


def sick(
    kind: str, name: str, causes: tuple[str, ...], model: Callable[[], nn.Module], make: Make,
    data: Callable[[], Set] = flat, loss: Loss = F.cross_entropy, begins: int = 0, where: str = "", **habits: Any,
) -> Sick:  # fmt: skip
    def train(seen: Seen, seed: int) -> float:
        network = model()
        return fit(seen, network, make(network), data(), Habits(seed=seed, **habits), loss)

    return Sick(kind, name, train, causes, begins, where)


def bn() -> nn.Module:
    return net.cnn(norm=True)


def rates() -> list[Sick]:
    high, low = partial(sick, "rate too high", causes=HIGH), partial(sick, "rate too low", causes=LOW)
    return [
        high(name="mlp, SGD 30", model=net.mlp, make=sgd(30.0)),
        high(name="mlp, momentum, rate 5", model=net.mlp, make=sgd(5.0, 0.9)),
        high(name="mlp, Adam 1", model=net.mlp, make=adam(1.0)),
        high(name="mlp, Adam 0.3", model=net.mlp, make=adam(0.3)),
        high(name="mlp, RMSprop 1", model=net.mlp, make=lambda m: RMSprop(m.parameters(), 1.0)),
        high(name="cnn, SGD 3", model=net.cnn, make=sgd(3.0), data=fashion),
        high(name="cnn, AdamW 0.3", model=net.cnn, make=adamw(0.3), data=fashion),
        high(name="regression, SGD 2", model=net.regressor, make=sgd(2.0), data=friedman, loss=F.mse_loss),
        high(name="regression, Adam 3", model=net.regressor, make=adam(3.0), data=friedman, loss=F.mse_loss),
        high(name="transformer, Adam 0.3", model=net.Attends, make=adam(0.3), data=rows),
        high(name="LSTM, SGD 100", model=net.Reader, make=sgd(100.0), data=rows),
        low(name="mlp, SGD 1e-7", model=net.mlp, make=sgd(1e-7), steps=1200),
        low(name="mlp, SGD 1e-5", model=net.mlp, make=sgd(1e-5), steps=1200),
        low(name="mlp, Adam 1e-8", model=net.mlp, make=adam(1e-8), steps=1200),
        low(name="mlp, Adam 1e-7", model=net.mlp, make=adam(1e-7), steps=1200),
        low(name="cnn, SGD 1e-6", model=net.cnn, make=sgd(1e-6), data=fashion, steps=600),
        low(name="GRU, Adam 1e-7", model=lambda: net.Reader("gru"), make=adam(1e-7), data=rows, steps=1200),
        low(name="regression, SGD 1e-6", model=net.regressor, make=sgd(1e-6), data=friedman, loss=F.mse_loss,
             steps=1200),
    ]  # fmt: skip


def wiring() -> list[Sick]:
    stale = partial(sick, "zero_grad forgotten", causes=("gradients-not-cleared",), clears=False)
    return [
        stale(name="mlp, SGD", model=net.mlp, make=sgd(0.05)),
        stale(name="cnn, Adam", model=net.cnn, make=adam(), data=fashion),
        stale(name="LSTM, momentum", model=net.Reader, make=sgd(0.05, 0.9), data=rows),
        stale(name="regression, Adam", model=net.regressor, make=adam(), data=friedman, loss=F.mse_loss),
        stale(name="mlp, accumulated", model=net.mlp, make=sgd(0.02), accumulate=2),
        sick("evaluation mode, after validation", "cnn, BatchNorm", EVALUATION, bn, sgd(0.05, 0.9), fashion,
             begins=46, mode="forgotten"),
        sick("evaluation mode, after validation", "mlp, dropout", EVALUATION, lambda: net.mlp(dropout=0.3), adam(),
             begins=46, mode="forgotten"),
        sick("evaluation mode, after validation", "transformer, dropout", EVALUATION,
             lambda: net.Attends(dropout=0.1), adam(), rows, begins=46, mode="forgotten"),
        sick("evaluation mode, after validation", "not told", EVALUATION, bn, sgd(0.05, 0.9), fashion, begins=46,
             mode="forgotten", told=False),
        sick("evaluation mode from the start", "cnn, BatchNorm", EVALUATION, bn, sgd(0.05, 0.9), fashion,
             mode="evaluation"),
        sick("evaluation mode from the start", "mlp, dropout", EVALUATION, lambda: net.mlp(dropout=0.3), adam(),
             mode="evaluation"),
        sick("evaluated in training mode", "cnn, BatchNorm", ("train-mode-while-evaluating",), bn, adam(), fashion,
             evaluates_in="training"),
        sick("evaluated in training mode", "mlp, dropout", ("train-mode-while-evaluating",),
             lambda: net.mlp(dropout=0.3), adam(), evaluates_in="training"),
        sick("evaluated in training mode", "resnet-8", ("train-mode-while-evaluating",), net.resnet, sgd(0.1),
             fashion, evaluates_in="training", steps=200, batch=32, per_epoch=40),
        Sick("another network's optimizer", "mlp", other_optimizer, NOT_OPTIMIZED),
        Sick("another network's optimizer", "cnn, layers exchanged", exchanged, NOT_OPTIMIZED),
        Sick("part not in the optimizer", "mlp, first layer", partial(part_held, leaves="linear1"), NOT_OPTIMIZED,
             where="linear1"),
        Sick("part not in the optimizer", "mlp, head", partial(part_held, leaves="head"), NOT_OPTIMIZED, where="head"),
        Sick("part not in the optimizer", "head exchanged late", new_head, NOT_OPTIMIZED, where="head"),
        sick("frozen norms that move", "fine-tuned head", ("parameters-frozen",), lambda: tuned("body"), adam(),
             fashion, where="norm"),
        sick("frozen norms that move", "norms alone frozen", ("parameters-frozen",), norms_frozen, adam(), fashion,
             where="norm"),
        sick("step before backward", "cleared, stepped, then backward", EARLY, net.mlp, sgd(0.05), order="clear, step, backward"),
        sick("step before backward", "cleared between", EARLY, net.mlp, adam(), order="clear between"),
        Sick("step before backward", "of the batch before", stepped_first, EARLY),
        sick("scheduler by batch", "StepLR 10", LOW, net.mlp, sgd(0.05, 0.9), steps=1400,
             schedule=lambda o: lr_scheduler.StepLR(o, 10)),
        sick("scheduler by batch", "ExponentialLR 0.9", LOW, net.mlp, sgd(0.05), steps=1400,
             schedule=lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        sick("scheduler by batch", "StepLR 10, cnn, not told", LOW, net.cnn, adam(), fashion, steps=700, told=False,
             schedule=lambda o: lr_scheduler.StepLR(o, 10)),
        sick("same batch", "first of the loader", ("repeated-examples",), net.mlp, adam(), batches="first again",
             steps=400),
        sick("same batch", "cnn", ("repeated-examples",), net.cnn, adam(), fashion, batches="first again", steps=200),
    ]  # fmt: skip


def norms_frozen() -> nn.Module:
    network = tuned("")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("norm" not in name)
    return network


def fitted(seen: Seen, seed: int, model: nn.Module, optimizer: Optimizer, data: Set, steps: int = 400) -> float:
    return fit(seen, model, optimizer, data, Habits(seed=seed, steps=steps))


def other_optimizer(seen: Seen, seed: int) -> float:
    return fitted(seen, seed, net.mlp(), Adam(net.mlp().parameters()), flat())


def exchanged(seen: Seen, seed: int) -> float:
    model = net.cnn()
    optimizer = Adam(model.parameters())
    model.load_state_dict(net.cnn().state_dict(), assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_()
    return fitted(seen, seed, model, optimizer, fashion())


def part_held(seen: Seen, seed: int, leaves: str) -> float:
    model = net.mlp()
    return fitted(seen, seed, model, SGD([p for n, p in model.named_parameters() if leaves not in n], 0.1), flat())


def new_head(seen: Seen, seed: int) -> float:
    """The head was exchanged behind the optimizer's back."""
    model = net.cnn()
    optimizer = Adam(model.parameters())
    assert isinstance(model.head, nn.Linear)
    model.head = nn.Linear(model.head.in_features, 10)
    return fitted(seen, seed, model, optimizer, fashion())


def stepped_first(seen: Seen, seed: int) -> float:
    """Forward, step, clear, backward: each step uses the gradient of the batch before. Torch refuses it for more layers."""
    model = nn.Linear(196, 10)
    return fit(seen, model, SGD(model.parameters(), 0.05), flat(), Habits(seed=seed, order="step first"))


def armed(step: int, model: nn.Module, x: Tensor, y: Tensor, at: int) -> tuple[Tensor, Tensor]:
    assert isinstance(model, net.Undone)
    model.middle.armed = step >= at
    return x, y


def spoiled(step: int, model: nn.Module, x: Tensor, y: Tensor, at: int, value: float) -> tuple[Tensor, Tensor]:
    if step == at:
        x = x.clone()
        x.view(-1)[5] = value
    return x, y


def corrupted(step: int, model: nn.Module, x: Tensor, y: Tensor, at: int, times: float) -> tuple[Tensor, Tensor]:
    return (x * times, y) if step == at else (x, y)


def unrelated(step: int, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, torch.randint(10, y.shape)


def lost_numbers() -> list[Sick]:
    nan = ("diverging", "non-finite-data")
    return [
        *(
            sick("no number, in the network", fault, nan, partial(net.Undone, fault), sgd(0.05),
                 at_step=partial(armed, at=100), steps=200, begins=100, where="middle")
            for fault in ("log", "division", "sqrt", "power")
        ),
        sick("no number, in the network", "log in the loss", nan, net.mlp, sgd(0.05), loss=LateLog(), begins=100, steps=200,
             where="loss"),
        sick("no number, in the data", "NaN, mlp", nan, net.mlp, sgd(0.05), at_step=partial(spoiled, at=120,
             value=float("nan")), steps=250, begins=120, where="inputs"),
        sick("no number, in the data", "infinity, cnn", nan, net.cnn, adam(), fashion, at_step=partial(spoiled,
             at=80, value=float("inf")), steps=200, begins=80, where="inputs"),
        sick("no number, in the data", "NaN, LSTM", nan, net.Reader, adam(), rows, at_step=partial(spoiled, at=60,
             value=float("nan")), steps=200, begins=60, where="inputs"),
    ]  # fmt: skip


class LateLog:
    """Softmax and logarithm by hand; from the 100th call on, of inputs so large that probabilities become 0."""

    calls = 0

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        self.calls += outputs.requires_grad
        scale = 1000 if self.calls > 100 else 1
        return -torch.log(F.softmax(outputs * scale, 1).gather(1, y[:, None])).mean()


def dead() -> nn.Module:
    """The biases of the second layer are far below 0."""
    network = net.mlp(64, 64)
    assert isinstance(network.linear2, nn.Linear)
    nn.init.constant_(network.linear2.bias, -30.0)
    return network


def dead_cnn() -> nn.Module:
    network = net.cnn()
    assert isinstance(network.conv2, nn.Conv2d) and network.conv2.bias is not None
    nn.init.constant_(network.conv2.bias, -30.0)
    return network


def wide_tanh() -> nn.Module:
    network = net.mlp(*[64] * 6, activation="tanh")
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0.0, 5.0)
    return network


class Exploding(net.Reader):
    """A recurrent network without a bound whose state grows by a third in each of 60 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(14, 48, nonlinearity="relu", batch_first=True)
        weight = self.cell.weight_hh_l0
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            weight.copy_(1.35 * torch.eye(48) + 0.02 * torch.randn(48, 48))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.repeat(1, 4, 1))


def zeros() -> nn.Module:
    network = net.mlp()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def network_faults() -> list[Sick]:
    stands = ("plateau", "vanishing-gradient", "dead-units", "saturating-activation", "underfitting")
    return [
        sick("dead ReLUs", "bias −30, mlp", ("dead-units",), dead, sgd(0.05)),
        sick("dead ReLUs", "bias −30, cnn", ("dead-units",), dead_cnn, adam(), fashion),
        sick("dead ReLUs", "killed by the rate", ("dead-units", "learning-rate-too-high"), lambda: net.mlp(64, 64,
             64), sgd(20.0), steps=400),
        sick("vanishing gradient", "10 sigmoids, SGD", ("vanishing-gradient",), lambda: net.mlp(*[64] * 10,
             activation="sigmoid"), sgd(0.1), steps=400),
        sick("vanishing gradient", "15 sigmoids, momentum", ("vanishing-gradient",), lambda: net.mlp(*[32] * 15,
             activation="sigmoid"), sgd(0.05, 0.9), steps=400),
        sick("vanishing gradient", "25 ReLUs, plain weights", ("vanishing-gradient", "plateau"),
             lambda: net.mlp(*[32] * 25), sgd(0.1), steps=1200),
        sick("saturated", "tanh, weights of 5", ("saturating-activation", "exploding-gradient"), wide_tanh,
             sgd(0.01), steps=400),
        sick("exploding gradient", "ReLU RNN, SGD", ("exploding-gradient", "diverging", "learning-rate-too-high"),
             Exploding, sgd(0.01), rows, steps=300),
        sick("exploding gradient", "ReLU RNN, Adam", ("exploding-gradient", "diverging", "learning-rate-too-high"),
             Exploding, adam(1e-2), rows, steps=300),
        sick("nothing to learn", "labels by chance", stands, net.mlp, adam(), at_step=unrelated, steps=1500),
        sick("nothing to learn", "weights of 0", stands, zeros, sgd(0.1), steps=1500),
        sick("nothing to learn", "hidden layers of one unit", stands, lambda: net.mlp(1, 1, 1), adam(), steps=1800),
        sick("underfits", "one unit, cnn-like", ("underfitting", "plateau"), lambda: net.mlp(1), adam(3e-3),
             steps=1400),
        sick("underfits", "decay of 0.5", ("underfitting", "plateau"), lambda: net.mlp(64, 64), sgd(0.05, 0.0, 0.3),
             steps=1400),
    ]  # fmt: skip


def curves() -> list[Sick]:
    spike = ("loss-spike",)
    return [
        sick("oscillates", "regression, full batch", ("oscillating", "learning-rate-too-high", "diverging"),
             lambda: nn.Linear(10, 1), overshoot(1.0), lambda: friedman().first(500), F.mse_loss, batch=500, steps=500),
        sick("oscillates", "linear, 20 features", ("oscillating", "learning-rate-too-high", "diverging"),
             lambda: nets.mlp((10, 64, 1), activation="tanh"), overshoot(1.05), lambda: friedman().first(500),
             F.mse_loss, batch=500, steps=500),
        sick("spike", "one batch 100 times too large", spike, net.mlp, sgd(0.02), at_step=partial(corrupted, at=500,
             times=30.0), steps=900, begins=500),
        sick("spike", "cnn", spike, net.cnn, adam(), fashion, at_step=partial(corrupted, at=300, times=100.0),
             steps=600, begins=300),
        sick("spike", "regression", spike, net.regressor, adam(3e-3), friedman, F.mse_loss,
             at_step=partial(corrupted, at=600, times=20.0), steps=900, begins=600),
        sick("overfits", "100 images, mlp", ("overfitting",), lambda: net.mlp(256, 256), adam(),
             lambda: flat().first(100), batch=20, steps=600, per_epoch=20),
        sick("overfits", "labels by chance, learned by heart", ("overfitting",), lambda: net.mlp(512, 512), adam(),
             by_heart, steps=1500, per_epoch=50),
        sick("overfits", "100 numbers", ("overfitting",), lambda: net.regressor(128, 128), adam(3e-3),
             lambda: friedman().first(100), F.mse_loss, batch=20, steps=1000, per_epoch=20),
        Sick("diverges late", "rate raised at 600", partial(raised, to=30.0), ("diverging", "learning-rate-too-high"), 600),
        Sick("diverges late", "rate raised at 600, Adam", partial(raised, to=1.0, make=adam()),
             ("diverging", "learning-rate-too-high"), 600),
        Sick("diverges late", "rate grows by 2 % a step", grows, ("diverging", "learning-rate-too-high"), 300),
    ]  # fmt: skip


def by_heart() -> Set:
    data = flat().first(400)
    return data._replace(y=torch.randint(10, data.y.shape, generator=torch.Generator().manual_seed(3)))


def overshoot(times: float) -> Make:
    """The rate at which the steepest direction neither shrinks nor grows at a linear network's optimum: 2 / the largest
    eigenvalue of the Hessian of the mean squared error, 2 E[x xᵀ]."""
    x = friedman().first(500).x
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    return sgd(times / float(torch.linalg.eigvalsh(x.T @ x / len(x)).max()))


def raised(seen: Seen, seed: int, to: float, make: Make = sgd(0.05)) -> float:  # noqa: B008 a function, never changed
    model = net.mlp()
    optimizer = make(model)

    def rate(step: int, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if step == 600:
            optimizer.param_groups[0]["lr"] = to
        return x, y

    return fit(seen, model, optimizer, flat(), Habits(seed=seed, steps=1000, at_step=rate))


def grows(seen: Seen, seed: int) -> float:
    return fit(
        seen, model := net.mlp(), SGD(model.parameters(), 0.05), flat(),
        Habits(seed=seed, steps=900, schedule=lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.02 ** max(0, step - 300))),
    )  # fmt: skip


def sick_runs() -> list[Sick]:
    return [*rates(), *wiring(), *lost_numbers(), *network_faults(), *curves()]
