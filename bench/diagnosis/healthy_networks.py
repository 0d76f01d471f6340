"""Unusual but sound: networks that a rule of thumb would accuse."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from diagnosis import metrics
from diagnosis.data import clothes, digits, table, tumours
from diagnosis.parts import Arm, Case, Kit, labelled, register, tensor
from runtrue import Task, nets

CASES: dict[str, Case] = {}
case = register(CASES)


def he(depth: int, width: int) -> nn.Sequential:
    """A deep ReLU perceptron with the weights of He et al. 2015."""
    model = nn.Sequential(nn.Flatten(), nets.mlp([784, *[width] * depth, 10]))
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


@case("no hidden layer")
def logistic_regression(sick: bool, kit: Kit) -> Arm:
    """One linear layer; the problem is linear, so nothing is missing."""
    model = nn.Linear(30, 1)
    task = Task(model, tumours(), loss=nn.BCEWithLogitsLoss(), optimizer=SGD(model.parameters(), 0.1), epochs=30)
    return Arm(task, metrics.logit)


@case("no hidden layer")
def linear_regression(sick: bool, kit: Kit) -> Arm:
    """A plane through noisy points."""
    x = tensor(kit.rng.randn(300, 6))
    y = x @ tensor([[1.0], [2.0], [-1.0], [0.5], [0.0], [0.3]]) + 0.3 * tensor(kit.rng.randn(300, 1))
    model = nn.Linear(6, 1)
    task = Task(model, (x, y), loss=nn.MSELoss(), optimizer=SGD(model.parameters(), 0.05), epochs=30)
    return Arm(task, metrics.r2)


@case("zero-initialised head")
def head_that_starts_at_zero(sick: bool, kit: Kit) -> Arm:
    """The last layer starts at zero, on top of features that differ: no symmetry."""
    model = kit.mlp([784, 128, 10], ["relu", ""])
    nn.init.zeros_(model.get_parameter("2.weight"))
    nn.init.zeros_(model.get_parameter("2.bias"))
    return labelled(model, clothes(), Adam(model.parameters(), 1e-3), 10)


class Residual(nn.Module):
    """Blocks whose last layer starts at zero (Zhang et al. 2019, "Fixup"): each block starts as the identity."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(784, 64), nn.Linear(64, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(blocks)
        )
        for block in self.blocks:
            nn.init.zeros_(block[2].weight)  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        scores: Tensor = self.head(x)
        return scores


@case("residual blocks that start as the identity")
def zero_residual_branches(sick: bool, kit: Kit) -> Arm:
    """Six residual blocks, each with a branch that starts at zero."""
    model = Residual(6)
    return labelled(model, digits(), Adam(model.parameters(), 1e-3), 8)


class Tied(nn.Module):
    """An autoencoder whose decoder is the transpose of its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(784, 64)
        self.bias = nn.Parameter(torch.zeros(784))

    def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 784)
        return F.linear(torch.relu(self.encode(x)), self.encode.weight.T, self.bias)


@case("tied weights")
def tied_autoencoder(sick: bool, kit: Kit) -> Arm:
    """One matrix there and back."""
    images, _ = digits()
    model = Tied()
    task = Task(model, (images, images), loss=F.mse_loss, optimizer=Adam(model.parameters(), 2e-3), epochs=12)
    return Arm(task, metrics.r2)


class Attention(nn.Module):
    """Softmax inside, where it belongs: weights over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values, self.head = nn.Linear(28, 1), nn.Linear(28, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
        rows = x.unflatten(1, (28, 28))
        weights = self.keys(rows).softmax(1)
        scores: Tensor = self.head(torch.relu((weights * self.values(rows)).sum(1)))
        return scores


@case("softmax inside attention")
def attention_over_rows(sick: bool, kit: Kit) -> Arm:
    """The weighted mean of the rows, the weights learned."""
    model = Attention()
    return labelled(model, digits(), Adam(model.parameters(), 5e-3), 15)


def pretrained(kit: Kit) -> nn.Sequential:
    """A body that has learned to tell digits 0 to 4 apart, with a new head for 5 to 9."""
    images, labels = digits()
    body = kit.mlp([784, 128, 64], ["relu", "relu"])
    head = nn.Linear(64, 10)
    optimizer = Adam([*body.parameters(), *head.parameters()], 1e-3)
    for _ in range(6):
        for rows in torch.randperm(len(images)).split(64):
            rows = rows[labels[rows] < 5]
            optimizer.zero_grad()
            F.cross_entropy(head(body(images[rows])), labels[rows]).backward()
            optimizer.step()
    body.zero_grad()
    return nn.Sequential(body, nn.Linear(64, 5))


def last_five() -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return images[labels >= 5], labels[labels >= 5] - 5


@case("fine-tuning, head only")
def frozen_backbone(sick: bool, kit: Kit) -> Arm:
    """A trained body is frozen, and its new head is trained."""
    model = pretrained(kit)
    model[0].requires_grad_(False)
    optimizer = Adam(model[1].parameters(), 1e-2)
    return labelled(model, last_five(), optimizer, 15)


@case("fine-tuning with two rates")
def head_faster_than_the_body(sick: bool, kit: Kit) -> Arm:
    """The body at 1e-4, the head at 1e-2."""
    model = pretrained(kit)
    groups = [{"params": model[0].parameters(), "lr": 1e-4}, {"params": model[1].parameters(), "lr": 1e-2}]
    return labelled(model, last_five(), Adam(groups), 8)


class Tokens(nn.Module):
    """Pixels as words of a vocabulary of 17, an embedding for each, and for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(17, 16), nn.Embedding(64, 16)
        self.head = nn.Sequential(nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:  # (B, 64) int64 -> (B, 10)
        embedded = self.words(x) + self.places.weight
        scores: Tensor = self.head(embedded.flatten(1))
        return scores


def words() -> tuple[Tensor, Tensor]:
    """(1797, 64) grey levels 0 … 16 of the digits as whole numbers."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.from_numpy(found.data).long(), torch.from_numpy(found.target).long()


@case("embeddings")
def pixels_as_words(sick: bool, kit: Kit) -> Arm:
    """Whole numbers in, an embedding looks them up."""
    model = Tokens()
    return labelled(model, words(), Adam(model.parameters(), 2e-3), 8)


@case("a bag of words")
def bag_of_pixels(sick: bool, kit: Kit) -> Arm:
    """EmbeddingBag over which pixels are dark: most rows of the table rarely get a gradient."""
    images, labels = words()
    place = torch.arange(64).expand_as(images)
    bags = torch.where(images > 7, place, torch.full_like(place, 64))
    model = nn.Sequential(nn.EmbeddingBag(65, 64, padding_idx=64), nn.ReLU(), nn.Linear(64, 10))
    return labelled(model, (bags, labels), Adam(model.parameters(), 1e-2), 15)


@case("deep tanh with Xavier")
def ten_tanh_layers(sick: bool, kit: Kit) -> Arm:
    """Ten tanh layers of 100 units."""
    model = kit.mlp([784, *[100] * 10, 10], [*["tanh"] * 10, ""], "keras")
    return labelled(model, digits(), SGD(model.parameters(), 0.02, momentum=0.9), 8)


@case("a network that standardizes its inputs itself")
def batch_norm_in_front(sick: bool, kit: Kit) -> Arm:
    """Raw columns from 0.001 to 4,254, and a BatchNorm as the first layer."""
    model = nn.Sequential(nn.BatchNorm1d(30), kit.mlp([30, 16, 1], ["relu", ""]))
    task = Task(
        model, tumours(raw=True), loss=nn.BCEWithLogitsLoss(), optimizer=Adam(model.parameters(), 2e-3), epochs=30
    )
    return Arm(task, metrics.logit)


class Scaled(nn.Module):
    """Divides by 255 itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x / 255.0)
        return scores


@case("a network that standardizes its inputs itself")
def raw_pixels_scaled_inside(sick: bool, kit: Kit) -> Arm:
    """Grey levels up to 255, divided in forward."""
    model = Scaled(kit.mlp([784, 64, 10], ["relu", ""]))
    return labelled(model, digits(raw=True), SGD(model.parameters(), 0.1), 10)


@case("raw columns that train all the same")
def iris_in_centimetres(sick: bool, kit: Kit) -> Arm:
    """0.1 to 7.9 cm as measured."""
    model = kit.mlp([4, 16, 3], ["relu", ""])
    return labelled(model, table("iris", raw=True), Adam(model.parameters(), 1e-2), 60)


@case("raw columns that train all the same")
def grey_levels_with_adam(sick: bool, kit: Kit) -> Arm:
    """Pixels 0 … 16 as they are in the file, with Adam: it learns within a few epochs."""
    images, labels = words()
    model = kit.mlp([64, 64, 10], ["relu", ""])
    return labelled(model, (images.float(), labels), Adam(model.parameters(), 1e-3), 12)


@case("columns of very different scale that train all the same")
def wide_scales(sick: bool, kit: Kit) -> Arm:
    """One column of 0 … 20 beside two of 0 … 1, and a tree-like target."""
    r = kit.rng
    columns = np.stack([r.uniform(0, 20, 500), r.uniform(0, 1, 500), r.uniform(0, 1, 500)], 1)
    labels = torch.from_numpy(((columns[:, 0] > 10) ^ (columns[:, 1] > 0.7)).astype(np.int64))
    model = kit.mlp([3, 64, 64, 2], ["relu", "relu", ""])
    return labelled(model, (tensor(columns), labels), Adam(model.parameters(), 5e-3), 60)


@case("layer normalization, no bias in front")
def layer_norm_without_biases(sick: bool, kit: Kit) -> Arm:
    """Linear layers without bias, LayerNorm behind each."""
    layers = [
        nn.Linear(784, 64, bias=False),
        nn.LayerNorm(64),
        nn.GELU(),
        nn.Linear(64, 64, bias=False),
        nn.LayerNorm(64),
        nn.GELU(),
    ]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    return labelled(model, clothes(), AdamW(model.parameters(), 1e-3), 8)


@case("group normalization with batches of 2")
def group_norm_in_small_batches(sick: bool, kit: Kit) -> Arm:
    """Batches of two images are too small for BatchNorm, and GroupNorm does not look at the batch."""
    layers = [nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * 36, 10)]
    model = kit.started(nn.Sequential(*layers))
    return labelled(model, clothes(600, flat=False), SGD(model.parameters(), 0.01), 4, 2)


@case("self-normalizing")
def selu_network(sick: bool, kit: Kit) -> Arm:
    """Six SELU layers with LeCun's weights (Klambauer et al. 2017)."""
    model = nets.mlp([784, *[64] * 6, 10], "selu")
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return labelled(model, digits(), SGD(model.parameters(), 0.05), 8)


@case("a parameterized weight")
def weight_norm(sick: bool, kit: Kit) -> Arm:
    """Direction and length of each unit's weights apart (Salimans and Kingma 2016)."""
    parameterized = nn.utils.parametrizations.weight_norm
    model = nn.Sequential(parameterized(nn.Linear(13, 32)), nn.ReLU(), parameterized(nn.Linear(32, 3)))
    return labelled(model, table("wine"), Adam(model.parameters(), 5e-3), 30)


class WithSpare(nn.Module):
    """A second head that this training does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(784, 64), nn.ReLU())
        self.head, self.spare = nn.Linear(64, 10), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
        scores: Tensor = self.head(self.body(x))
        return scores


@case("a part that is not in use")
def spare_head(sick: bool, kit: Kit) -> Arm:
    """A head for another task stays without gradient."""
    model = WithSpare()
    return labelled(model, digits(), Adam(model.parameters(), 1e-3), 8)


@case("fixed random features")
def random_features(sick: bool, kit: Kit) -> Arm:
    """The first layer is random and stays so, the second is trained (Rahimi and Recht 2007): it is wide enough."""
    first = nn.Linear(784, 512).requires_grad_(False)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(512, 10))
    optimizer = Adam(model[2].parameters(), 3e-3)
    return labelled(model, digits(), optimizer, 8)


@case("a sparse network")
def most_units_silent(sick: bool, kit: Kit) -> Arm:
    """Negative biases: two units in three are silent for any one image, and each answers to some."""
    model = kit.mlp([784, 256, 10], ["relu", ""])
    nn.init.constant_(model.get_parameter("0.bias"), -0.15)
    return labelled(model, digits(), Adam(model.parameters(), 2e-3), 8)
