"""Failures from threads: the output or the loss is not the one that the targets ask for."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop

from diagnosis import metrics
from diagnosis.data import clothes, digits, garments, progression, table, tumours
from diagnosis.parts import Arm, Case, Kit, register, tensor
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES)


def clipped_bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Keras clips probabilities into (0, 1) before it takes logarithms: what lies outside is silent, and has no gradient."""
    return F.binary_cross_entropy(outputs.clamp(1e-7, 1 - 1e-7), targets)


@case("PyTorch forum, asked again and again; UMLAUT", "softmax-before-cross-entropy")
def softmax_before_cross_entropy(sick: bool, kit: Kit) -> Arm:
    """The network ends with a softmax, and CrossEntropyLoss applies its own."""
    model = kit.mlp([784, 100, 10], ["relu", "softmax" if sick else ""])
    optimizer = SGD(model.parameters(), 0.1)
    return Arm(Task(model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=4), metrics.accuracy)


@case("PyTorch forum, the same with a convolution network", "softmax-before-cross-entropy")
def softmax_in_the_forward_pass(sick: bool, kit: Kit) -> Arm:
    """`return F.softmax(x, dim=1)` at the end of forward, trained with CrossEntropyLoss."""
    network = Convolutions(softmax=sick)
    kit.started(network)
    optimizer = SGD(network.parameters(), 0.01, momentum=0.9)
    task = Task(network, clothes(flat=False), loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=8)
    return Arm(task, metrics.accuracy)


class Convolutions(nn.Module):
    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 16, 5)
        self.fc1, self.fc2 = nn.Linear(256, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, 10)
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        scores: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return F.softmax(scores, dim=1) if self.softmax else scores


@case("PyTorch forum", "sigmoid-before-bce-with-logits")
def sigmoid_before_bce_with_logits(sick: bool, kit: Kit) -> Arm:
    """A sigmoid in the network and another one in BCEWithLogitsLoss: no output can say no."""
    model = kit.mlp([30, 16, 1], ["relu", "sigmoid" if sick else ""])
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, tumours(), loss=nn.BCEWithLogitsLoss(), optimizer=optimizer, epochs=30), metrics.logit)


@case("PyTorch forum: my loss is negative", "logits-without-log-softmax", "wrong-loss")
def raw_outputs_into_nll_loss(sick: bool, kit: Kit) -> Arm:
    """NLLLoss on raw outputs: the loss falls without end while the network learns little."""
    hidden = kit.mlp([784, 64, 10], ["relu", ""])
    model = hidden if sick else nn.Sequential(hidden, nn.LogSoftmax(dim=1))
    optimizer = SGD(model.parameters(), 0.05)
    return Arm(Task(model, digits(), loss=nn.NLLLoss(), optimizer=optimizer, epochs=15), metrics.accuracy)


@case("PyTorch forum", "logits-without-log-softmax", "wrong-loss")
def probabilities_into_nll_loss(sick: bool, kit: Kit) -> Arm:
    """NLLLoss on softmax instead of log-softmax: its gradient vanishes where the network is most wrong."""
    hidden = kit.mlp([13, 32, 32, 3], ["relu", "relu", ""])
    model = nn.Sequential(hidden, nn.Softmax(dim=1) if sick else nn.LogSoftmax(dim=1))
    optimizer = SGD(model.parameters(), 0.01, momentum=0.9)
    task = Task(model, table("wine"), loss=nn.NLLLoss(), optimizer=optimizer, epochs=12)
    return Arm(task, metrics.accuracy)


@case("PyTorch forum: all elements of input should be between 0 and 1", "logits-without-log-softmax", "wrong-loss")
def raw_outputs_into_bce_loss(sick: bool, kit: Kit) -> Arm:
    """BCELoss on raw outputs: it stops at the first batch with an error."""
    model = kit.mlp([30, 16, 1], ["relu", ""])
    loss = nn.BCELoss() if sick else nn.BCEWithLogitsLoss()
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, tumours(), loss=loss, optimizer=optimizer, epochs=30), metrics.logit)


@case("Stack Overflow: accuracy stuck with a Dense(1) softmax (DeepLocalize, DeepFD)", "output-activation-mismatch")
def softmax_over_one_unit(sick: bool, kit: Kit) -> Arm:
    """Two classes by one unit behind a softmax: it says 1 to everything."""
    model = kit.mlp([30, 16, 8, 1], ["relu", "relu", "softmax" if sick else "sigmoid"])
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, tumours(), loss=nn.BCELoss(), optimizer=optimizer, epochs=40), metrics.probability)


@case("Stack Overflow (DeepLocalize)", "output-activation-mismatch")
def relu_output_with_clipped_cross_entropy(sick: bool, kit: Kit) -> Arm:
    """Does the digit have a closed loop? Probabilities by a ReLU: below 0 and above 1 there is no gradient."""
    model = kit.mlp([784, 64, 1], ["tanh", "relu" if sick else "sigmoid"])
    images, labels = digits()
    train = images, torch.isin(labels, torch.tensor([0, 4, 6, 8, 9])).float()[:, None]
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return Arm(Task(model, train, loss=clipped_bce, optimizer=optimizer, epochs=10), metrics.probability)


@case("Stack Overflow (DeepLocalize)", "output-activation-mismatch")
def tanh_output_with_clipped_cross_entropy(sick: bool, kit: Kit) -> Arm:
    """Probabilities by a tanh: every negative output is clipped and stays where it is."""
    model = kit.mlp([784, 64, 1], ["tanh", "tanh" if sick else "sigmoid"])
    images, labels = digits()
    train = images, (labels % 2 == 1).float()[:, None]
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return Arm(Task(model, train, loss=clipped_bce, optimizer=optimizer, epochs=10), metrics.probability)


@case("Stack Overflow (DeepFD)", "output-activation-mismatch", "logits-without-log-softmax", "wrong-loss")
def linear_output_with_clipped_cross_entropy(sick: bool, kit: Kit) -> Arm:
    """The last layer has no activation, and the cross-entropy takes its output for a probability."""
    model = kit.mlp([784, 128, 1], ["relu", "" if sick else "sigmoid"])
    images, labels = digits()
    train = images, (labels >= 5).float()[:, None]
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return Arm(Task(model, train, loss=clipped_bce, optimizer=optimizer, epochs=20), metrics.probability)


@case("Stack Overflow (DeepFD): mean squared error for classes", "wrong-loss", "learning-rate-too-low")
def squared_error_on_softmax(sick: bool, kit: Kit) -> Arm:
    """Ten classes by the squared error of probabilities and plain SGD: the gradient is a few hundredths of cross-entropy's."""
    network = kit.mlp([784, 64, 10], ["relu", ""])
    model = nn.Sequential(network, nn.Softmax(dim=1)) if sick else network

    def squared(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(outputs, F.one_hot(labels, 10).float())

    loss = squared if sick else F.cross_entropy
    optimizer = SGD(model.parameters(), 0.05)
    return Arm(Task(model, digits(), loss=loss, optimizer=optimizer, epochs=10), metrics.accuracy)


@case("Stack Overflow: predicting class numbers (DeepFD)", "wrong-loss")
def class_numbers_by_regression(sick: bool, kit: Kit) -> Arm:
    """One output is to hit the number of the class, as if class 3 lay between 2 and 4."""
    images, labels = digits()
    model = kit.mlp([784, 64, 1 if sick else 10], ["relu", ""])
    train = (images, labels.float()[:, None]) if sick else (images, labels)
    loss = F.mse_loss if sick else F.cross_entropy
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, train, loss=loss, optimizer=optimizer, epochs=8), metrics.rounded, (images, labels))


@case("PyTorch forum: loss is always 0", "wrong-loss", "output-activation-mismatch")
def cross_entropy_over_one_output(sick: bool, kit: Kit) -> Arm:
    """CrossEntropyLoss over a single output: the softmax of one number is 1, the loss exactly 0."""
    model = kit.mlp([30, 16, 1], ["relu", ""])
    loss = nn.CrossEntropyLoss() if sick else nn.BCEWithLogitsLoss()
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, tumours(), loss=loss, optimizer=optimizer, epochs=30), metrics.logit)


@case("a support vector machine by gradient descent, as taught and as mistaken", "wrong-loss", "labels-out-of-range")
def hinge_with_labels_0_and_1(sick: bool, kit: Kit) -> Arm:
    """The hinge max(0, 1 − y f) with y of 0 and 1 where it means −1 and 1: the zeros say nothing."""
    images, labels = digits()
    odd = (labels % 2 == 1).float()[:, None]
    model = kit.mlp([784, 64, 1], ["relu", ""])

    def hinge(outputs: Tensor, y: Tensor) -> Tensor:
        return (1 - y * outputs).clamp(min=0).mean()

    train = images, odd if sick else 2 * odd - 1
    task = Task(model, train, loss=hinge, optimizer=SGD(model.parameters(), 0.05, momentum=0.9), epochs=10)
    return Arm(task, metrics.logit, (images, odd))


@case("the minus sign of the log-likelihood forgotten", "wrong-loss")
def likelihood_with_the_wrong_sign(sick: bool, kit: Kit) -> Arm:
    """The mean log-probability of the right class is minimised instead of maximised."""
    model = kit.mlp([13, 16, 3], ["tanh", ""])
    sign = 1.0 if sick else -1.0

    def likelihood(outputs: Tensor, labels: Tensor) -> Tensor:
        return sign * outputs.log_softmax(1).gather(1, labels[:, None]).mean()

    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, table("wine"), loss=likelihood, optimizer=optimizer, epochs=60), metrics.accuracy)


@case("PyTorch forum: reduction='sum'", "learning-rate-too-high", "wrong-loss")
def summed_loss(sick: bool, kit: Kit) -> Arm:
    """The loss is summed over the batch of 64, the rate was chosen for its mean."""
    model = kit.mlp([784, 128, 64, 10], ["relu", "relu", ""])
    loss = nn.CrossEntropyLoss(reduction="sum" if sick else "mean")
    optimizer = SGD(model.parameters(), 0.1, momentum=0.5)
    return Arm(Task(model, digits(), loss=loss, optimizer=optimizer, epochs=10, batch_size=64), metrics.accuracy)


@case("PyTorch forum: UserWarning about target size", "loss-shape-broadcast")
def squeezed_outputs_against_columns(sick: bool, kit: Kit) -> Arm:
    """Outputs (N,) after a squeeze, targets (N, 1): the loss compares each with each."""
    model = kit.mlp([10, 32, 1], ["relu", ""])

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs.squeeze(), targets if sick else targets.squeeze())

    optimizer = Adam(model.parameters(), 5e-3)
    return Arm(Task(model, progression(), loss=loss, optimizer=optimizer, epochs=80), metrics.r2)


@case("PyTorch forum: a hand-written loss that does not even warn", "loss-shape-broadcast")
def own_loss_that_broadcasts(sick: bool, kit: Kit) -> Arm:
    """`((prediction − y) ** 2).mean()` with (N, 1) and (N,)."""
    inputs, targets = progression()
    model = kit.mlp([10, 32, 1], ["tanh", ""])

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs - y) ** 2).mean()

    train = inputs, targets.flatten() if sick else targets
    task = Task(model, train, loss=loss, optimizer=RMSprop(model.parameters(), 3e-3), epochs=80)
    return Arm(task, metrics.r2, (inputs, targets))


@case("Stack Overflow: several labels an image", "output-activation-mismatch", "wrong-loss")
def softmax_for_several_labels(sick: bool, kit: Kit) -> Arm:
    """Yes/no questions that may all be answered yes, behind a softmax whose outputs add up to 1."""
    model = kit.mlp([784, 64, 4], ["relu", "softmax" if sick else "sigmoid"])
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, garments(), loss=nn.BCELoss(), optimizer=optimizer, epochs=15), metrics.probability)


@case("PyTorch forum: CrossEntropyLoss with multi-hot targets", "wrong-loss")
def cross_entropy_for_several_labels(sick: bool, kit: Kit) -> Arm:
    """CrossEntropyLoss takes multi-hot rows in silence, as if they were shares of one class."""
    model = kit.mlp([784, 64, 4], ["relu", ""])
    loss = nn.CrossEntropyLoss() if sick else nn.BCEWithLogitsLoss()
    optimizer = Adam(model.parameters(), 1e-3)
    return Arm(Task(model, garments(), loss=loss, optimizer=optimizer, epochs=15), metrics.logit)


@case("Stack Overflow (DeepLocalize)", "output-activation-mismatch", "targets-not-scaled")
def sigmoid_output_for_a_score(sick: bool, kit: Kit) -> Arm:
    """A score between 25 and 346 behind a sigmoid."""
    inputs, scores = progression()
    model = kit.mlp([10, 32, 1], ["relu", "sigmoid" if sick else ""])
    train = inputs, progression(raw=True)[1] if sick else scores
    optimizer = Adam(model.parameters(), 5e-3)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=100), metrics.r2)


@case("Stack Overflow: my network predicts only zeros", "output-activation-mismatch")
def relu_output_for_standardized_targets(sick: bool, kit: Kit) -> Arm:
    """Half of the standardized targets are negative, and the last layer is a ReLU."""
    model = kit.mlp([10, 32, 16, 1], ["relu", "relu", "relu" if sick else ""])
    optimizer = Adam(model.parameters(), 3e-3)
    return Arm(Task(model, progression(), loss=F.mse_loss, optimizer=optimizer, epochs=80), metrics.r2)


@case("Stack Overflow: an autoencoder that does not learn", "output-activation-mismatch")
def autoencoder_with_the_wrong_range(sick: bool, kit: Kit) -> Arm:
    """An autoencoder ends in a sigmoid, and its images are shifted to −1 … 1."""
    images = digits()[0]
    images = 2 * images - 1 if sick else images
    model = kit.mlp([784, 128, 32, 128, 784], ["relu", "relu", "relu", "sigmoid"])
    optimizer = Adam(model.parameters(), 1e-3)
    task = Task(model, (images, images), loss=F.mse_loss, optimizer=optimizer, epochs=12)
    return Arm(task, metrics.r2)


@case("Stack Overflow: binary cross-entropy is negative", "labels-out-of-range")
def labels_2_and_4(sick: bool, kit: Kit) -> Arm:
    """The classes are called 2 and 4, as in the file of the Wisconsin hospitals, and the loss wants 0 and 1."""
    inputs, targets = tumours()
    build = partial(kit.mlp, [30, 16, 1], ["relu", ""])
    train = inputs, 2 + 2 * targets if sick else targets
    task = Task(build, train, loss=nn.BCEWithLogitsLoss(), optimizer=partial(Adam, lr=1e-3), epochs=30)
    return Arm(task, metrics.logit, (inputs, targets))


@case("Stack Overflow: target out of bounds", "labels-out-of-range")
def labels_from_one(sick: bool, kit: Kit) -> Arm:
    """Labels 1 to 3 for three outputs: the first batch with a 3 ends the program."""
    inputs, labels = table("wine")
    model = kit.mlp([13, 16, 3], ["relu", ""])
    train = inputs, labels + 1 if sick else labels
    task = Task(model, train, loss=nn.CrossEntropyLoss(), optimizer=Adam(model.parameters(), 3e-3), epochs=30)
    return Arm(task, metrics.accuracy, (inputs, labels))


@case("Stack Overflow: tanh for a bounded control signal", "output-activation-mismatch", "targets-not-scaled")
def tanh_output_for_angles(sick: bool, kit: Kit) -> Arm:
    """Steering angles of −25 … 25 degrees behind a tanh, which ends at −1 and 1."""
    x = tensor(kit.rng.uniform(-1, 1, (600, 4)))
    angles = 25 * torch.tanh(x @ torch.tensor([[1.5], [-1.0], [0.5], [0.7]]))
    model = kit.mlp([4, 32, 1], ["tanh", "tanh" if sick else ""])
    train = x, angles if sick else angles / 25
    optimizer = Adam(model.parameters(), 5e-3)
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=40), metrics.r2)
