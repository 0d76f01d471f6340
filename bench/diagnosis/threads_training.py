"""Failures from threads: the optimizer and its rate, and what keeps it from reaching the parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop
from torch.utils.data import DataLoader, TensorDataset

from diagnosis import metrics
from diagnosis.data import circles, clothes, digits, progression, spirals, table
from diagnosis.parts import Arm, Case, Kit, labelled, register, tensor
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES)


@case("Stack Overflow: loss decreases, but very slowly (DeepFD)", "learning-rate-too-low")
def a_rate_of_one_in_a_hundred_thousand(sick: bool, kit: Kit) -> Arm:
    """SGD at 1e-5 for ten epochs."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    return labelled(model, digits(), SGD(model.parameters(), 1e-5 if sick else 0.1), 10)


@case("Stack Overflow: Adadelta does nothing (0.001 in tf.keras, 1.0 in the paper)", "learning-rate-too-low")
def adadelta_at_a_thousandth(sick: bool, kit: Kit) -> Arm:
    """Adadelta finds its own scale and wants a rate of 1; one library's default is a thousandth of it."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    return labelled(model, digits(), Adadelta(model.parameters(), 1e-3 if sick else 1.0), 8)


@case("Stack Overflow: Adagrad stops learning", "learning-rate-too-low")
def adagrad_at_a_ten_thousandth(sick: bool, kit: Kit) -> Arm:
    """Adagrad's steps only shrink; at 1e-4 they are too small from the beginning."""
    model = kit.mlp([13, 32, 3], ["relu", ""])
    return labelled(model, table("wine"), Adagrad(model.parameters(), 1e-4 if sick else 0.05), 30)


@case("PyTorch forum: fitting a sine (Stack Overflow, DeepLocalize)", "learning-rate-too-low")
def a_sine_by_gradient_descent(sick: bool, kit: Kit) -> Arm:
    """sin(x) over two periods by plain SGD at 0.001: after all epochs it is a sloping line."""
    x = torch.linspace(-2 * torch.pi, 2 * torch.pi, 256)[:, None]
    model = kit.mlp([1, 64, 64, 1], ["tanh", "tanh", ""])
    optimizer: Optimizer = SGD(model.parameters(), 1e-3) if sick else Adam(model.parameters(), 1e-2)
    task = Task(model, (x, x.sin()), loss=F.mse_loss, optimizer=optimizer, epochs=150)
    return Arm(task, metrics.r2)


@case("Stack Overflow: all the data in one batch", "learning-rate-too-low")
def one_step_an_epoch(sick: bool, kit: Kit) -> Arm:
    """The whole set is one batch: ten epochs are ten steps, and the rate was chosen for hundreds."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    return labelled(model, digits(), SGD(model.parameters(), 0.05), 10, 1797 if sick else 16)


@case("PyTorch forum: dividing by the size of the data set", "learning-rate-too-low")
def loss_divided_by_the_data_set(sick: bool, kit: Kit) -> Arm:
    """The mean over the batch is divided once more by the 1,000 images of the set."""
    model = kit.mlp([784, 64, 10], ["relu", ""])

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(outputs, labels)
        return value / 1000 if sick else value

    optimizer = SGD(model.parameters(), 0.05, momentum=0.5)
    return Arm(Task(model, clothes(1000), loss=loss, optimizer=optimizer, epochs=10), metrics.accuracy)


@case("AutoTrainer's slow convergence", "learning-rate-too-low")
def adam_at_a_millionth(sick: bool, kit: Kit) -> Arm:
    """Adam at 1e-6: no weight moves by more than 0.0004 in the whole plan."""
    layers = [
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 169, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    ]
    model = kit.started(nn.Sequential(*layers))
    return labelled(model, clothes(1000, flat=False), Adam(model.parameters(), 1e-6 if sick else 1e-3), 10)


@case("Stack Overflow: Adam(lr=1)", "learning-rate-too-high")
def adam_at_one(sick: bool, kit: Kit) -> Arm:
    """Every step of Adam is as long as its rate, and weights are a twentieth of 1."""
    model = kit.mlp([784, 64, 64, 10], ["relu", "relu", ""])
    return labelled(model, digits(), Adam(model.parameters(), 1.0 if sick else 1e-3), 8)


@case("Stack Overflow: momentum made it worse", "learning-rate-too-high")
def much_momentum_at_a_high_rate(sick: bool, kit: Kit) -> Arm:
    """A momentum of 0.99 multiplies a rate of 0.1 by a hundred."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    optimizer = SGD(model.parameters(), 0.1, momentum=0.99) if sick else SGD(model.parameters(), 0.05, momentum=0.9)
    return labelled(model, clothes(1000), optimizer, 8)


@case("Stack Overflow: RMSprop(lr=0.1) on a convolution network", "learning-rate-too-high", "dead-units")
def rmsprop_at_a_tenth(sick: bool, kit: Kit) -> Arm:
    """RMSprop's first steps are ten times its rate."""
    layers = [
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 169, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    ]
    model = kit.started(nn.Sequential(*layers))
    return labelled(model, clothes(1000, flat=False), RMSprop(model.parameters(), 0.1 if sick else 1e-3), 8)


@case("AutoTrainer's oscillating loss", "learning-rate-too-high")
def sgd_at_ten(sick: bool, kit: Kit) -> Arm:
    """SGD at 10 on a tanh network: the loss jumps about and never settles."""
    model = kit.mlp([784, 64, 10], ["tanh", ""])
    return labelled(model, digits(), SGD(model.parameters(), 10.0 if sick else 0.1), 10)


@case("TheDeepChecker: a regression that oscillates", "learning-rate-too-high")
def regression_at_half(sick: bool, kit: Kit) -> Arm:
    """Ten standardized columns, SGD at 0.5 with momentum."""
    model = kit.mlp([10, 32, 1], ["relu", ""])
    optimizer = SGD(model.parameters(), 0.5 if sick else 0.01, momentum=0.9)
    return Arm(Task(model, progression(), loss=F.mse_loss, optimizer=optimizer, epochs=80), metrics.r2)


class Listed(nn.Module):
    """Hidden layers in a plain list: they compute, and `parameters()` does not know them."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        hidden = [nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 8)]
        self.hidden: nn.ModuleList | list[nn.Linear] = nn.ModuleList(hidden) if registered else hidden
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:  # (B, 2) -> (B, 3)
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        scores: Tensor = self.head(x)
        return scores


@case("PyTorch forum: layers in a list (Defect4ML)", "parameters-not-optimized")
def layers_in_a_plain_list(sick: bool, kit: Kit) -> Arm:
    """The hidden layers stand in a Python list instead of an nn.ModuleList: only the head is trained."""
    model = Listed(registered=not sick)
    return labelled(model, spirals(kit.rng), Adam(model.parameters(), 1e-2), 120)


@case("PyTorch forum: the model was changed after the optimizer (TrainCheck)", "parameters-not-optimized")
def optimizer_of_the_old_model(sick: bool, kit: Kit) -> Arm:
    """The model is built anew once the optimizer has been made: the optimizer trains what nobody uses."""
    old = kit.mlp([784, 64, 10], ["relu", ""])
    model = kit.mlp([784, 64, 10], ["relu", ""])
    return labelled(model, digits(), SGD((old if sick else model).parameters(), 0.1), 8)


@case("PyTorch forum: a new head, and the optimizer knows the old one (TrainCheck)", "parameters-not-optimized")
def head_replaced_after_the_optimizer(sick: bool, kit: Kit) -> Arm:
    """`model.fc = nn.Linear(…)` after the optimizer was built; the body is narrow and starts from scratch."""
    model = kit.mlp([2, 32, 2, 2], ["relu", "tanh", ""])
    before = Adam(model.parameters(), 1e-2)
    model[4] = nn.Linear(2, 2)
    nn.init.normal_(model.get_parameter("4.weight"), 0, 0.01)
    for parameter in list(model.parameters())[:-2]:
        parameter.requires_grad_(not sick)
    return labelled(model, circles(kit.rng), before if sick else Adam(model.parameters(), 1e-2), 60)


@case("PyTorch forum: optimizer for the last layer only", "parameters-not-optimized")
def only_the_last_layer(sick: bool, kit: Kit) -> Arm:
    """`Adam(model.fc.parameters())`, copied from a tutorial on fine-tuning, on a network that was never trained."""
    model = kit.mlp([784, 16, 8, 10], ["tanh", "tanh", ""])
    held = model[4].parameters() if sick else model.parameters()
    return labelled(model, clothes(1000), Adam(held, 2e-3), 12)


@case("PyTorch forum: element 0 of tensors does not require grad", "parameters-frozen")
def everything_frozen(sick: bool, kit: Kit) -> Arm:
    """All parameters are frozen, the head with them: backward has nothing to go through."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    model.requires_grad_(not sick)
    return labelled(model, digits(), SGD(model.parameters(), 0.1), 8)


@case("PyTorch forum: fine-tuning without the pretrained weights", "parameters-frozen")
def frozen_body_from_scratch(sick: bool, kit: Kit) -> Arm:
    """The body is frozen as if it were pretrained, and its weights are random."""
    model = kit.mlp([2, 6, 6, 3], ["tanh", "tanh", ""])
    for parameter in list(model.parameters())[:4]:
        parameter.requires_grad_(not sick)
    return labelled(model, spirals(kit.rng), Adam(model.parameters(), 1e-2), 150)


class NoGradientBody(nn.Module):
    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cut = cut
        self.body = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # (B, 2) -> (B, 3)
        with torch.set_grad_enabled(not self.cut and torch.is_grad_enabled()):
            features = self.body(x)
        scores: Tensor = self.head(features)
        return scores


@case("PyTorch forum: torch.no_grad around the encoder", "graph-detached")
def encoder_without_gradient(sick: bool, kit: Kit) -> Arm:
    """`torch.no_grad()` stands around the encoder, which is new as well."""
    model = NoGradientBody(cut=sick)
    return labelled(model, spirals(kit.rng), Adam(model.parameters(), 1e-2), 120)


class Rewrapped(nn.Module):
    def __init__(self, rewraps: bool) -> None:
        super().__init__()
        self.rewraps = rewraps
        self.first, self.second, self.head = nn.Linear(2, 8), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, 2) -> (B, 2)
        hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
        if self.rewraps:
            hidden = torch.tensor(hidden.tolist())
        scores: Tensor = self.head(hidden)
        return scores


@case("PyTorch forum: a tensor made of a list", "graph-detached")
def hidden_values_through_a_list(sick: bool, kit: Kit) -> Arm:
    """`torch.tensor(hidden.tolist())` in the middle of forward: what stands before is never trained."""
    model = Rewrapped(rewraps=sick)
    return labelled(model, circles(kit.rng), Adam(model.parameters(), 3e-3), 60)


@case("PyTorch forum: Variable(loss.data, requires_grad=True)", "graph-detached")
def loss_that_is_a_new_leaf(sick: bool, kit: Kit) -> Arm:
    """The error message asked for requires_grad, so it was set: on a copy of the loss that knows no parameter."""
    model = kit.mlp([13, 16, 3], ["relu", ""])

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(outputs, labels)
        return value.detach().clone().requires_grad_(True) if sick else value

    task = Task(model, table("wine"), loss=loss, optimizer=Adam(model.parameters(), 5e-3), epochs=30)
    return Arm(task, metrics.accuracy)


@case("PyTorch forum: loss on argmax", "graph-detached", "wrong-loss")
def loss_on_the_predicted_class(sick: bool, kit: Kit) -> Arm:
    """The loss compares `argmax`, which has no gradient, with the label; requires_grad was set to silence the error."""
    model = kit.mlp([784, 64, 10], ["relu", ""])

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        if not sick:
            return F.cross_entropy(outputs, labels)
        return F.mse_loss(outputs.argmax(1).float().requires_grad_(True), labels.float())

    loader = DataLoader(TensorDataset(*digits()), batch_size=32, shuffle=True)
    task = Task(model, loader, loss=loss, optimizer=Adam(model.parameters(), 1e-3), epochs=6)
    return Arm(task, metrics.accuracy, digits())


@case("Stack Overflow: linear regression gives NaN", "learning-rate-too-high", "inputs-not-scaled")
def line_through_years_of_experience(sick: bool, kit: Kit) -> Arm:
    """Salaries in thousands over 0 to 40 years, one linear unit, a rate of 0.01: twice the largest that is stable."""
    years = kit.rng.uniform(0, 40, (120, 1))
    salary = 30 + 2.5 * years + 4 * kit.rng.randn(120, 1)
    model = kit.mlp([1, 1], [""])
    optimizer = SGD(model.parameters(), 0.01 if sick else 1e-3)
    task = Task(model, (tensor(years), tensor(salary)), loss=F.mse_loss, optimizer=optimizer, epochs=200)
    return Arm(task, metrics.r2)


@case("Stack Overflow: rate meant for Adam given to SGD", "learning-rate-too-low")
def adams_rate_for_sgd(sick: bool, kit: Kit) -> Arm:
    """The optimizer was exchanged, the rate of 1e-3 was not."""
    model = kit.mlp([784, 128, 64, 10], ["relu", "relu", ""])
    optimizer: Optimizer = SGD(model.parameters(), 1e-3) if sick else Adam(model.parameters(), 1e-3)
    return labelled(model, digits(), optimizer, 10)


@case("PyTorch forum: the rate decays to nothing", "learning-rate-too-low")
def sgd_on_a_deep_narrow_network(sick: bool, kit: Kit) -> Arm:
    """A scheduler has brought the rate to 1e-7 before the training that is meant to count begins."""
    model = kit.mlp([30, 16, 2], ["tanh", ""])
    inputs, labels = table("breast_cancer")
    optimizer = SGD(model.parameters(), 1e-7 if sick else 0.05, momentum=0.9)
    return labelled(model, (inputs, labels), optimizer, 20)
