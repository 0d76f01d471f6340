"""A fine-tuning that tore up what the network knew, explained: where the activations left the spread that the normalizations
have stored."""

from __future__ import annotations

from torch import Tensor, nn

from runtrue.finetune.preparation import spreads

WIDE = 10.0
"""Times the stored spread from which on activations count as blown up. (MobileNetV2 as it was trained, two sets of
photographs, 96 and 160 pixels: 0.8 to 2.7 at its 52 normalizations.)"""


def explained(model: nn.Module, images: Tensor, norms: str, lr: float) -> str:
    """images: a batch as the network wants it; norms: the policy; lr: the highest rate."""
    wide = {name: times for name, times in spreads(model, images).items() if not times < WIDE}
    lower = f"lower --lr ({lr:g}) by ten"
    if not wide or norms == "train":
        return f"the steps tore up what the network knew: {lower}"
    first, worst = next(iter(wide)), max(wide, key=lambda name: wide[name])
    at_worst = "" if worst == first else f", at {worst} {_times(wide[worst])}"
    return (
        f"the statistics of the normalizations stand still ({norms}) while the layers in front of them move: at {first} the "
        f"activations are {_times(wide[first])} times as wide as it has stored{at_worst} (limit {WIDE:g}; so at {len(wide)} "
        f"normalizations), and nothing brings them back: {lower}; statistics that follow (--norms train) bear higher rates"
    )


def _times(number: float) -> str:
    return f"{number:.2g}" if number < 1e6 else "over a million"
