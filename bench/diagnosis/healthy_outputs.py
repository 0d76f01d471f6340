"""Unusual but sound: outputs and losses that fit each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from diagnosis import metrics
from diagnosis.data import clothes, digits, garments, progression, tumours
from diagnosis.metrics import Metric
from diagnosis.parts import Arm, Case, Kit, register, tensor
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES)


@case("the sigmoid fits the targets")
def autoencoder_with_sigmoid(sick: bool, kit: Kit) -> Arm:
    """Pixels 0 … 1 behind a sigmoid by the squared error."""
    images, _ = digits()
    model = kit.mlp([784, 128, 32, 128, 784], ["relu", "relu", "relu", "sigmoid"])
    task = Task(model, (images, images), loss=F.mse_loss, optimizer=Adam(model.parameters(), 2e-3), epochs=12)
    return Arm(task, metrics.r2)


@case("the Brier score")
def squared_error_of_a_probability(sick: bool, kit: Kit) -> Arm:
    """Yes or no by a sigmoid and the squared error."""
    model = kit.mlp([30, 16, 1], ["relu", "sigmoid"])
    task = Task(model, tumours(), loss=nn.MSELoss(), optimizer=Adam(model.parameters(), 2e-3), epochs=40)
    return Arm(task, metrics.probability)


@case("the ReLU fits the targets")
def relu_for_brightness(sick: bool, kit: Kit) -> Arm:
    """Targets that are never negative behind a ReLU."""
    images, _ = digits()
    bright = torch.stack([images[:, :392].mean(1), images[:, 392:].mean(1)], 1)
    model = kit.mlp([784, 64, 2], ["relu", "relu"])
    nn.init.constant_(model.get_parameter("2.bias"), 0.3)
    task = Task(
        model, (images, bright / bright.std()), loss=nn.MSELoss(), optimizer=Adam(model.parameters(), 1e-3), epochs=10
    )
    return Arm(task, metrics.r2_by_column)


@case("counts by a log-linear model")
def counts_by_poisson(sick: bool, kit: Kit) -> Arm:
    """PoissonNLLLoss on the number of dark pixels of a digit: outputs are logarithms."""
    images, _ = digits()
    counts = (images > 0.5).float().sum(1, keepdim=True) / 25
    model = nn.Sequential(kit.mlp([784, 64, 1], ["relu", ""]))
    task = Task(model, (images, counts), loss=nn.PoissonNLLLoss(), optimizer=Adam(model.parameters(), 5e-3), epochs=30)

    def r2_of_rates(outputs: Tensor, targets: Tensor) -> float:
        return metrics.r2.value(outputs.exp(), targets)

    return Arm(task, Metric("R² of the rates", r2_of_rates, lambda targets: 0.0))


@case("log-softmax and NLLLoss")
def log_softmax_and_nll(sick: bool, kit: Kit) -> Arm:
    """The pair that belongs together."""
    model = nn.Sequential(kit.mlp([784, 64, 10], ["relu", ""]), nn.LogSoftmax(dim=1))
    task = Task(model, digits(), loss=nn.NLLLoss(), optimizer=SGD(model.parameters(), 0.1), epochs=10)
    return Arm(task, metrics.accuracy)


@case("sigmoid and BCELoss")
def sigmoid_and_bce(sick: bool, kit: Kit) -> Arm:
    """Several labels by probabilities."""
    model = kit.mlp([784, 64, 4], ["relu", "sigmoid"])
    task = Task(model, garments(), loss=nn.BCELoss(), optimizer=Adam(model.parameters(), 1e-3), epochs=10)
    return Arm(task, metrics.probability)


@case("one-hot targets by the squared error, Adam")
def squared_error_on_one_hot(sick: bool, kit: Kit) -> Arm:
    """Least squares classification: not the usual loss, and it works."""
    model = kit.mlp([784, 64, 10], ["relu", ""])

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(outputs, F.one_hot(labels, 10).float())

    task = Task(model, digits(), loss=loss, optimizer=Adam(model.parameters(), 2e-3), epochs=10)
    return Arm(task, metrics.accuracy)


@case("tanh fits the targets")
def tanh_for_targets_within_one(sick: bool, kit: Kit) -> Arm:
    """Control signals between −0.9 and 0.9 behind a tanh."""
    x = tensor(kit.rng.uniform(-1, 1, (600, 4)))
    y = 0.9 * torch.sin(2 * x[:, :1] - x[:, 1:2])
    model = kit.mlp([4, 32, 1], ["tanh", "tanh"])
    task = Task(model, (x, y), loss=nn.MSELoss(), optimizer=Adam(model.parameters(), 5e-3), epochs=40)
    return Arm(task, metrics.r2)


@case("label smoothing")
def smoothed_labels(sick: bool, kit: Kit) -> Arm:
    """The loss cannot fall to 0, and need not."""
    model = kit.mlp([784, 100, 10], ["relu", ""])
    loss = nn.CrossEntropyLoss(label_smoothing=0.2)
    return Arm(
        Task(model, clothes(), loss=loss, optimizer=AdamW(model.parameters(), 1e-3), epochs=10), metrics.accuracy
    )


@case("class weights")
def weighted_classes(sick: bool, kit: Kit) -> Arm:
    """One class in ten counts nine times."""
    images, labels = digits()
    zero = (labels == 0).long()
    model = kit.mlp([784, 32, 2], ["relu", ""])
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))
    task = Task(model, (images, zero), loss=loss, optimizer=Adam(model.parameters(), 1e-3), epochs=6)
    return Arm(task, metrics.balanced)


@case("Huber's loss with outliers")
def outliers_by_huber(sick: bool, kit: Kit) -> Arm:
    """Two in a hundred targets are wild, and the loss is made for them. Judged on the true ones."""
    x = tensor(kit.rng.randn(500, 5))
    y = x @ tensor([[1.0], [-2.0], [0.5], [0.0], [1.0]]) + 0.3 * x[:, :1] ** 2
    y = (y - y.mean()) / y.std()
    wild = y.clone()
    wild[::50] += 30
    model = kit.mlp([5, 32, 1], ["relu", ""])
    task = Task(model, (x, wild), loss=nn.HuberLoss(), optimizer=Adam(model.parameters(), 5e-3), epochs=40)
    return Arm(task, metrics.r2, (x, y))


@case("the absolute error")
def absolute_error(sick: bool, kit: Kit) -> Arm:
    """Regression by L1Loss."""
    model = kit.mlp([10, 32, 1], ["relu", ""])
    task = Task(model, progression(), loss=nn.L1Loss(), optimizer=Adam(model.parameters(), 5e-3), epochs=80)
    return Arm(task, metrics.r2)


@case("the loss is a user's own function")
def own_quantile_loss(sick: bool, kit: Kit) -> Arm:
    """The pinball loss for the median."""
    x = tensor(kit.rng.uniform(-2, 2, (500, 1)))
    y = torch.sin(2 * x) + 0.1 * tensor(kit.rng.randn(500, 1))

    def pinball(outputs: Tensor, targets: Tensor) -> Tensor:
        off = targets - outputs
        return torch.maximum(0.5 * off, -0.5 * off).mean()

    model = kit.mlp([1, 64, 64, 1], ["tanh", "tanh", ""])
    task = Task(model, (x, y), loss=pinball, optimizer=Adam(model.parameters(), 5e-3), epochs=60)
    return Arm(task, metrics.r2)


@case("a margin loss")
def hinge_with_plus_and_minus_one(sick: bool, kit: Kit) -> Arm:
    """A linear support vector machine with labels −1 and 1."""
    inputs, targets = tumours()
    model = nn.Linear(30, 1)

    def hinge(outputs: Tensor, y: Tensor) -> Tensor:
        return (1 - y * outputs).clamp(min=0).mean() + 1e-3 * (model.weight**2).sum()

    task = Task(model, (inputs, 2 * targets - 1), loss=hinge, optimizer=SGD(model.parameters(), 0.05), epochs=30)
    return Arm(task, metrics.logit, (inputs, targets))


@case("the sum over the batch, with a rate that fits")
def summed_loss_with_a_small_rate(sick: bool, kit: Kit) -> Arm:
    """`reduction="sum"` at a rate of 0.002."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    loss = nn.CrossEntropyLoss(reduction="sum")
    return Arm(Task(model, digits(), loss=loss, optimizer=SGD(model.parameters(), 2e-3), epochs=8), metrics.accuracy)
