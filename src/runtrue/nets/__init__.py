"""Networks to train and to examine: perceptrons, a small CNN, and residual networks of any depth 6n + 2."""

from __future__ import annotations

from runtrue.nets.cnn import cnn
from runtrue.nets.mlp import mlp
from runtrue.nets.resnet import ResNet, plain, resnet

__all__ = ["ResNet", "cnn", "mlp", "plain", "resnet"]
