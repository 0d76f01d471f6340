"""The words that every room speaks: `Finding`, `Remedy`, `Outcome`. Values only; imports nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Severity = Literal["fault", "warning", "note"]
"""`fault`: shown to stop the training. `warning`: suspected and not verified. `note`: worth knowing, or explained."""

CAUSES: dict[str, tuple[str, ...]] = {
    "data": (
        "non-finite-data",
        "inputs-not-scaled",
        "targets-not-scaled",
        "constant-inputs",
        "constant-targets",
        "labels-out-of-range",
        "labels-unrelated",
        "class-imbalance",
        "unshuffled-batches",
        "repeated-examples",
        "train-val-overlap",
        "train-val-mismatch",
    ),
    "loss and output": (
        "softmax-before-cross-entropy",
        "sigmoid-before-bce-with-logits",
        "logits-without-log-softmax",
        "output-activation-mismatch",
        "wrong-loss",
        "loss-shape-broadcast",
    ),
    "wiring": (
        "parameters-not-optimized",
        "parameters-frozen",
        "graph-detached",
        "gradients-not-cleared",
        "eval-mode-while-training",
    ),
    "initial weights": ("init-too-small", "init-too-large", "init-symmetric"),
    "architecture": (
        "batch-too-small-for-norm",
        "missing-nonlinearity",
        "saturating-activation",
        "dead-units",
        "vanishing-gradient",
        "exploding-gradient",
        "too-little-capacity",
    ),
    "optimizer": ("learning-rate-too-high", "learning-rate-too-low"),
    "regularization": ("regularization-too-strong", "dropout-too-strong"),
    "during a run": (
        "diverging",
        "plateau",
        "oscillating",
        "overfitting",
        "underfitting",
        "loss-spike",
        "train-mode-while-evaluating",
        "step-before-backward",
        "ranks-apart",
    ),
}
"""Every cause id, by stage, in the order in which a cause can bring about the ones after it. Ids are never renamed."""

STAGE_OF: dict[str, str] = {cause: stage for stage, causes in CAUSES.items() for cause in causes}


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: tuples become lists, a number that is not finite becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


@dataclass(frozen=True)
class Remedy:
    """A change to a task that should remove a cause, and the code that makes the same change by hand.

    `treat` edits the task that it is given (weights in place) and returns it with whatever else changed; it is
    for trials, inside the sandbox. `apply` is for everybody else: it treats a copy.
    """

    name: str
    safe: bool
    """True if the change cannot lose anything the user has: no trained weight, no part of the architecture."""
    code: str
    treat: Callable[[Any], Any] = field(compare=False, repr=False)
    rescales_loss: bool = False
    """True if the treated loss is in other units than the user's (targets were scaled)."""
    rate: float | None = None
    """The learning rate that it sets, if that is all it does."""

    def apply(self, task: Any) -> Any:
        """A treated copy of `task`; the task given is left as it is."""
        return self.treat(task.copy())

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "safe": self.safe, "code": self.code}


@dataclass(frozen=True)
class Outcome:
    """What a trial measured: the same steps on the same batches, without and with the remedy.

    `before` and `after` are losses at the end of the trial in the units of the user's own loss; the curves hold
    one loss a step. `baseline` is the loss of the best constant prediction, where it is known: a network whose
    loss does not go below it has learned nothing from its inputs. `skill_before` and `skill_after` are of the predictions in
    evaluation mode, 0 like the best constant and 1 perfect (see `runtrue.skill`): they can be compared where a remedy changes
    the loss, and are None where they cannot be told. With several `seeds` the skill of the treated run is the mean of all, and
    losses and curves are those of the first.
    """

    before: float
    after: float
    cured: bool
    steps: int
    seeds: int = 1
    before_curve: tuple[float, ...] = ()
    after_curve: tuple[float, ...] = ()
    baseline: float | None = None
    skill_before: float | None = None
    skill_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "before": plain(self.before),
            "after": plain(self.after),
            "cured": self.cured,
            "steps": self.steps,
            "seeds": self.seeds,
            "baseline": plain(self.baseline),
            "skill": {"before": plain(self.skill_before), "after": plain(self.skill_after)},
            "curves": {"before": plain(self.before_curve), "after": plain(self.after_curve)},
        }


@dataclass(frozen=True)
class Finding:
    """The answer of a check: what is wrong, where, how much against which limit, and what to do.

    `evidence` holds plain numbers, strings, and lists or dicts of them. A series over the layers is a list of
    dicts under the key "layers", each with "layer" (a name) and numbers such as "std" or "grad_norm".
    """

    cause: str
    severity: Severity
    where: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: Remedy | None = None
    outcome: Outcome | None = None
    explained_by: str | None = None
    """The cause id of the finding that explains this one, if this one is only a symptom."""

    def __post_init__(self) -> None:
        if self.cause not in STAGE_OF:
            raise ValueError(f"unknown cause id {self.cause!r}; the ids are listed in runtrue.findings.CAUSES")

    @property
    def stage(self) -> str:
        return STAGE_OF[self.cause]

    def having(self, **changes: Any) -> Finding:
        """A copy with these fields replaced."""
        return replace(self, **changes)

    def to_dict(self, explains: tuple[str, ...] = ()) -> dict[str, Any]:
        """JSON-ready. `explains`: cause ids of the symptoms that this finding explains."""
        return {
            "cause": self.cause,
            "severity": self.severity,
            "where": self.where,
            "message": self.message,
            "evidence": plain(self.evidence),
            "remedy": self.remedy.to_dict() if self.remedy else None,
            "outcome": self.outcome.to_dict() if self.outcome else None,
            "explains": list(explains),
            "explained_by": self.explained_by,
        }
