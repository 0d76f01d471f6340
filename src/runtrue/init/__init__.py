"""How a network starts (N1): schemes for one tensor, and the right one for every layer of a model.

- one tensor, one formula: `init.he_normal(layer.weight)`
- each layer by the activation that follows it: `done = init.apply(model, example=x)`
- or by measuring its output: `done = init.lsuv(model, x)`
- what was done, as code to paste: `init.code_for(done)`
"""

from runtrue.init.auto import SCHEMES, apply, scheme_for
from runtrue.init.lsuv import lsuv
from runtrue.init.plan import Applied
from runtrue.init.schemes import (
    Fans,
    constant,
    fans,
    gain_for,
    he_normal,
    he_std,
    he_uniform,
    lecun_normal,
    lecun_std,
    normal,
    orthogonal,
    uniform,
    xavier_normal,
    xavier_std,
    xavier_uniform,
    zeros,
)
from runtrue.init.snippet import code_for
from runtrue.init.trained import looks_trained

__all__ = [
    "SCHEMES", "Applied", "Fans", "apply", "code_for", "constant", "fans", "gain_for", "he_normal", "he_std",
    "he_uniform", "lecun_normal", "lecun_std", "looks_trained", "lsuv", "normal", "orthogonal", "scheme_for", "uniform",
    "xavier_normal", "xavier_std", "xavier_uniform", "zeros",
]  # fmt: skip
