"""Faults planted into healthy networks on real data: every cause that a task can show before it runs, at several strengths.

A perceptron, convolution networks with and without batch normalization, a ResNet-8, an LSTM, a small transformer, and tables.
`gradients-not-cleared` is a fault of the loop, which a task does not hold, and `train-val-overlap` harms no training: neither
is here. Half of the faults are to develop on, half to report on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import nn

from diagnosis import metrics
from diagnosis import plants as p
from diagnosis.hosts import ARCHITECTURES, Host, in_hand, perceptron, started
from diagnosis.parts import Arm, Case, Kit, code_of, half_of
from diagnosis.plants import Plant
from diagnosis.threads_loss import clipped_bce


@dataclass(frozen=True)
class Fault:
    """What is planted, the cause ids that name it, and into which hosts."""

    name: str
    accepted: tuple[str, ...]
    plant: Plant
    hosts: tuple[Host, ...]
    setting: Plant = p.unchanged
    """What both arms have in common beyond the host."""


def hosts(*names: str) -> tuple[Host, ...]:
    """From "architecture problem optimizer"; an underscore stands for a space inside a part."""
    return tuple(Host(*(part.replace("_", " ") for part in name.split())) for name in names)


DATA = (
    Fault(
        "NaN in every fiftieth row",
        ("non-finite-data",),
        p.spoiled(p.every_fiftieth(float("nan"))),
        hosts("cnn binary adam", "transformer classes adamw", "table tumours adam"),
    ),
    Fault(
        "infinity in every fiftieth row",
        ("non-finite-data",),
        p.spoiled(p.every_fiftieth(float("inf"))),
        hosts("lstm classes adam", "mlp regression momentum"),
    ),
    Fault(
        "grey levels 0 … 255",
        ("inputs-not-scaled",),
        p.units(p.grey_levels),
        hosts("mlp classes sgd", "tanh_mlp classes momentum", "cnn regression sgd", "lstm classes adam"),
    ),
    Fault(
        "inputs times 1e4",
        ("inputs-not-scaled",),
        p.units(lambda x: 1e4 * x),
        hosts("cnn labels adam", "transformer classes adam", "tanh_table wine adam"),
    ),
    Fault(
        "inputs shifted by 500",
        ("inputs-not-scaled",),
        p.units(lambda x: x + 500),
        hosts("mlp classes adam", "table tumours momentum", "tanh_table progression adam", "cnn classes momentum"),
    ),
    Fault(
        "inputs divided by 1000",
        ("inputs-not-scaled",),
        p.units(lambda x: x / 1000),
        hosts("mlp classes sgd", "cnn classes sgd", "table wine momentum"),
    ),
    Fault(
        "one column in tens of thousands",
        ("inputs-not-scaled",),
        p.units(p.one_column(3000)),
        hosts("table wine momentum", "table tumours sgd", "table progression adam", "tanh_table iris adam"),
    ),
    Fault(
        "targets around 20,000",
        ("targets-not-scaled",),
        p.units(targets=lambda y: 5000 * y + 20000),
        hosts("mlp regression sgd", "lstm regression adam", "table progression adam", "cnn one_number momentum"),
    ),
    Fault(
        "targets times 1e6",
        ("targets-not-scaled",),
        p.units(targets=lambda y: 1e6 * y),
        hosts("cnn regression adam", "transformer regression adamw", "table fitness momentum"),
    ),
    Fault(
        "black images",
        ("constant-inputs",),
        p.spoiled(lambda x, y: (0 * x, y)),
        hosts("cnn-batchnorm classes adam", "lstm regression adam", "mlp labels momentum"),
    ),
    Fault(
        "one target for all",
        ("constant-targets",),
        p.spoiled(lambda x, y: (x, y[:1].expand_as(y).clone())),
        hosts("resnet-8 classes momentum", "mlp binary sgd", "lstm regression adam"),
    ),
    Fault(
        "labels from one",
        ("labels-out-of-range",),
        p.spoiled(lambda x, y: (x, y + 1)),
        hosts("cnn classes sgd", "transformer binary adam", "table iris adam", "lstm labels rmsprop"),
    ),
    Fault(
        "labels −1 and 1",
        ("labels-out-of-range",),
        p.spoiled(lambda x, y: (x, 2 * y - 1)),
        hosts("mlp binary adam", "cnn labels momentum", "table tumours sgd"),
    ),
    Fault(
        "labels shuffled",
        ("labels-unrelated",),
        p.spoiled(p.rows_mixed),
        hosts("mlp classes sgd", "cnn classes adam", "transformer classes adamw", "cnn-batchnorm classes momentum"),
        p.judged_on_others("classes"),
    ),
    Fault(
        "batches of one class",
        ("unshuffled-batches",),
        p.sorted_batches,
        hosts("mlp classes sgd", "cnn classes momentum", "lstm classes adam", "cnn-batchnorm classes adam"),
    ),
    Fault(
        "ten rows instead of a thousand",
        ("repeated-examples",),
        p.spoiled(p.few_rows(10)),
        hosts("mlp classes momentum", "cnn classes adam", "transformer classes adam"),
        p.judged_on_others("classes"),
    ),
    Fault(
        "validation in grey levels",
        ("train-val-mismatch",),
        p.validated_on(lambda x, y: (p.grey_levels(x), y)),
        hosts("tanh_mlp classes adam", "cnn regression adam", "lstm classes adam"),
    ),
    Fault(
        "validated on other classes",
        ("train-val-mismatch",),
        p.classes_apart,
        hosts("mlp classes adam", "cnn classes momentum", "transformer classes adam"),
    ),
)

LOSS = (
    Fault(
        "softmax before cross-entropy",
        ("softmax-before-cross-entropy",),
        p.behind(partial(nn.Softmax, dim=1)),
        hosts(
            "mlp classes sgd",
            "cnn classes momentum",
            "resnet-8 classes momentum",
            "transformer classes adam",
            "lstm classes sgd",
            "table iris adam",
        ),
    ),
    Fault(
        "sigmoid before BCEWithLogitsLoss",
        ("sigmoid-before-bce-with-logits",),
        p.behind(nn.Sigmoid),
        hosts(
            "mlp binary sgd", "cnn labels adam", "lstm binary adam", "transformer labels adamw", "table tumours adam"
        ),
    ),
    Fault(
        "sigmoid before cross-entropy",
        ("softmax-before-cross-entropy", "output-activation-mismatch"),
        p.behind(nn.Sigmoid),
        hosts("mlp classes sgd", "cnn-batchnorm classes momentum", "lstm classes momentum"),
    ),
    Fault(
        "raw outputs into NLLLoss",
        ("logits-without-log-softmax", "wrong-loss"),
        p.with_loss(F.nll_loss),
        hosts("mlp classes sgd", "cnn classes adam", "transformer classes adamw", "table wine momentum"),
    ),
    Fault(
        "raw outputs into clipped cross-entropy",
        ("logits-without-log-softmax", "wrong-loss", "output-activation-mismatch"),
        p.with_loss(clipped_bce),
        hosts("mlp binary momentum", "cnn labels adam", "table tumours sgd"),
    ),
    Fault(
        "raw outputs into BCELoss",
        ("logits-without-log-softmax", "wrong-loss"),
        p.with_loss(F.binary_cross_entropy),
        hosts("cnn binary adam", "lstm labels adam"),
    ),
    Fault(
        "ReLU behind a signed output",
        ("output-activation-mismatch",),
        p.behind(nn.ReLU),
        hosts("mlp regression adam", "cnn one_number momentum", "lstm regression adam", "table progression adam"),
    ),
    Fault(
        "sigmoid behind standardized targets",
        ("output-activation-mismatch",),
        p.behind(nn.Sigmoid),
        hosts("cnn-batchnorm regression adam", "transformer regression adam", "table fitness momentum"),
    ),
    Fault(
        "tanh behind targets up to 30",
        ("output-activation-mismatch", "targets-not-scaled"),
        p.one_after_the_other(p.units(targets=lambda y: 10 * y), p.behind(nn.Tanh)),
        hosts("mlp regression momentum", "lstm one_number adam", "cnn regression adam"),
    ),
    Fault(
        "softmax over one unit",
        ("output-activation-mismatch",),
        p.one_after_the_other(
            p.behind(partial(nn.Softmax, dim=1)), p.with_loss(F.binary_cross_entropy), p.read_as(metrics.probability)
        ),
        hosts("mlp binary adam", "cnn binary momentum", "table tumours adam"),
    ),
    Fault(
        "cross-entropy for several labels",
        ("wrong-loss",),
        p.with_loss(F.cross_entropy),
        hosts("mlp labels adam", "cnn labels momentum", "transformer labels adam", "lstm labels adam"),
    ),
    Fault(
        "the sign of the loss",
        ("wrong-loss",),
        p.with_loss(p.negated),
        hosts("mlp classes sgd", "cnn regression adam", "lstm classes adam"),
    ),
    Fault(
        "squared error of probabilities",
        ("wrong-loss", "learning-rate-too-low"),
        p.with_loss(p.squared_probabilities),
        hosts("mlp classes sgd", "cnn classes momentum", "resnet-8 classes sgd"),
    ),
    Fault(
        "columns against rows",
        ("loss-shape-broadcast",),
        p.with_loss(p.against_a_row),
        hosts("mlp one_number sgd", "cnn one_number adam", "lstm one_number adam", "table progression adam"),
    ),
    Fault(
        "the sum instead of the mean",
        ("learning-rate-too-high", "wrong-loss"),
        p.with_loss(nn.CrossEntropyLoss(reduction="sum")),
        hosts("mlp classes sgd", "cnn classes momentum", "transformer classes sgd"),
    ),
)

WIRING = (
    Fault(
        "all frozen but the last bias",
        ("parameters-frozen",),
        p.on_model(lambda model: p.freeze_but(model, 1)),
        hosts("cnn-batchnorm classes sgd", "lstm binary adam", "transformer classes adam", "mlp classes momentum"),
    ),
    Fault(
        "all frozen",
        ("parameters-frozen",),
        p.on_model(lambda model: p.freeze_but(model, 0)),
        hosts("cnn classes adam", "table wine adam"),
    ),
    Fault(
        "optimizer of another copy",
        ("parameters-not-optimized",),
        p.foreign_optimizer,
        hosts("resnet-8 labels adam", "mlp regression sgd", "lstm classes adam", "cnn classes momentum"),
    ),
    Fault(
        "optimizer of the last bias",
        ("parameters-not-optimized",),
        p.optimizer_of_the_last(1),
        hosts("cnn classes adam", "transformer binary adamw", "mlp classes rmsprop"),
    ),
    Fault(
        "network cut off by detach",
        ("graph-detached",),
        p.detached,
        hosts("cnn classes adam", "transformer regression adamw", "mlp labels momentum", "lstm classes adam"),
    ),
    Fault(
        "normalization by the statistics of other data",
        ("eval-mode-while-training",),
        p.evaluating(0.0, 1e6),
        hosts("cnn-batchnorm classes momentum", "mlp-batchnorm classes sgd", "resnet-8 classes momentum"),
    ),
)

NETWORK = (
    Fault(
        "weights N(0, 0.001²)",
        ("init-too-small", "vanishing-gradient"),
        p.fill(lambda w: nn.init.normal_(w, 0, 0.001)),
        hosts("mlp classes sgd", "cnn classes momentum", "tanh_mlp labels sgd"),
    ),
    Fault(
        "deep, weights N(0, 0.01²)",
        ("init-too-small", "vanishing-gradient"),
        p.one_after_the_other(p.deep("tanh", 1.0), p.fill(lambda w: nn.init.normal_(w, 0, 0.01))),
        hosts("mlp classes momentum", "mlp regression sgd"),
    ),
    Fault(
        "weights N(0, 1)",
        ("init-too-large", "exploding-gradient", "saturating-activation"),
        p.fill(lambda w: nn.init.normal_(w, 0, 1.0)),
        hosts("mlp classes adam", "tanh_mlp classes momentum", "cnn labels sgd", "table progression adam"),
    ),
    Fault(
        "weights times 30",
        ("init-too-large", "exploding-gradient", "saturating-activation"),
        p.stretched(30.0),
        hosts("lstm classes adam", "transformer classes adam", "cnn classes momentum"),
    ),
    Fault(
        "all weights 0.01",
        ("init-symmetric",),
        p.fill(lambda w: nn.init.constant_(w, 0.01)),
        hosts("mlp classes momentum", "cnn labels sgd", "table wine adam"),
    ),
    Fault(
        "all weights zero",
        ("init-symmetric",),
        p.fill(nn.init.zeros_),
        hosts("mlp classes adam", "cnn classes momentum", "tanh_table tumours adam"),
    ),
    Fault(
        "eight sigmoid layers",
        ("vanishing-gradient", "saturating-activation"),
        p.deep("sigmoid", 1.0),
        hosts("mlp classes momentum", "mlp labels sgd", "mlp regression adam"),
    ),
    Fault(
        "eight sigmoid convolutions",
        ("vanishing-gradient", "saturating-activation"),
        p.instead(partial(p.deep_convolutions, activation=nn.Sigmoid, gain=1.0)),
        hosts("cnn classes momentum", "cnn binary adam"),
    ),
    Fault(
        "twenty layers of half of Xavier",
        ("vanishing-gradient", "init-too-small"),
        p.deep("relu", 0.5, 20),
        hosts("mlp classes momentum", "mlp binary adam"),
    ),
    Fault(
        "eight layers of five times Xavier",
        ("exploding-gradient", "init-too-large"),
        p.deep("relu", 5.0),
        hosts("mlp classes sgd", "mlp labels momentum", "mlp regression adam"),
    ),
    Fault(
        "eight convolutions of four times Xavier",
        ("exploding-gradient", "init-too-large"),
        p.instead(partial(p.deep_convolutions, activation=nn.ReLU, gain=4.0)),
        hosts("cnn classes momentum", "cnn regression sgd"),
    ),
    Fault(
        "a layer with biases of −50",
        ("dead-units",),
        p.silent(-50.0, 1),
        hosts("cnn classes sgd", "mlp regression adam", "mlp classes momentum"),
    ),
    Fault(
        "no activation",
        ("missing-nonlinearity",),
        p.instead(partial(perceptron, activation="identity")),
        hosts("mlp exclusive adam", "mlp exclusive momentum"),
    ),
    Fault(
        "a bottleneck of one unit",
        ("too-little-capacity",),
        p.bottleneck(ARCHITECTURES["mlp"]),
        hosts("mlp classes adam", "mlp labels adam"),
    ),
    Fault(
        "a bottleneck of one channel",
        ("too-little-capacity",),
        p.bottleneck(ARCHITECTURES["cnn"]),
        hosts("cnn classes adam", "cnn regression momentum"),
    ),
    Fault(
        "batches of two for BatchNorm",
        ("batch-too-small-for-norm",),
        p.batches_of(2, epochs=2),
        hosts("mlp-batchnorm classes momentum", "mlp-batchnorm classes adam", "mlp-batchnorm regression momentum"),
    ),
)

TRAINING = (
    Fault(
        "a rate a thousand times higher",
        ("learning-rate-too-high",),
        p.optimized(times=1000.0),
        hosts("cnn classes momentum", "resnet-8 labels sgd", "lstm classes adam", "table progression adam"),
    ),
    Fault(
        "a rate a hundred times higher",
        ("learning-rate-too-high",),
        p.optimized(times=100.0),
        hosts(
            "mlp classes adam", "transformer classes adamw", "cnn regression momentum", "cnn-batchnorm labels rmsprop"
        ),
    ),
    Fault(
        "a rate thirty times higher",
        ("learning-rate-too-high",),
        p.optimized(times=30.0),
        hosts("mlp classes sgd", "cnn classes momentum", "transformer classes momentum", "table wine sgd"),
    ),
    Fault(
        "a rate of a hundred-thousandth",
        ("learning-rate-too-low",),
        p.optimized(times=1e-5),
        hosts("mlp binary sgd", "transformer classes adam", "cnn-batchnorm labels momentum", "lstm regression adam"),
    ),
    Fault(
        "a rate of a thousandth",
        ("learning-rate-too-low",),
        p.optimized(times=1e-3),
        hosts("mlp classes momentum", "resnet-8 classes sgd", "cnn classes adam", "table progression adam"),
    ),
    Fault(
        "a rate of a hundredth",
        ("learning-rate-too-low",),
        p.optimized(times=1e-2),
        hosts("mlp classes sgd", "lstm classes sgd", "transformer classes adam", "table tumours sgd"),
    ),
    Fault(
        "weight decay of 2",
        ("regularization-too-strong",),
        p.optimized(weight_decay=2.0),
        hosts("mlp classes sgd", "cnn classes momentum", "resnet-8 classes sgd", "lstm classes sgd"),
    ),
    Fault(
        "decoupled weight decay of 100",
        ("regularization-too-strong",),
        p.optimized(weight_decay=100.0),
        hosts("transformer classes adamw", "mlp labels adamw"),
    ),
    Fault(
        "the sum of |w| times 0.1",
        ("regularization-too-strong",),
        p.penalized(1, 0.1),
        hosts("mlp classes sgd", "cnn regression adam", "table progression adam", "lstm classes adam"),
    ),
    Fault(
        "the sum of squares times 1",
        ("regularization-too-strong",),
        p.penalized(2, 1.0),
        hosts("cnn classes sgd", "mlp regression adam", "table wine momentum"),
    ),
    Fault(
        "dropout of 0.97",
        ("dropout-too-strong",),
        p.dropped(0.97),
        hosts("mlp classes sgd", "cnn classes momentum", "transformer classes adam", "tanh_mlp regression momentum"),
    ),
    Fault(
        "dropout of 0.9",
        ("dropout-too-strong",),
        p.dropped(0.9),
        hosts("mlp classes adam", "transformer regression adam", "lstm classes adam", "table progression adam"),
    ),
)

FAULTS = (*DATA, *LOSS, *WIRING, *NETWORK, *TRAINING)


def write(sick: bool, kit: Kit, *, fault: Fault, host: Host, built: bool) -> Arm:
    arm = fault.setting(started(host.arm(), kit))
    arm = fault.plant(arm) if sick else arm
    return Arm(in_hand(arm.task), arm.metric, arm.judged_on) if built else arm


def case(fault: Fault, host: Host) -> Case:
    """Every other task has its model and optimizer built, as most users have; the others are functions."""
    identity = f"{fault.name} · {host.name}"
    built = hashlib.sha256(identity.encode()).digest()[1] % 2 == 0
    twin = f"{host.name} {code_of(fault.setting)}"
    body = partial(write, fault=fault, host=host, built=built)
    return Case(identity, "planted", fault.name, fault.accepted, body, half_of(identity), twin)


INJECTED: dict[str, Case] = {found.id: found for fault in FAULTS for found in (case(fault, h) for h in fault.hosts)}
