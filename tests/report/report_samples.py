"""Reports as a check would write them: faulty, healthy, full of NaN, and with names that try to do harm."""

from __future__ import annotations

import math
from typing import Any

from runtrue.findings import Finding, Outcome, Remedy
from runtrue.report import Measured, Report

HOSTILE = "</script><script>alert(1)</script>"
MARKUP = "[red]x[/] \x1b[31m"
CODE = """for layer in model.modules():
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)"""


def layer(name: str, depth: int, shrink: float = 0.2) -> dict[str, Any]:
    return {
        "layer": name,
        "kind": "Linear",
        "activation": "ReLU",
        "mean": 0.1 * shrink**depth,
        "std": 0.8 * shrink**depth,
        "zero_fraction": 0.48 + 0.01 * depth,
        "saturated_fraction": None,
        "grad_norm": 1e-2 * shrink ** (9 - depth),
        "weight_norm": 3.2,
        "update_ratio": 1e-7,
    }


def layers(count: int = 10, shrink: float = 0.2) -> tuple[dict[str, Any], ...]:
    return tuple(layer(f"net.{2 * depth}", depth, shrink) for depth in range(count))


def falling(steps: int = 60, start: float = 2.31, end: float = 0.42) -> tuple[float, ...]:
    wobble = (0.06 * math.sin(1.7 * step) + 0.04 * math.sin(4.1 * step) for step in range(steps))
    return tuple(end + (start - end) * math.exp(-step / 14) + w * 0.8 for step, w in enumerate(wobble))


def flat(steps: int = 60, level: float = 2.303) -> tuple[float, ...]:
    return tuple(level + 0.002 * math.sin(2.3 * step) for step in range(steps))


def remedy(name: str = "Kaiming initialization", safe: bool = True, code: str = CODE) -> Remedy:
    return Remedy(name, safe, code, treat=lambda task: task)


FACTS = {
    "model": "Sequential, 10 linear layers",
    "parameters": "235,146",
    "loss function": "CrossEntropyLoss",
    "optimizer": "SGD (lr 0.05, momentum 0.9)",
    "data": "3,000 images, 10 classes, batches of 64",
    "seed": "0",
    "versions": "torch 2.9.0, Python 3.11",
}


def faulty() -> Report:
    """Weights that start too small, two symptoms of it, one warning, one note."""
    before, after = flat(), falling()
    root = Finding(
        "init-too-small",
        "fault",
        "net.0 to net.18 (10 layers)",
        "The signal dies on its way: the outputs of `net.18` spread 4e-07, less than a millionth of the first layer's "
        "0.8. The network says the same for every input, and there is nothing to learn from.",
        {"std_first": 0.8, "std_last": 4.096e-07, "limit": 0.1, "layers": list(layers())},
        remedy(),
        Outcome(2.303, 0.421, True, 60, 3, before, after, 2.302),
    )
    gradient = Finding(
        "vanishing-gradient",
        "note",
        "net.0",
        "The gradient of `net.0` is 5e-09 of the last layer's.",
        {},
        explained_by=root.cause,
    )
    slow = Finding(
        "learning-rate-too-low",
        "note",
        "optimizer",
        "Each step moves the weights by one ten-millionth.",
        {},
        explained_by=root.cause,
    )
    warning = Finding(
        "class-imbalance",
        "warning",
        "train",
        "Class 3 makes up 41 % of the examples, class 7 makes up 1 %.",
        {"largest_share": 0.41, "smallest_share": 0.01, "classes": 10},
        remedy("Weight the classes in the loss", False, "loss = nn.CrossEntropyLoss(weight=weights)"),
    )
    note = Finding("repeated-examples", "note", "train", "12 of 3,000 images occur twice.", {"repeated": 12})
    measured = Measured(layers(), before, 2.302, FACTS)
    return Report((root, gradient, slow, warning, note), 14.23, 360, measured, "train.py:task")


def healthy() -> Report:
    return Report((), 9.8, 180, Measured(layers(6, 0.97), falling(), 2.302, FACTS), "demo:healthy")


def broken() -> Report:
    """A network that left the finite numbers after 13 steps; readings are missing, infinite, or no number."""
    curve = tuple(2.3 * 3.0**step for step in range(13)) + (math.inf,) + (math.nan,) * 26
    odd = [
        {"layer": "conv1", "std": 1.0, "grad_norm": 3.0},
        {"layer": "conv2", "std": 0.0, "grad_norm": None},
        {"layer": "conv2", "std": math.nan, "grad_norm": math.inf},
        {"layer": "fc", "std": 1e8, "grad_norm": math.nan},
    ]
    outcome = Outcome(math.nan, 0.39, True, 40, 1, curve, falling(40), 2.302)
    fault = Finding(
        "learning-rate-too-high",
        "fault",
        "optimizer",
        "The loss grew threefold a step and was infinite after 13 steps.",
        {"learning_rate": 10.0, "loss_last": math.inf, "layers": odd},
        remedy("Lower the learning rate", True, "optimizer = torch.optim.SGD(model.parameters(), lr=0.05)"),
        outcome,
    )
    return Report((fault,), 3.0, 80, Measured(tuple(odd), curve, None, {}), "broken")


def hostile() -> Report:
    """Names, messages, keys and code that would be markup if anything let them."""
    bad = [
        {"layer": name, "std": 0.1**n, "grad_norm": 1.0}
        for n, name in enumerate([HOSTILE, MARKUP, "<img src=x onerror=alert(2)>", "\u2028 &lt;"])
    ]
    fault = Finding(
        "init-too-small",
        "fault",
        HOSTILE,
        f"{HOSTILE} `{HOSTILE}` {MARKUP}",
        {HOSTILE: MARKUP, "text": HOSTILE, "layers": bad},
        remedy(HOSTILE, False, f"# {HOSTILE}\n# {MARKUP}"),
        Outcome(2.3, 2.3, False, 60, 1, flat(), flat(), 2.3),
    )
    symptom = Finding("dead-units", "note", MARKUP, HOSTILE, {HOSTILE: 1}, explained_by="init-too-small")
    note = Finding("class-imbalance", "note", HOSTILE, MARKUP, {"layers": bad})
    return Report((fault, symptom, note), 1, 2, Measured(tuple(bad), flat(), None, {HOSTILE: HOSTILE}), HOSTILE)


def deep() -> Report:
    """Fifty layers with long names."""
    many = [layer(f"backbone.layer{d // 12}.{d % 12}.conv{d % 3}.parametrizations", d, 0.7) for d in range(50)]
    root = faulty().faults[0].having(evidence={"layers": many})
    return Report((root,), 20.0, 360, Measured(tuple(many), flat(), 2.302, FACTS), "resnet.py:task")


ALL = (faulty, healthy, broken, hostile, deep)
