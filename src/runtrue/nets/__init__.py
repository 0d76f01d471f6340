"""Networks to train and to examine: perceptrons, a small CNN, and residual networks for small and for large images."""

from __future__ import annotations

from runtrue.nets.cnn import cnn
from runtrue.nets.imagenet import ImageNetResNet, imagenet_resnet
from runtrue.nets.mlp import mlp
from runtrue.nets.names import NAMES, named
from runtrue.nets.resnet import ResNet, plain, resnet

__all__ = ["NAMES", "ImageNetResNet", "ResNet", "cnn", "imagenet_resnet", "mlp", "named", "plain", "resnet"]
