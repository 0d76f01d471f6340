"""What of a network was kept, what is new, and at which rate each part trains: the table of a fine-tuning."""

from __future__ import annotations

from typing import Any

from runtrue.finetune.rates import groups, stages_of
from runtrue.tuning.network import Start
from runtrue.tuning.settings import Settings

SOLVED = "solved on kept features"
STILL = "stands still, statistics too"
Part = dict[str, Any]


def table(start: Start, settings: Settings, lr: float | None, norms: str) -> list[Part]:
    """A row a part, from the front on: "part", "state" (kept or new), "parameters" (how many numbers), "rate" (its highest; 0 in
    mode "head", where nothing is trained by steps), "how" in words. lr: of what is new."""
    deep = settings.mode == "deep" and lr is not None
    rates = _rates(start, settings, lr) if deep and lr is not None else {}
    stages = stages_of(start.model, start.fresh)
    rows: dict[int, Part] = {}
    for name, parameter in start.model.named_parameters():
        stage, count, title = stages[name]
        new = stage == count
        how = (
            (f"trained, norms: {norms}" if not new else f"{SOLVED}, then trained") if deep else SOLVED if new else STILL
        )
        part = {"part": start.head if new else title, "state": "new" if new else "kept", "parameters": 0, "rate": 0.0}
        row = rows.setdefault(stage, part | {"how": how})
        row["parameters"] += parameter.numel()
        row["rate"] = max(row["rate"], rates.get(name, 0.0))
    return [rows[stage] for stage in sorted(rows)]


def _rates(start: Start, settings: Settings, lr: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in start.model.named_parameters()}
    found = groups(start.model, lr, start.fresh, kept=settings.kept, front=settings.front)
    return {names[id(parameter)]: group["lr"] for group in found for parameter in group["params"]}


def told(rows: list[Part]) -> list[str]:
    """Lines for the terminal."""
    width = max(len(row["part"]) for row in rows)
    return [
        f"  {row['part']:<{width}}  {row['state']}  {row['parameters']:>12,}  "
        f"{'rate ' + format(row['rate'], '.3g') if row['rate'] else row['how']}"
        for row in rows
    ]
