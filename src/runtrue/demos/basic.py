"""The first specimens: initial weights, scales, wiring, rates; and the parts that other specimens are built from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from runtrue import datasets, nets
from runtrue.demos.register import demo
from runtrue.task import Task

DEPTH, WIDTH = 10, 500  # the network of N1.2
PIXELS, CLASSES = 784, 10


def images(flat: bool = True) -> tuple[Tensor, Tensor]:
    """(3000, 784) or (3000, 1, 28, 28) standardised pixels, and their labels 0 … 9."""
    return datasets.fashion_mnist("train", flat=flat)


def raw_images() -> tuple[Tensor, Tensor]:
    """(3000, 784) grey levels 0 … 255, as a user who forgot to scale has them."""
    pixels, labels = datasets.fashion_mnist("train", flat=True, normalize=False)
    return (pixels * 255 if pixels.max() <= 1 else pixels), labels


def classify(model: Callable[[], nn.Module], rate: float = 0.05, momentum: float = 0.9, flat: bool = True) -> Task:
    """The task that all demos share, but for their fault: 20 epochs of SGD on batches of 100."""
    return Task(
        model=model,
        train=images(flat),
        val=datasets.fashion_mnist("test", flat=flat),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(SGD, lr=rate, momentum=momentum),
        epochs=20,
        batch_size=100,
    )


def refilled(net: nn.Module, fill: Callable[[nn.Linear], object]) -> nn.Module:
    """Biases to zero, and `fill` on every linear layer."""
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                layer.bias.zero_()
                fill(layer)
    return net


def deep(activation: str, fill: Callable[[nn.Linear], object]) -> nn.Module:
    """10 hidden layers of 500 units."""
    return refilled(nets.mlp([PIXELS, *[WIDTH] * DEPTH, CLASSES], activation), fill)


def small(activation: str = "relu") -> nn.Module:
    return nets.mlp([PIXELS, 128, 64, CLASSES], activation)


def gaussian(std: float) -> Callable[[nn.Linear], object]:
    return lambda layer: nn.init.normal_(layer.weight, 0.0, std)


def xavier(layer: nn.Linear) -> object:
    return nn.init.xavier_normal_(layer.weight)


def he(layer: nn.Linear) -> object:
    return nn.init.kaiming_normal_(layer.weight)


@demo
def tanh_small_init() -> Task:
    """N1.2: ten tanh layers, weights N(0, 0.01²)."""
    return classify(lambda: deep("tanh", gaussian(0.01)))


@demo
def tanh_large_init() -> Task:
    """N1.3: the same with weights N(0, 1)."""
    return classify(lambda: deep("tanh", gaussian(1.0)))


@demo
def tanh_xavier() -> Task:
    """N1.4: the same with Xavier: healthy."""
    return classify(lambda: deep("tanh", xavier), rate=0.01)


@demo
def relu_he() -> Task:
    """N1.5: ten ReLU layers with He: healthy."""
    return classify(lambda: deep("relu", he), rate=0.005)


@demo
def zero_init() -> Task:
    """N1.2: all weights zero."""
    return classify(lambda: refilled(small("tanh"), lambda layer: nn.init.zeros_(layer.weight)))


@demo
def healthy_mlp() -> Task:
    return classify(small, rate=0.02)


@demo
def healthy_cnn() -> Task:
    return classify(nets.cnn, rate=0.02, flat=False)


@demo
def healthy_resnet20() -> Task:
    """A ResNet-20 (N5) on the same images, one channel."""
    return classify(partial(nets.resnet, 20, in_channels=1), rate=0.1, flat=False)


@demo
def deep_sigmoid() -> Task:
    """Six sigmoid layers: each passes at most a quarter of the gradient back."""
    return classify(lambda: refilled(nets.mlp([PIXELS, *[WIDTH] * 6, CLASSES], "sigmoid"), xavier))


@demo
def exploding_relu() -> Task:
    """Ten ReLU layers with weights three times He's."""

    def fill(layer: nn.Linear) -> None:
        he(layer)
        layer.weight.mul_(3.0)

    return classify(lambda: deep("relu", fill), rate=0.005)


@demo
def dead_relu() -> Task:
    """Biases so negative that no unit of the second layer ever responds."""

    def build() -> nn.Module:
        net = small()
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
        nn.init.constant_(layers[1].bias, -20.0)
        return net

    return classify(build, rate=0.02)


@demo
def raw_pixels() -> Task:
    """Grey levels 0 … 255 as they lie in the file, into a network of tanh units."""
    return classify(lambda: small("tanh"), rate=0.02).replace(train=raw_images(), val=None)


@demo
def nan_pixels() -> Task:
    """One image in a hundred holds a NaN."""
    pixels, labels = images()
    pixels = pixels.clone()
    pixels[::100, 0] = float("nan")
    return classify(small, rate=0.02).replace(train=(pixels, labels), val=None)


@demo
def black_images() -> Task:
    pixels, labels = images()
    return classify(small, rate=0.02).replace(train=(torch.zeros_like(pixels), labels), val=None)


@demo
def one_label() -> Task:
    pixels, labels = images()
    return classify(small, rate=0.02).replace(train=(pixels, torch.full_like(labels, 3)), val=None)


@demo
def labels_from_one() -> Task:
    """Labels 1 … 10 for ten outputs."""
    pixels, labels = images()
    return classify(small, rate=0.02).replace(train=(pixels, labels + 1), val=None)


def _ink(scale: float, offset: float) -> Task:
    """Regression on real images: how bright each is."""
    pixels, _ = images()
    ink = pixels.mean(1, keepdim=True)
    ink = (ink - ink.mean()) / ink.std() * scale + offset
    return Task(
        model=lambda: nets.mlp([PIXELS, 64, 1], "relu"),
        train=(pixels, ink),
        loss=F.mse_loss,
        optimizer=partial(SGD, lr=0.01, momentum=0.9),
        epochs=20,
        batch_size=100,
    )


@demo
def raw_targets() -> Task:
    """Targets around 20,000."""
    return _ink(8000.0, 20000.0)


@demo
def scaled_targets() -> Task:
    return _ink(1.0, 0.0)


@demo
def rate_too_high() -> Task:
    return classify(small, rate=30.0)


@demo
def rate_too_low() -> Task:
    return classify(small, rate=1e-7)


@demo
def frozen() -> Task:
    """Everything is frozen but the normalization, the head too."""

    def build() -> nn.Module:
        net = nets.cnn(norm="batch")
        for name, parameter in net.named_parameters():
            parameter.requires_grad_("norm" in name and name.endswith("bias"))
        return net

    return classify(build, rate=0.02, flat=False)


@demo
def forgotten_layers() -> Task:
    """The optimizer was made before the network was: it holds the parameters of another one."""
    net, before = nets.cnn(), nets.cnn()
    task = classify(lambda: net, flat=False)
    return task.replace(model=net, optimizer=SGD(before.parameters(), lr=0.02, momentum=0.9))


class Detached(nn.Module):
    """A network whose head is fed through `detach`, from a body that starts out giving next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nets.mlp([PIXELS, 128, 32], "relu")
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
        return self.head(self.body(x).detach() * 0.05)  # type: ignore[no-any-return]


@demo
def detached() -> Task:
    """Only the head can learn, from what an untrained body gives."""
    return classify(Detached, rate=0.05)
