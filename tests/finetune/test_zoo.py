"""Networks of torchvision and timm by name; what is missing is told, and nothing is asked of a network of computers."""

from __future__ import annotations

import importlib.machinery
import re
import shutil
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtrue.finetune import zoo
from runtrue.finetune.checkpoints import WeightsError
from runtrue.finetune.zoo import ZooError, build, known, names

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every attempt to reach another machine fails the test, and torch has downloaded nothing so far. -> where it would."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """only("timm"): these libraries are installed, and no others."""

    def those(*installed: str) -> None:
        spec = importlib.machinery.ModuleSpec("found", None)
        monkeypatch.setattr(zoo, "find_spec", lambda name: spec if name in installed else None)

    return those


def test_names_by_a_part_and_by_a_pattern(timm: Any) -> None:
    assert {"torchvision:resnet18", "timm:resnet18", "timm:resnet18d"} <= set(names("resnet18"))
    assert list(names("mobilenet_v?")) == ["torchvision:mobilenet_v2"]
    assert set(names("torchvision:resnet*")) == {f"torchvision:resnet{n}" for n in (18, 34, 50, 101, 152)}
    assert all(one.startswith("timm:") for one in names("timm:*")) and not list(names("no such"))
    assert not {"torchvision:fasterrcnn_resnet50_fpn", "torchvision:fcn_resnet50", "torchvision:r3d_18"} & set(names())


@pytest.mark.parametrize(
    ("name", "side", "constants"),
    [
        ("mobilenet_v2", 224, IMAGENET), ("efficientnet_b3", 300, IMAGENET), ("torchvision:inception_v3", 299, IMAGENET),
        ("timm:inception_v3.tv_in1k", 299, HALF), ("timm:vit_tiny_patch16_224", 224, HALF), ("resnet10t", 176, IMAGENET),
        ("timm:vit_base_patch16_clip_224.openai", 224, None), ("convnext_tiny.in12k_ft_in1k_384", 384, IMAGENET),
    ],
)  # fmt: skip
def test_how_a_network_wants_its_images(name: str, side: int, constants: Any, timm: Any) -> None:
    """Published: in the tables of torchvision's weights, and on the pages of timm's."""
    found = known(name)
    clip = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    assert (found.side, found.mean, found.std) == (side, *(constants or clip))
    assert found.url and not found.here and found.describe().endswith(f"{side} px  weights need a download")


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("torchvision:vit_b_16", True), ("maxvit_t", True), ("torchvision:swin_t", False), ("mobilenet_v2", False),
        ("timm:vit_tiny_patch16_224", True), ("timm:resnet18", False),
    ],
)  # fmt: skip
def test_networks_of_one_size(name: str, fixed: bool, timm: Any) -> None:
    found = known(name)
    assert found.fixed == fixed
    model = build(name, weights=False)[0].eval()
    broke = False
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, found.side - 64, found.side - 64))
    except Exception:  # noqa: BLE001 each says it in its own way
        broke = True
    assert broke == fixed


def test_a_name_without_a_library_is_torchvisions_first(timm: Any) -> None:
    assert known("resnet18").library == "torchvision" and known("timm:resnet18").library == "timm"
    assert known("resnet18.a1_in1k").library == "timm", "a training that timm alone names"


@pytest.mark.parametrize(
    ("name", "classes"), [("mobilenet_v2", 1000), ("timm:test_resnet", 1000), ("test_vit.r160_in1k", 1000)]
)
def test_a_network_without_weights(name: str, classes: int, timm: Any) -> None:
    model, found, difference = build(name, weights=False)
    assert difference is None and model.eval()(torch.zeros(1, 3, found.side, found.side)).shape == (1, classes)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_torchvision_trained_on_other_constants(name: str, torchvision: Any) -> None:
    """They are built as torchvision builds them for its weights, and give one output in training, too."""
    with torch.device("meta"):
        model = build(f"torchvision:{name}", weights=False)[0]
        assert model.transform_input and isinstance(model.train()(torch.zeros(2, 3, 299, 299)), torch.Tensor)


def test_trained_weights_of_a_file(mobilenet: Path, torchvision: Any) -> None:
    model, found, difference = build("mobilenet_v2", weights=mobilenet)
    assert difference is not None and len(difference.kept) == 314 and difference.describe() == "314 tensors kept"
    state = torch.load(mobilenet, weights_only=True)
    assert found.url.endswith("mobilenet_v2-7ebf99e0.pth"), "torchvision's best weights are others"
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_trained_weights_where_the_library_would_put_them(mobilenet: Path, alone: Path, torchvision: Any) -> None:
    with pytest.raises(ZooError) as caught:
        build("mobilenet_v2")
    said = str(caught.value)
    assert "the weights of torchvision:mobilenet_v2 are not on this machine: download https://" in said
    assert f"mobilenet_v2-7ebf99e0.pth and put it at {alone / 'mobilenet_v2-7ebf99e0.pth'}, or name the file" in said
    alone.mkdir(parents=True)
    shutil.copyfile(mobilenet, alone / mobilenet.name)
    model, found, difference = build("mobilenet_v2")
    assert found.here and found.file == alone / mobilenet.name and "weights are here" in found.describe()
    assert difference is not None and not difference.fresh
    assert model.get_parameter("classifier.1.bias").abs().sum() > 0


def test_a_file_of_timms_is_told_in_the_form_of_the_hub(alone: Path, timm: Any) -> None:
    """The address of vit_tiny's own weights is an archive of NumPy's, which holds other names."""
    found = known("timm:vit_tiny_patch16_224")
    assert found.url.endswith("/timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k/resolve/main/model.safetensors")
    assert found.file == alone / "vit_tiny_patch16_224.safetensors"
    with pytest.raises(ZooError, match=r"put it at .*test_vit\.safetensors"):
        build("test_vit")
    from safetensors.torch import save_file

    alone.mkdir(parents=True)
    donor = timm.create_model("test_vit", pretrained=False)
    save_file(donor.state_dict(), alone / "test_vit.safetensors")
    model, _, difference = build("test_vit")
    assert difference is not None and not difference.fresh and not difference.dropped
    assert torch.equal(model.get_parameter("head.weight"), donor.head.weight)


def test_a_file_in_the_cache_of_the_hub(
    alone: Path, tmp_path: Path, timm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "model.safetensors"
    there.write_bytes(b"weights")
    hub = types.ModuleType("huggingface_hub")
    asked = {("timm/test_vit.r160_in1k", "model.safetensors"): str(there)}
    hub.try_to_load_from_cache = lambda *wanted: asked.get(wanted)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert known("test_vit").file == there and known("test_vit").here and not known("test_resnet").here


def test_weights_under_the_names_of_their_authors(tmp_path: Path, timm: Any) -> None:
    """timm knows how the tensors of the authors' ConvNeXt are called in its own."""
    donor = timm.create_model("convnext_atto", pretrained=False)
    back = {
        r"^stem\.": "downsample_layers.0.", r"^stages\.(\d)\.downsample": r"downsample_layers.\1", r"\.blocks": "",
        "conv_dw": "dwconv", r"mlp\.fc": "pwconv", r"^head\.fc": "head", r"^head\.norm": "norm",
    }  # fmt: skip
    theirs = {}
    for name, value in donor.state_dict().items():
        for ours, other in back.items():
            name = re.sub(ours, other, name)
        theirs[name] = value
    torch.save({"model": theirs}, tmp_path / "theirs.pth")
    model, _, difference = build("timm:convnext_atto", weights=tmp_path / "theirs.pth")
    assert difference is not None and len(difference.kept) == len(theirs) and not difference.fresh
    name = "stages.0.blocks.1.conv_dw.weight"
    assert torch.equal(model.get_parameter(name), donor.get_parameter(name))


def test_weights_of_another_network(mobilenet: Path, tmp_path: Path, timm: Any) -> None:
    with pytest.raises(
        WeightsError, match=r"only 1 of the 314 tensors fits .* Are these the weights of this architecture\?"
    ):
        build("squeezenet1_1", weights=mobilenet)  # what fits is the bias of the classifier
    with pytest.raises(WeightsError, match="there is no file"):
        build("squeezenet1_1", weights=tmp_path / "none.pth")


def test_a_network_that_was_never_trained(timm: Any) -> None:
    found = known("timm:vovnet39a")
    assert not found.url and found.describe().endswith("no weights")
    with pytest.raises(
        ZooError, match=r"vovnet39a was never trained by timm: give weights of your own \(--weights FILE\)"
    ):
        build("timm:vovnet39a")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mobilnet_v2", r"called 'mobilnet_v2' in torchvision or timm; nearest: mobilenet_v2, .*\(`runtrue zoo` lists them\)"),
        ("torchvision:resnet10t", r"in torchvision; nearest: resnet101"), ("resnet18.none", "is called 'resnet18.none'"),
        ("keras:vgg16", r"'keras' is no zoo \(torchvision, timm\)"), ("", "no network is called ''"),
    ],
)  # fmt: skip
def test_unknown_names(name: str, said: str, timm: Any) -> None:
    with pytest.raises(ZooError, match=said):
        known(name)


def test_libraries_that_are_missing(only: Callable[..., None], torchvision: Any) -> None:
    only()
    for ask in (lambda: known("resnet18"), lambda: list(names())):
        with pytest.raises(ZooError, match=r'no zoo is installed \(torchvision, timm\): pip install "runtrue\[zoo\]"'):
            ask()
    only("torchvision")
    assert known("resnet18").library == "torchvision"
    with pytest.raises(ZooError, match=r'timm is not installed: pip install "runtrue\[zoo\]"'):
        known("timm:resnet18")
    with pytest.raises(ZooError, match=r"called 'resnet10t' in torchvision; timm is not installed; nearest: resnet101"):
        known("resnet10t")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_does_not_fit_torch(
    library: str, only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a torchvision for another torch fails: while it is imported."""

    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name.partition(".")[0] == library:
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [one for one in sys.modules if one.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    only(library)
    with pytest.raises(
        ZooError,
        match=rf"{library} cannot be imported \(operator torchvision::nms.*fits? torch {torch.__version__[:3]}",
    ):
        known("resnet18")


def test_what_is_built_is_the_callers_own(torchvision: Any) -> None:
    first, second = (build("squeezenet1_1", weights=False)[0] for _ in range(2))
    assert isinstance(first, nn.Module) and first is not second
