"""Regularization by the size of the weights (N2.1), with every formula in plain sight.

A penalty is a number to add to the loss (`l1`, `l2`, `elastic_net`), or a value that is attached to an optimizer once and then
acts at each of its steps, in whatever loop that is. `max_norm_` changes the weights in place, after an optimizer's step.

>>> import torch
>>> from torch import nn
>>> net = nn.Linear(2, 1)
>>> with torch.no_grad():
...     _ = net.weight.copy_(torch.tensor([[3.0, -4.0]]))
>>> round(l1(net, strength=0.1).item(), 6), round(l2(net, strength=0.1).item(), 6)
(0.7, 2.5)
>>> max_norm_(net, limit=1.0)
>>> [round(value, 6) for value in net.weight[0].tolist()]
[0.6, -0.8]
>>> attached = L1(strength=0.01).attach(net, torch.optim.SGD(net.parameters(), lr=0.1))
>>> attached.remove()
"""

from __future__ import annotations

from runtrue.penalties.attached import Attached
from runtrue.penalties.terms import by_unit, elastic_net, l1, l2, max_norm_, penalised
from runtrue.penalties.values import L1, L2, ElasticNet, MaxNorm, Penalty, of

__all__ = [
    "L1",
    "L2",
    "Attached",
    "ElasticNet",
    "MaxNorm",
    "Penalty",
    "by_unit",
    "elastic_net",
    "l1",
    "l2",
    "max_norm_",
    "of",
    "penalised",
]
