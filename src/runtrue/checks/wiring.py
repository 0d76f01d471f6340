"""Are the parameters connected: to the loss by the graph, to the optimizer by its groups?"""

from __future__ import annotations

from collections.abc import Iterator

from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.findings import Finding
from runtrue.measure import Measurements

IN_THE_LOSS = (
    ", although the outputs have one (no argmax, round, item, detach or NumPy may stand between outputs and loss)"
)


POOR = 0.5  # quality under which a network that is cut off from half of its parameters is sick because of it


def some(names: tuple[str, ...], most: int = 5) -> str:
    """The first names of a list, and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@check("parameters-frozen", sick=basic.frozen, healthy=basic.healthy_cnn)
def parameters_frozen(m: Measurements) -> Iterator[Finding]:
    """Parameters have requires_grad=False, so no training reaches them.

    A frozen backbone under a head that learns is healthy: it is a fault only if unfreezing cures.
    """
    wiring = m.start.wiring
    if wiring.frozen:
        yield Finding(
            "parameters-frozen",
            "warning",
            some(wiring.frozen),
            f"{len(wiring.frozen)} of {wiring.total} parameters have requires_grad=False: {some(wiring.frozen)}",
            {"frozen": list(wiring.frozen), "parameters": wiring.total},
        )


@check("parameters-not-optimized", sick=basic.forgotten_layers, healthy=basic.healthy_cnn)
def parameters_not_optimized(m: Measurements) -> Iterator[Finding]:
    """The optimizer does not hold parameters that ask for a gradient, so its step never moves them.

    Typical: a layer replaced, or the model built anew, after the optimizer was made; layers in a plain list, which
    `parameters()` does not know.
    """
    wiring = m.start.wiring
    if wiring.not_held:
        stale = f"; it holds {wiring.foreign} tensors that are not in this model" if wiring.foreign else ""
        if wiring.unregistered:
            stale += f"; model.parameters() does not know {some(wiring.unregistered)}, in a plain list or dict"
        yield Finding(
            "parameters-not-optimized",
            "warning",
            some(wiring.not_held),
            f"the optimizer does not hold {len(wiring.not_held)} of {wiring.total} parameters: {some(wiring.not_held)}{stale}",
            {
                "missing": list(wiring.not_held),
                "parameters": wiring.total,
                "foreign": wiring.foreign,
                "unregistered": list(wiring.unregistered),
            },
        )


@check("graph-detached", sick=basic.detached, healthy=basic.healthy_cnn)
def graph_detached(m: Measurements) -> Iterator[Finding]:
    """Layers ran, but no gradient comes back to them: `detach`, `no_grad`, `.data` or NumPy cuts the graph on the way."""
    wiring = m.start.wiring
    if m.start.no_gradient is not None and len(wiring.frozen) < wiring.total:
        yield Finding(
            "graph-detached",
            "fault",
            "loss" if m.start.outputs_have_gradient else _place(m),
            f"the loss has no gradient{IN_THE_LOSS if m.start.outputs_have_gradient else ''}: {m.start.no_gradient}",
            {"cuts": _cuts(m), "in_the_loss": m.start.outputs_have_gradient},
        )
    elif wiring.without_gradient and m.start.error is None:
        asking = wiring.total - len(wiring.frozen) - len(wiring.idle)
        none = len(wiring.without_gradient) == asking
        # a target network or a teacher gets no gradient either, but a network of one call learns nothing that is cut off
        half = 2 * len(wiring.without_gradient) >= asking and m.start.outputs is not None
        poor = m.reference.steps > 0 and m.quality < POOR
        count = "none of the parameters" if none else f"{len(wiring.without_gradient)} parameters"
        verb = (
            "that ran in the forward pass received a gradient"
            if none
            else "ran in the forward pass and received no gradient"
        )
        yield Finding(
            "graph-detached",
            "fault" if none or (half and poor) else "warning",
            some(wiring.without_gradient),
            f"{count} {verb}: {some(wiring.without_gradient)}; {_place(m)}",
            {
                "without_gradient": list(wiring.without_gradient),
                "cuts": _cuts(m),
                "in_the_loss": none and m.start.outputs_have_gradient,
            },
        )


def _cuts(m: Measurements) -> list[str]:
    return [f"{cut.operation} in {cut.where or 'model'}" for cut in m.start.wiring.cuts]


def _place(m: Measurements) -> str:
    cuts = m.start.wiring.cuts
    if not cuts:
        return "the place of the cut was not seen (NumPy, .data or a rebuilt tensor leave no trace)"
    return f"the graph is cut at `{cuts[0].operation}` in {cuts[0].where or 'the forward pass'}"
