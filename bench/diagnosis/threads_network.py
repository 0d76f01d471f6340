"""Failures from threads: the network, its initial weights, its normalization and its regularization."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam

from diagnosis import metrics
from diagnosis.data import blobs, circles, clothes, digits, progression, spirals, table, tumours
from diagnosis.parts import Arm, Case, Kit, labelled, register, tensor
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES)


@case("Stack Overflow: can two neurons learn a circle? (DeepFD's layer faults)", "too-little-capacity")
def a_ring_by_one_unit(sick: bool, kit: Kit) -> Arm:
    """A ring around a disc cannot be cut off by the one straight line that one hidden unit draws."""
    model = kit.mlp([2, 1 if sick else 16, 2], ["relu", ""])
    return labelled(model, circles(kit.rng), Adam(model.parameters(), 1e-2), 60)


@case("Defect4ML's kind: a bottleneck in the middle", "too-little-capacity")
def a_bottleneck_of_one(sick: bool, kit: Kit) -> Arm:
    """Ten digits have to pass through a layer of one tanh unit."""
    model = kit.mlp([784, 64, 1 if sick else 32, 10], ["relu", "tanh", ""])
    return labelled(model, digits(), Adam(model.parameters(), 1e-3), 10)


@case("CS231n's spiral by a linear classifier; UMLAUT", "missing-nonlinearity")
def a_spiral_by_linear_layers(sick: bool, kit: Kit) -> Arm:
    """Three linear layers with nothing between them are one linear layer."""
    middle = "" if sick else "relu"
    model = kit.mlp([2, 64, 64, 3], [middle, middle, ""])
    return labelled(model, spirals(kit.rng), Adam(model.parameters(), 5e-3), 80)


@case("Stack Overflow: fitting a parabola gives a line", "missing-nonlinearity")
def a_parabola_by_linear_layers(sick: bool, kit: Kit) -> Arm:
    """y = x² by two linear layers: a horizontal line."""
    x = torch.linspace(-1, 1, 300)[:, None]
    y = 3 * x**2 + tensor(0.1 * kit.rng.randn(300, 1))
    model = kit.mlp([1, 32, 1], ["" if sick else "relu", ""])
    task = Task(model, (x, y), loss=F.mse_loss, optimizer=Adam(model.parameters(), 1e-2), epochs=60)
    return Arm(task, metrics.r2)


@case("AutoTrainer's vanishing gradients", "vanishing-gradient", "saturating-activation")
def ten_sigmoid_layers(sick: bool, kit: Kit) -> Arm:
    """Each of ten sigmoid layers passes at most a quarter of the gradient back."""
    hidden = "sigmoid" if sick else "relu"
    model = kit.mlp([784, *[64] * 8, 10], [*[hidden] * 8, ""], None if sick else "he")
    return labelled(model, digits(), Adam(model.parameters(), 1e-3), 10)


@case("Stack Overflow: deep tanh network outputs the mean (AutoTrainer)", "init-too-large", "saturating-activation")
def tanh_saturated_from_the_start(sick: bool, kit: Kit) -> Arm:
    """Weights N(0, 1) into layers of 256 tanh units: all of them stand at −1 or 1."""
    fill = "standard normal" if sick else "keras"
    model = kit.mlp([784, 256, 256, 256, 10], ["tanh", "tanh", "tanh", ""], fill)
    return labelled(model, digits(), SGD(model.parameters(), 0.01), 12)


@case(
    "Stack Overflow: initialising with tf.random_normal's default",
    "init-too-large",
    "exploding-gradient",
    "learning-rate-too-high",
)
def unit_normal_weights(sick: bool, kit: Kit) -> Arm:
    """The default standard deviation of 1 for weights and biases: the loss starts in the thousands."""
    model = kit.mlp([784, 256, 128, 10], ["relu", "relu", ""], "all standard normal" if sick else None)
    return labelled(model, digits(), SGD(model.parameters(), 0.05), 10)


@case("Stack Overflow: why are all my outputs the same?", "init-symmetric")
def zero_weights(sick: bool, kit: Kit) -> Arm:
    """All weights zero under ReLU units: no gradient but that of the last bias."""
    model = kit.mlp([13, 16, 3], ["relu", ""], "zeros" if sick else None)
    return labelled(model, table("wine"), Adam(model.parameters(), 5e-3), 40)


@case("Stack Overflow: weights initialised with ones", "init-symmetric", "init-too-large")
def weights_of_one(sick: bool, kit: Kit) -> Arm:
    """All weights are 1: every unit of a layer computes the same."""
    model = kit.mlp([784, 64, 64, 10], ["tanh", "tanh", ""])
    if sick:
        for layer in model.children():
            if isinstance(layer, nn.Linear):
                nn.init.ones_(layer.weight)
    return labelled(model, digits(), SGD(model.parameters(), 0.1), 10)


@case("Stack Overflow: np.random.rand for weights", "init-too-large", "dead-units", "exploding-gradient")
def positive_weights(sick: bool, kit: Kit) -> Arm:
    """`rand` gives 0 … 1 where 0 on average is needed: the sums grow a hundredfold from layer to layer."""
    model = kit.mlp([784, 100, 100, 10], ["relu", "relu", ""], "positive" if sick else None)
    return labelled(model, digits(), SGD(model.parameters(), 0.05), 10)


@case(
    "weights of 0.01 · randn, as older tutorials have them",
    "init-too-small",
    "vanishing-gradient",
    "learning-rate-too-low",
)
def a_hundredth_of_normal(sick: bool, kit: Kit) -> Arm:
    """Eight ReLU layers that start at N(0, 0.01²): nothing comes out at the end, and nothing comes back."""
    model = kit.mlp([784, *[100] * 7, 10], [*["relu"] * 7, ""], "he")
    if sick:
        for layer in model.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
    return labelled(model, digits(), SGD(model.parameters(), 0.05, momentum=0.9), 10)


@case("AutoTrainer's dying ReLU (Circle)", "dead-units", "learning-rate-too-high")
def relu_killed_by_the_first_steps(sick: bool, kit: Kit) -> Arm:
    """Adam at 0.5 drives the biases of a narrow ReLU network so low that no unit answers any more."""
    model = kit.mlp([2, 12, 12, 12, 2], ["relu", "relu", "relu", ""])
    return labelled(model, circles(kit.rng), Adam(model.parameters(), 0.5 if sick else 0.005), 60)


@case("Stack Overflow: dropout of 0.9 (UMLAUT, DeepFD)", "dropout-too-strong")
def nine_of_ten_dropped(sick: bool, kit: Kit) -> Arm:
    """`Dropout(0.9)` behind each of three narrow layers: taken for the share that is kept."""
    model = kit.mlp([784, 32, 32, 32, 10], ["relu", "relu", "relu", ""], dropout=0.9 if sick else 0.1)
    return labelled(model, digits(), Adam(model.parameters(), 1e-3), 15)


@case("PyTorch forum: dropout on the inputs of a small table", "dropout-too-strong")
def dropped_inputs(sick: bool, kit: Kit) -> Arm:
    """Dropout 0.95 in front of the first layer: a row of ten columns loses all but one of them."""
    model = nn.Sequential(nn.Dropout(0.95 if sick else 0.0), kit.mlp([10, 32, 1], ["relu", ""]))
    task = Task(model, progression(), loss=F.mse_loss, optimizer=Adam(model.parameters(), 5e-3), epochs=60)
    return Arm(task, metrics.r2)


@case("Stack Overflow: weight_decay=1", "regularization-too-strong")
def decay_of_one(sick: bool, kit: Kit) -> Arm:
    """SGD with a weight decay of 1 pulls every weight to zero faster than the data can push."""
    model = kit.mlp([784, 64, 10], ["relu", ""])
    optimizer = SGD(model.parameters(), 0.05, weight_decay=1.0 if sick else 1e-4)
    return labelled(model, digits(), optimizer, 12)


@case("PyTorch forum: positional arguments of SGD", "regularization-too-strong")
def momentum_given_as_decay(sick: bool, kit: Kit) -> Arm:
    """0.9 was meant for the momentum and landed in the weight decay."""
    model = kit.mlp([784, 64, 64, 10], ["relu", "relu", ""])
    momentum, decay = (0.0, 0.9) if sick else (0.9, 0.0)
    optimizer = SGD(model.parameters(), 0.01, momentum=momentum, weight_decay=decay)
    return labelled(model, clothes(1000), optimizer, 10)


@case("Stack Overflow: kernel_regularizer=l1(0.1)", "regularization-too-strong")
def absolute_penalty(sick: bool, kit: Kit) -> Arm:
    """A tenth of the sum of all |w| is added to the loss: the data's part is the smaller one, and the weights go to zero."""
    model = kit.mlp([30, 16, 1], ["relu", ""])
    strength = 0.1 if sick else 1e-5

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        penalty = torch.stack([p.abs().sum() for p in model.parameters()]).sum()
        return F.binary_cross_entropy_with_logits(outputs, targets) + strength * penalty

    task = Task(model, tumours(), loss=loss, optimizer=Adam(model.parameters(), 2e-3), epochs=40)
    return Arm(task, metrics.logit)


@case("TheDeepChecker's regularization faults", "regularization-too-strong")
def squared_penalty_on_a_regression(sick: bool, kit: Kit) -> Arm:
    """The sum of squares of all weights is added with a factor of 1 instead of 1e-4."""
    model = kit.mlp([10, 32, 1], ["tanh", ""])
    strength = 1.0 if sick else 1e-4

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
        return F.mse_loss(outputs, targets) + strength * torch.stack([w.square().sum() for w in weights]).sum()

    task = Task(model, progression(), loss=loss, optimizer=Adam(model.parameters(), 5e-3), epochs=80)
    return Arm(task, metrics.r2)


def normalized(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


@case("PyTorch forum: BatchNorm with batch size 2", "batch-too-small-for-norm")
def pairs_through_batch_norm(sick: bool, kit: Kit) -> Arm:
    """Batches of two examples: whatever a unit computes, normalization makes 1 and −1 of it."""
    model = kit.started(normalized([784, 64, 64, 64, 10]))
    return labelled(model, clothes(500), SGD(model.parameters(), 0.01, momentum=0.9), 4, 2 if sick else 32)


@case("PyTorch forum: BatchNorm as the last layer", "batch-too-small-for-norm", "output-activation-mismatch")
def batch_norm_on_the_outputs(sick: bool, kit: Kit) -> Arm:
    """A regression on pairs of examples ends with a batch normalization: in training it can only say 1 and −1."""
    layers = [nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1), nn.BatchNorm1d(1)]
    model = kit.started(nn.Sequential(*(layers if sick else layers[:-1])))
    batch = 2 if sick else 32
    task = Task(
        model, progression(), loss=F.mse_loss, optimizer=Adam(model.parameters(), 5e-3), epochs=40, batch_size=batch
    )
    return Arm(task, metrics.r2)


@case(
    "Stack Overflow: softmax in a hidden layer (DeepFD)",
    "saturating-activation",
    "vanishing-gradient",
    "learning-rate-too-low",
)
def softmax_in_the_middle(sick: bool, kit: Kit) -> Arm:
    """A hidden layer of 128 units shares one unit of output among them: 0.008 for each."""
    hidden = "softmax" if sick else "relu"
    model = kit.mlp([784, 128, 64, 10], [hidden, hidden, ""])
    return labelled(model, digits(), SGD(model.parameters(), 0.1), 10)


@case("AutoTrainer's exploding gradients (Blob)", "exploding-gradient", "init-too-large", "learning-rate-too-high")
def wide_uniform_weights(sick: bool, kit: Kit) -> Arm:
    """Uniform weights of −1 … 1 in a deep ReLU network: the gradient grows threefold a layer."""
    model = kit.mlp([2, *[32] * 6, 3], [*["relu"] * 6, ""], "he")
    if sick:
        for layer in model.children():
            if isinstance(layer, nn.Linear):
                nn.init.uniform_(layer.weight, -1, 1)
    return labelled(model, blobs(kit.rng), SGD(model.parameters(), 0.01), 30)


@case(
    "a vanilla RNN over a long sequence, PyTorch forum", "vanishing-gradient", "saturating-activation", "init-too-small"
)
def remembering_the_first_number(sick: bool, kit: Kit) -> Arm:
    """The sign of the first of thirty numbers is asked at the end: a vanilla RNN with small weights has forgotten it."""
    sequences = tensor(kit.rng.randn(600, 30, 1))
    labels = (sequences[:, 0, 0] > 0).long()
    model = Recurrent()
    recurrent = model.rnn.get_parameter("weight_hh_l0")
    nn.init.orthogonal_(recurrent, 0.2 if sick else 1.0)
    return labelled(model, (sequences, labels), Adam(model.parameters(), 3e-3), 15)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(1, 32, batch_first=True), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 1) -> (B, 2)
        scores: Tensor = self.head(self.rnn(x)[0][:, -1])
        return scores


@case("Stack Overflow: PReLU and biases of −10", "dead-units")
def biases_far_below_zero(sick: bool, kit: Kit) -> Arm:
    """Biases were meant to start at −0.1 and start at −10: no ReLU of the layer answers to any image."""
    model = kit.mlp([784, 64, 64, 10], ["relu", "relu", ""])
    nn.init.constant_(model.get_parameter("2.bias"), -10.0 if sick else -0.1)
    return labelled(model, digits(), SGD(model.parameters(), 0.05), 12)


@case("CS231n's deep plain network", "init-too-small", "vanishing-gradient")
def deep_relu_with_torchs_default(sick: bool, kit: Kit) -> Arm:
    """Sixteen ReLU layers with the default weights, 0.58 / sqrt(fan_in), hand on next to nothing. He's weights carry it."""
    fill = None if sick else "he"
    model = kit.mlp([784, *[64] * 16, 10], [*["relu"] * 16, ""], fill)
    return labelled(model, digits(), SGD(model.parameters(), 0.005, momentum=0.9), 15)
