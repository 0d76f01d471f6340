"""The public cases: eighteen real trainings that failed, told on forums and in benchmarks of faults, and one control.

Each function is one program, told anew from its description: what the user had (`sick`), and the change that was seen to
cure it. The sources: SO is Stack Overflow, PTF the PyTorch forum, RU a forum in Russian; in brackets the benchmarks that hold the
case. The networks are small, so that every case trains within seconds.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from diagnosis import metrics
from diagnosis.data import digits, table
from diagnosis.parts import Arm, Case, Kit, labelled, register, standardized, tensor
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES, half="develop")  # public, hence to develop on

XOR = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
XOR_TARGETS = torch.tensor([[0.0], [1.0], [0.0], [1.0]])


@case("SO-31556268 (DeepLocalize, DeepFD)", "wrong-loss", "learning-rate-too-low")
def xor_with_mean_absolute_error(sick: bool, kit: Kit) -> Arm:
    """XOR by sigmoid units: the mean absolute error at a low rate, where cross-entropy and Adam learn it."""
    model = kit.mlp([2, 4, 1], ["sigmoid", "sigmoid"])
    slow = SGD(model.parameters(), 0.05, momentum=0.11, nesterov=True)
    optimizer: Optimizer = slow if sick else Adam(model.parameters(), 0.05)
    loss = F.l1_loss if sick else F.binary_cross_entropy
    task = Task(model, (XOR, XOR_TARGETS), loss=loss, optimizer=optimizer, epochs=1000, batch_size=4)
    return Arm(task, metrics.probability)


@case("SO-48251943 (DeepLocalize)", "output-activation-mismatch")
def relu_output_for_signed_targets(sick: bool, kit: Kit) -> Arm:
    """A ReLU behind the output, and half of the targets are negative."""
    points = kit.rng.uniform(-1, 2.7, (17, 2))
    plane = 1.2 * points[:, :1] - points[:, 1:] + 0.1 * kit.rng.randn(17, 1)
    model = kit.mlp([2, 4, 1], ["relu", "relu" if sick else ""])
    optimizer = SGD(model.parameters(), 0.01)
    train = tensor(points), tensor(plane)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=200, batch_size=10), metrics.r2)


@case("SO-33969059 (DeepLocalize)", "output-activation-mismatch", "inputs-not-scaled", "targets-not-scaled")
def softmax_over_one_unit_for_large_numbers(sick: bool, kit: Kit) -> Arm:
    """A sum of numbers up to 10,000, predicted by a softmax over one unit, whose only value is 1."""
    inputs = kit.rng.rand(4000, 3) * 1e4
    sums = inputs @ np.array([[2.0], [1.0], [0.5]]) + 2.2
    if sick:
        train = tensor(inputs), tensor(sums)
        model = kit.mlp([3, 3, 2, 1], ["tanh", "tanh", "softmax"], "narrow uniform", dropout=0.5)
    else:
        train = tensor(standardized(inputs)), tensor(standardized(sums))
        model = kit.mlp([3, 3, 2, 1], ["tanh", "tanh", ""])
    optimizer = SGD(model.parameters(), 0.1 if sick else 0.01, momentum=0.9, nesterov=True)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=20), metrics.r2)


@case(
    "SO-55328966 (DeepLocalize)",
    "inputs-not-scaled",
    "learning-rate-too-low",
    "output-activation-mismatch",
    "softmax-before-cross-entropy",
)
def raw_pixels_and_sigmoid_before_cross_entropy(sick: bool, kit: Kit) -> Arm:
    """Grey levels up to 255, a sigmoid in front of cross-entropy, and a rate of 1e-4: three faults in one program."""
    model = kit.mlp([784, 784, 50, 10], ["", "relu", "sigmoid" if sick else ""])
    optimizer: Optimizer = SGD(model.parameters(), 1e-4) if sick else Adam(model.parameters(), 1e-3)
    return labelled(model, digits(raw=sick), optimizer, 10)


@case("SO-39525358 (DeepLocalize)", "inputs-not-scaled", "learning-rate-too-low")
def inputs_around_67(sick: bool, kit: Kit) -> Arm:
    """Character codes 65 to 70 as they are; what tells the classes apart is a difference of 3 on top of 67."""
    high = kit.rng.rand(21) < 0.5
    codes = np.where(high[:, None], [68, 69, 70], [65, 66, 67]).astype(float)
    swapped = kit.rng.rand(21, 2) < 0.2
    codes[:, 1:] = np.where(swapped, np.where(high[:, None], [66, 67], [69, 70]), codes[:, 1:])
    model = kit.mlp([3, 12, 3, 1], ["relu", "relu", "sigmoid"], "narrow uniform")
    train = tensor(codes if sick else standardized(codes)), tensor(high[:, None])
    task = Task(
        model,
        train,
        loss=F.binary_cross_entropy,
        optimizer=Adam(model.parameters(), 1e-3),
        epochs=150,
        batch_size=1,
    )
    return Arm(task, metrics.probability)


@case("SO-48934338 (DeepLocalize)", "learning-rate-too-high", "targets-not-scaled")
def parabola_at_a_high_rate(sick: bool, kit: Kit) -> Arm:
    """5 x² for x up to 5, so targets up to 125, at a rate of 0.1: the first steps throw the network out."""
    x = np.arange(0, 5, 0.1)[:, None]
    train = tensor(x), tensor(5 * x**2 + kit.rng.randn(50, 1) ** 3)
    model = kit.mlp([1, 50, 30, 1], ["relu", "relu", ""])
    optimizer = SGD(model.parameters(), 0.1 if sick else 0.0003)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=1000), metrics.r2)


@case(
    "SO-59278771 (DeepLocalize, Defect4ML-099)",
    "output-activation-mismatch",
    "softmax-before-cross-entropy",
    "inputs-not-scaled",
    "init-too-small",
    "learning-rate-too-low",
    "too-little-capacity",
)
def iris_by_four_units_and_sigmoid(sick: bool, kit: Kit) -> Arm:
    """Iris as measured, four hidden units with narrow weights, and a sigmoid in front of cross-entropy."""
    narrow = ["relu", "sigmoid"], "narrow normal"
    model = kit.mlp([4, 4, 3], *narrow) if sick else kit.mlp([4, 8, 3], ["relu", ""])
    optimizer = Adam(model.parameters(), 1e-3)
    train = table("iris", raw=sick)
    return labelled(model, train, optimizer, 100, 5)


@case("SO-48221692 (DeepLocalize)", "output-activation-mismatch", "targets-not-scaled")
def sigmoid_output_for_a_parabola(sick: bool, kit: Kit) -> Arm:
    """x² + 3 for x up to 10 behind a sigmoid, which ends at 1."""
    x = kit.rng.uniform(-10, 10, (200, 1))
    model = kit.mlp([1, 5, 1], ["sigmoid", "sigmoid" if sick else ""])
    optimizer = SGD(model.parameters(), 0.01)
    train = tensor(x), tensor(x**2 + 3)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=1000, batch_size=200), metrics.r2)


@case("SO-47352366 (DeepLocalize)", "output-activation-mismatch", "inputs-not-scaled")
def relu_behind_the_logits(sick: bool, kit: Kit) -> Arm:
    """A convolution network on grey levels up to 255 whose class scores go through a ReLU."""
    layers = [
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10)),
    ]
    model = kit.started(nn.Sequential(*layers, nn.ReLU()) if sick else nn.Sequential(*layers))
    optimizer = Adam(model.parameters(), 1e-3)
    return labelled(model, digits(raw=sick), optimizer, 5, 50)


@case("SO-51181393 (DeepFD)", "learning-rate-too-low")
def a_line_that_needs_larger_steps(sick: bool, kit: Kit) -> Arm:
    """y = 5 x by one unit; RMSprop's default rate would need several times the epochs that were planned."""
    x = np.linspace(1, 2, 100)[:, None]
    model = kit.mlp([1, 1], [""])
    optimizer = RMSprop(model.parameters(), 1e-3 if sick else 0.1, alpha=0.9)
    train = tensor(x), tensor(5 * x)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=200), metrics.r2)


@case("FacialKeypointsDetection on GitHub (DeepLocalize)", "learning-rate-too-high")
def keypoints_by_adam_at_a_tenth(sick: bool, kit: Kit) -> Arm:
    """Thirty coordinates in (-1, 1) from an image by three linear layers, with Adam at a rate of 0.1."""
    images, _ = digits()
    coordinates = torch.tanh(images @ (torch.randn(784, 30) / 28))
    model = kit.mlp([784, 50, 100, 30], ["", "", ""])
    gentle = SGD(model.parameters(), 0.01, momentum=0.9)
    optimizer: Optimizer = Adam(model.parameters(), 0.1) if sick else gentle
    train = images, coordinates
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=10 if sick else 30), metrics.r2)


@case("SO-39939881 (TheDeepChecker IPS_5)", "learning-rate-too-high")
def a_line_that_diverges(sick: bool, kit: Kit) -> Arm:
    """Eight points on a line, x up to 8: at a rate of 0.1 every step overshoots by more than the last."""
    slope, height = kit.rng.uniform(-8, 8, 2)
    x = kit.rng.uniform(-8, 8, (8, 1))
    train = tensor(x), tensor(slope * x + height + kit.rng.uniform(-1, 1, (8, 1)))
    model = kit.mlp([1, 1], [""], "zeros")
    optimizer = SGD(model.parameters(), 0.1 if sick else 0.01)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=500, batch_size=8), metrics.r2)


def patients(kit: Kit) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], Tensor]:
    """(460, 9) columns like those of the South African heart disease set, each in its own unit; ill or not."""
    n, r = 460, kit.rng
    one = [r.normal(138, 20, n), r.gamma(1, 4, n), r.normal(4.7, 2, n), r.normal(25, 8, n), r.rand(n) < 0.4]
    more = [r.normal(53, 10, n), r.normal(26, 4, n), r.gamma(1, 17, n), r.uniform(15, 64, n)]
    columns = np.stack([*one, *more], 1)
    weights = np.array([0.2, 0.5, 0.6, 0.2, 0.7, 0.4, 0.1, 0.1, 0.9])
    risk = standardized(columns) @ weights + 0.3 * r.randn(n)
    return columns, torch.tensor(risk > np.quantile(risk, 0.65)).long()


@case(
    "SO-45002504 (TheDeepChecker IPS_13)",
    "regularization-too-strong",
    "learning-rate-too-high",
    "inputs-not-scaled",
)
def penalty_larger_than_the_loss(sick: bool, kit: Kit) -> Arm:
    """Nine medical columns in their own units, Adam at 0.5, and a penalty on the weights that outweighs the loss."""
    columns, ill = patients(kit)
    model = nn.Linear(9, 2)
    strength = 1.0 if sick else 1e-3

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels) + strength * 0.5 * (model.weight**2).sum()

    optimizer = Adam(model.parameters(), 0.5 if sick else 0.05)
    train = tensor(columns if sick else standardized(columns)), ill
    return Arm(Task(model, train, loss=loss, optimizer=optimizer, epochs=50), metrics.accuracy)


@case(
    "user study of UMLAUT, program A",
    "softmax-before-cross-entropy",
    "dropout-too-strong",
    "inputs-not-scaled",
    "output-activation-mismatch",
)
def raw_pixels_dropout_and_softmax(sick: bool, kit: Kit) -> Arm:
    """Grey levels up to 255, four of five units dropped, and a softmax in front of cross-entropy."""
    activations = ["relu", "relu", "softmax" if sick else ""]
    model = kit.mlp([784, 128, 128, 10], activations, dropout=0.8 if sick else 0.2)
    optimizer = Adam(model.parameters(), 1e-3)
    return labelled(model, digits(raw=sick), optimizer, 10)


class Backbone(nn.Module):
    """A convolution with batch normalization, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv2d(1, 16, 3, stride=2)
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)), convolution, nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(16 * 13 * 13, 10)

    def forward(self, images: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
        scores: Tensor = self.head(self.body(images))
        return scores


@case("PTF-84911 (TrainCheck)", "parameters-frozen", "parameters-not-optimized")
def head_frozen_with_the_body(sick: bool, kit: Kit) -> Arm:
    """The loop that freezes the body freezes the head too, and the optimizer holds nothing but the head."""
    model = Backbone()
    trained = ("body.2",) if sick else ("body.2", "head")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    optimizer = Adam(model.head.parameters(), 1e-3)
    return labelled(model, digits(), optimizer, 5)


@case("PTF-50431", "loss-shape-broadcast")
def column_against_row(sick: bool, kit: Kit) -> Arm:
    """Outputs (N, 1) against targets (N,): every prediction is compared with every target."""
    inputs = tensor(kit.rng.randn(500, 2))
    train = inputs, 5 * inputs[:, 0] + 3 * inputs[:, 1]
    model = nn.Linear(2, 1, bias=False)
    loss = F.mse_loss if sick else lambda outputs, targets: F.mse_loss(outputs.squeeze(1), targets)
    optimizer = RMSprop(model.parameters(), 0.01, alpha=0.9)
    return Arm(Task(model, train, loss=loss, optimizer=optimizer, epochs=60), metrics.r2)


@case("PTF-13287", "missing-nonlinearity")
def xor_by_linear_layers(sick: bool, kit: Kit) -> Arm:
    """XOR by two linear layers with nothing between them."""
    model = kit.mlp([2, 8, 1], ["" if sick else "tanh", "sigmoid"])
    optimizer = Adam(model.parameters(), 0.05)
    train, loss = (XOR, XOR_TARGETS), F.binary_cross_entropy
    return Arm(Task(model, train, loss=loss, optimizer=optimizer, epochs=500, batch_size=4), metrics.probability)


@case("RU-11818227", "init-symmetric")
def zero_weights_and_a_softmax_inside(sick: bool, kit: Kit) -> Arm:
    """All weights start at zero, behind a softmax as the hidden activation."""
    model = kit.mlp([784, 64, 10], ["softmax" if sick else "relu", ""], "zeros" if sick else None)
    optimizer = SGD(model.parameters(), 0.1)
    return labelled(model, digits(), optimizer, 10)


@case("SO-39810655 (DeepFD): the failure could not be brought about again")
def iris_control(sick: bool, kit: Kit) -> Arm:
    """Iris, standardized, one hidden layer: healthy in both arms."""
    model = kit.mlp([4, 16, 3], ["relu", ""])
    optimizer = Adam(model.parameters(), 0.01)
    return labelled(model, table("iris"), optimizer, 50, 5)
