"""One run of the experiment `finetune`: a way to train, a number of images, a seed; what is seen on its way there."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runtrue.finetune.features import features
from runtrue.finetune.rates import groups
from runtrue.finetune.still import standing_still
from runtrue.lab.experiment import Row
from runtrue.lab.finetune_ground import Ground, some_of
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_HIGH, ONE_LOW, SCRATCH
from runtrue.lab.runs import Examples, evaluate

KEPT, FRONT = 0.3, 0.3
"""Mode 2: rate of the last kept layer as a share of that of what is new, of the first layer as a share of that of the last kept
one."""
MOMENTUM = 0.9
BATCH = 32
LOOKS = 12
"""At the validation images in a run; they lie closer together at its start, where most happens."""


def trained(ground: Ground, steps: int, kind: tuple[int, str], seed: int) -> list[Row]:
    """Rows of "step", "epoch", "second" (of this process, without the looks) and "accuracy" on the validation images."""
    count, way = kind
    train, val = some_of(ground.train[seed], count, seed), ground.val[seed]
    model, head, fresh = ground.start(seed, trained=way != SCRATCH)
    rates = ground.rates
    if way == HEAD:
        return head_alone(model, head, fresh, train, val, steps, seed, rates.head)
    single = {SCRATCH: rates.scratch, ONE_HIGH: rates.new, ONE_LOW: KEPT * rates.new}
    found = groups(model, rates.new, fresh, kept=KEPT, front=FRONT) if way == DEEP else [all_of(model, single[way])]
    return fitted(model, found, train, val, steps, seed)


def head_alone(
    model: nn.Module, head: str, fresh: frozenset[str], train: Examples, val: Examples, steps: int, seed: int,
    rate: float,
) -> list[Row]:  # fmt: skip
    """Mode 1, on features that are computed once: the time for those of the training images counts."""
    with standing_still(model, fresh):
        began = time.process_time()
        known = features(model, head, batches(train))
        spent = time.process_time() - began
        seen = features(model, head, batches(val))
    part = model.get_submodule(head)
    return fitted(
        part, [all_of(part, rate)], (known.inputs, known.labels), (seen.inputs, seen.labels), steps, seed, spent
    )  # fmt: skip


def all_of(net: nn.Module, rate: float) -> dict[str, Any]:
    return {"params": list(net.parameters()), "lr": rate}


def batches(examples: Examples) -> list[tuple[Tensor, Tensor]]:
    return list(zip(examples[0].split(BATCH), examples[1].split(BATCH), strict=True))


def fitted(
    net: nn.Module, found: list[dict[str, Any]], train: Examples, val: Examples, steps: int, seed: int, spent: float = 0.0
) -> list[Row]:  # fmt: skip
    """By SGD with momentum and a cosine to 0. found: the groups of the optimizer. spent: seconds that were needed before."""
    optimizer = torch.optim.SGD(found, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw, order = Generator().manual_seed(seed), torch.empty(0, dtype=torch.int64)
    batch = min(BATCH, len(train[1]))
    looks = {math.ceil(steps * (look / LOOKS) ** 2) for look in range(1, LOOKS + 1)}
    rows: list[Row] = []
    for step in range(1, steps + 1):
        began = time.process_time()
        if len(order) < batch:
            order = torch.randperm(len(train[1]), generator=draw)
        places, order = order[:batch], order[batch:]
        net.train()
        loss = F.cross_entropy(net(train[0][places]), train[1][places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        spent += time.process_time() - began
        if step in looks:
            epoch = step * batch / len(train[1])
            rows.append({"step": step, "epoch": epoch, "second": spent, "accuracy": evaluate(net, val)[1]})
    return rows
