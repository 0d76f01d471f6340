"""Outputs, loss and targets made to fit each other. The loss says what outputs mean: the network is fitted to the loss, unless
the loss itself is the wrong one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from runtrue import wrapping
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.outputs import Maker, OutputFacts
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.surgery import put, spelled
from runtrue.task import Task

Activation = Callable[[Tensor], Tensor]
NAMES: dict[Activation, str] = {
    wrapping.same: "nn.Identity()",
    torch.sigmoid: "nn.Sigmoid()",
    wrapping.log_softmax: "nn.LogSoftmax(dim=1)",
    wrapping.softmax: "nn.Softmax(dim=1)",
}
TELLS = {
    wrapping.same: "raw outputs",
    torch.sigmoid: "a sigmoid on the outputs",
    wrapping.log_softmax: "a log_softmax on the outputs",
    wrapping.softmax: "a softmax over the classes",
}


def with_outputs(task: Task, maker: Maker | None, other: Activation) -> Task:
    """The activation behind the last layer exchanged for `other`, or `other` put behind it if there was none."""
    model = task.model
    assert isinstance(model, nn.Module)
    if maker is None:
        return task.replace(model=wrapping.Followed(model, wrapping.MODULES[other]()))
    if maker.where is None:
        assert task.loss is not None
        return task.replace(loss=wrapping.ReactivatedLoss(task.loss, maker.place, other))
    if maker.module:
        put(model, maker.module, wrapping.MODULES[other]())
        return task
    return task.replace(model=wrapping.Reactivated(model, maker.place, other))


def code_for(maker: Maker | None, other: Activation) -> str:
    if maker is None:
        return f"model = nn.Sequential(model, {NAMES[other]})"
    if maker.where is not None and maker.module:
        return f"{spelled(maker.module)} = {NAMES[other]}  # was: {maker.name}"
    where = "the loss" if maker.where is None else f"forward of {maker.where or 'the model'}"
    act = "leave out" if other is wrapping.same else f"put {NAMES[other]} in the place of"
    return f"# in {where}: {act} the {maker.name} behind the last layer"


def fitted(maker: Maker | None, other: Activation) -> Remedy:
    return Remedy(
        f"{TELLS[other]} instead of {maker.name}" if maker else TELLS[other],
        True,
        code_for(maker, other),
        lambda task: with_outputs(task, maker, other),
        rescales_loss=True,
    )


def with_loss(name: str, code: str, loss: Callable[[Tensor, Tensor], Tensor]) -> Remedy:
    return Remedy(name, True, code, lambda task: task.replace(loss=loss), rescales_loss=True)


def facts(measured: Measurements, box: Sandbox) -> OutputFacts | None:
    """None where `step` hides outputs and loss: nothing can be exchanged from outside."""
    return measured.start.outputs if box.task.loss is not None else None


@remedy("softmax-before-cross-entropy")
def take_raw_outputs(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Leave the softmax out; where nobody knows which operation it is, take the logarithm of the probabilities in the loss."""
    o = facts(measured, box)
    if o is None:
        return
    if o.maker is not None and o.maker.name == "softmax":
        yield fitted(o.maker, wrapping.same)
    else:
        code = "loss = F.nll_loss(outputs.clamp_min(1e-7).log(), targets)  # the outputs are probabilities already"
        yield with_loss("the loss of probabilities", code, wrapping.log_of_shares)


@remedy("sigmoid-before-bce-with-logits")
def take_logits(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Leave the sigmoid out; the outputs are logits then: above 0 means yes."""
    o = facts(measured, box)
    if o is not None:
        yield fitted(o.maker, wrapping.same)


@remedy("logits-without-log-softmax")
def take_probabilities(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """A log_softmax in front of NLLLoss. For BCELoss the loss that takes raw outputs; or a sigmoid, where the user's own loss
    makes something of the outputs first (clips them)."""
    o = facts(measured, box)
    if o is not None and o.loss == "nll_loss":
        yield fitted(o.maker, wrapping.log_softmax)
    elif o is not None:
        code = "loss = F.binary_cross_entropy_with_logits(outputs, targets)  # in use: outputs > 0 means yes"
        proposals = [
            with_loss("binary cross-entropy of logits", code, wrapping.yes_or_no_logits),
            fitted(o.maker, torch.sigmoid),
        ]
        yield from proposals if o.as_given else reversed(proposals)


@remedy("output-activation-mismatch")
def fit_to_the_loss(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The activation that the loss asks for: none for cross-entropy, logits and numbers, else a sigmoid or log_softmax."""
    o = facts(measured, box)
    if o is not None:
        yield fitted(o.maker, asked_for(o))


def asked_for(o: OutputFacts) -> Activation:
    """What belongs between the last layer and this loss."""
    if o.loss == "nll_loss":
        return wrapping.log_softmax
    if o.loss == "binary_cross_entropy":
        return torch.sigmoid
    if o.loss in ("cross_entropy", "binary_cross_entropy_with_logits"):
        return wrapping.same
    if o.wanted == "yes-no" and o.maker is not None and o.maker.name == "softmax":
        return torch.sigmoid
    if o.wanted in ("one-hot", "shares") and o.columns > 1:
        return wrapping.softmax
    return wrapping.same


@remedy("wrong-loss")
def fit_the_loss(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The loss for what is wanted: cross-entropy for one class of several, binary cross-entropy for yes or no; the sign back."""
    o = facts(measured, box)
    if o is None:
        return
    if finding.evidence.get("falls_in_vain"):
        yield from usual_loss(o)
        if box.task.loss is not None:
            yield with_loss("the sign of the loss turned", "loss = -loss", wrapping.Turned(box.task.loss))
    elif o.negated:
        task_loss = box.task.loss
        assert task_loss is not None
        yield with_loss("the sign of the loss turned back", "loss = -loss", wrapping.Turned(task_loss))
    elif o.wanted == "one-hot" and o.maker is not None and o.maker.name == "softmax":
        code = "loss = -(targets * outputs.clamp_min(1e-7).log()).sum(1).mean()  # or raw outputs and nn.CrossEntropyLoss()"
        yield with_loss("cross-entropy of the probabilities", code, wrapping.log_of_shares)
    elif o.wanted in ("one-hot", "shares") and o.maker is None:
        code = "loss = F.cross_entropy(outputs, targets)  # on raw outputs"
        yield with_loss("cross-entropy", code, wrapping.classes_of_shares)
    elif o.loss == "cross_entropy":
        code = "loss = F.binary_cross_entropy_with_logits(outputs, targets.view_as(outputs).float())"
        yield with_loss("binary cross-entropy of logits", code, wrapping.yes_or_no_logits)
    else:
        yield binary_of_probabilities(o)


def usual_loss(o: OutputFacts) -> Iterator[Remedy]:
    """For a loss that nobody knows, or that has no gradient: the usual one for such outputs and targets."""
    last = o.maker.name if o.maker else None
    if o.wanted == "labels" and o.columns > 1:
        if last in ("softmax", "sigmoid"):
            code = "loss = F.nll_loss(outputs.clamp_min(1e-7).log(), targets)"
            yield with_loss("cross-entropy of the probabilities", code, wrapping.log_of_shares)
        else:
            yield with_loss("cross-entropy", "loss = F.cross_entropy(outputs, targets)", wrapping.labels)
    elif o.wanted == "yes-no" and math.prod(o.shape) == math.prod(o.target_shape):
        if last == "sigmoid":
            yield binary_of_probabilities(o)
        else:
            code = "loss = F.binary_cross_entropy_with_logits(outputs, targets.view_as(outputs))"
            yield with_loss("binary cross-entropy of logits", code, wrapping.yes_or_no_logits)
    elif o.wanted == "numbers" and math.prod(o.shape) == math.prod(o.target_shape):
        yield with_loss("mean squared error", "loss = F.mse_loss(outputs, targets)", wrapping.numbers)


def binary_of_probabilities(o: OutputFacts) -> Remedy:
    """Binary cross-entropy behind a sigmoid: outputs stay between 0 and 1, as targets are."""
    code = "loss = F.binary_cross_entropy(outputs, targets.view_as(outputs))"
    if o.maker is not None and o.maker.name == "sigmoid":
        return with_loss("binary cross-entropy", code, wrapping.yes_or_no)

    def treat(task: Task) -> Task:
        return with_outputs(task, o.maker, torch.sigmoid).replace(loss=wrapping.yes_or_no)

    whole = f"{code_for(o.maker, torch.sigmoid)}\n{code}"
    return Remedy("binary cross-entropy behind a sigmoid", True, whole, treat, rescales_loss=True)


@remedy("loss-shape-broadcast")
def give_the_same_shape(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Targets in the shape of the outputs."""
    loss = box.task.loss
    if loss is not None:

        def treat(task: Task) -> Task:
            assert task.loss is not None
            return task.replace(loss=wrapping.SameShape(task.loss))

        yield Remedy(
            "targets in the shape of the outputs",
            True,
            "loss = loss_fn(outputs, targets.view_as(outputs))",
            treat,
            rescales_loss=True,
        )
