"""The classifiers of torchvision."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from runtrue.finetune.catalogue import Known, cached, unusable

AS_TRAINED = {name: {"transform_input": True, "aux_logits": False} for name in ("googlenet", "inception_v3")}
"""These were trained on images from -1 to 1, and torchvision's weights come with the layer that makes those from ImageNet's
constants. Their auxiliary classifiers serve training from scratch; with them, the network would give a loop three outputs."""


def _models() -> Any:
    try:
        import torchvision.models as found
    except (ImportError, RuntimeError) as error:
        raise unusable("torchvision", error, "its version has to fit torch") from error
    return found


def names() -> list[str]:
    models = _models()
    return list(models.list_models(module=models))


def has(name: str) -> bool:
    return name in set(names())


FIXED = ("vit_", "maxvit")  # of these families a network takes images of one size alone


def known(name: str) -> Known:
    """The weights that are here, or the best ones."""
    models = _models()
    kinds = list(models.get_model_weights(name))
    if not kinds:
        return Known(name, "torchvision")
    best = next((one for one in kinds if cached(one.url).is_file()), models.get_model_weights(name).DEFAULT)
    wants, url = best.transforms(), str(best.url)
    return Known(
        name, "torchvision", int(wants.crop_size[0]), tuple(wants.mean), tuple(wants.std), url, cached(url),
        name.startswith(FIXED),
    )  # fmt: skip


def made(name: str) -> nn.Module:
    """Without weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The default weight initialization of", category=FutureWarning)
        found: nn.Module = _models().get_model(name, weights=None, **AS_TRAINED.get(name, {}))
    return found
