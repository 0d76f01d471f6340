"""Surgery by difference on networks as people use them: what of the weights is kept after a change, and what the change costs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue.finetune.changing import drop, insert, swap
from runtrue.finetune.difference import Difference, take
from runtrue.finetune.dry import SurgeryError
from runtrue.finetune.heads import replace_head
from runtrue.finetune.rates import groups


@dataclass(frozen=True)
class Anatomy:
    """Paths in one architecture. head: its classifier. wide: makes a layer wider, and tells the paths that were changed for it.
    block: one of a chain whose inputs and outputs are alike. activation: one of its own."""

    build: Callable[[Any], nn.Module]
    head: str
    wide: Callable[[nn.Module], tuple[str, ...]]
    block: str
    activation: str
    wrong: tuple[str, nn.Module, str]
    """A layer, one that does not fit there, and what is said."""


def put(model: nn.Module, **parts: nn.Module) -> tuple[str, ...]:
    """As a user would, in plain Python: model.layer4[1].conv1 = …"""
    for name, part in parts.items():
        parent, _, last = name.replace("__", ".").rpartition(".")
        setattr(model.get_submodule(parent), last, part)
    return tuple(name.replace("__", ".") for name in parts)


def conv(inputs: int, outputs: int, side: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, groups=groups, bias=False)


def of_torchvision(name: str) -> Callable[[Any], nn.Module]:
    def build(request: Any) -> nn.Module:
        models = request.getfixturevalue("torchvision").models
        return models.get_model(name, weights=None)

    return build


def of_timm(name: str) -> Callable[[Any], nn.Module]:
    return lambda request: request.getfixturevalue("timm").create_model(name, pretrained=False)


def bert(request: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, num_labels=5
    )
    return transformers.BertForSequenceClassification(config)


ANATOMIES = {
    "ResNet": Anatomy(
        of_torchvision("resnet18"), "fc",
        lambda m: put(
            m, layer4__1__conv1=conv(512, 640, 3), layer4__1__bn1=nn.BatchNorm2d(640), layer4__1__conv2=conv(640, 512, 3)
        ),
        "layer3.1", "layer1.0.relu",
        ("layer4.1.conv1", conv(512, 640, 3),
         r"swap 'layer4.1.conv1': it gives \(2, 640, 7, 7\) now, \(2, 512, 7, 7\) before, and layer4.1.bn1 cannot take that"),
    ),
    "MobileNet": Anatomy(
        of_torchvision("mobilenet_v2"), "classifier.1",
        lambda m: put(
            m, features__17__conv__0__0=conv(160, 1200, 1), features__17__conv__0__1=nn.BatchNorm2d(1200),
            features__17__conv__1__0=conv(1200, 1200, 3, groups=1200), features__17__conv__1__1=nn.BatchNorm2d(1200),
            features__17__conv__2=conv(1200, 320, 1),
        ),
        "features.9", "features.0.2",
        ("features.18.0", conv(300, 1280, 1),
         r"swap 'features.18.0': features.18.0 cannot take \(2, 320, 7, 7\), which features.17.conv.3 gives"),
    ),
    "EfficientNet": Anatomy(
        of_torchvision("efficientnet_b0"), "classifier.1",
        lambda m: put(
            m, features__8__0=conv(320, 1536, 1), features__8__1=nn.BatchNorm2d(1536), classifier__1=nn.Linear(1536, 1000)
        ),
        "features.4.1", "features.0.2",
        ("features.5.1.block.0.0", conv(112, 600, 1),
         r"it gives \(2, 600, 14, 14\) now, \(2, 672, 14, 14\) before, and features.5.1.block.0.1 cannot take that"),
    ),
    "ViT": Anatomy(
        of_timm("vit_tiny_patch16_224"), "head",
        lambda m: put(m, blocks__11__mlp__fc1=nn.Linear(192, 1024), blocks__11__mlp__fc2=nn.Linear(1024, 192)),
        "blocks.5", "blocks.0.mlp.act",
        ("blocks.3.mlp.fc1", nn.Linear(192, 700),
         r"it gives \(2, 197, 700\) now, \(2, 197, 768\) before, and blocks.3.mlp.fc2 cannot take that"),
    ),
    "ConvNeXt": Anatomy(
        of_timm("convnext_atto"), "head.fc",
        lambda m: put(
            m, stages__3__blocks__1__mlp__fc1=nn.Conv2d(320, 1500, 1), stages__3__blocks__1__mlp__fc2=nn.Conv2d(1500, 320, 1)
        ),
        "stages.2.blocks.4", "stages.0.blocks.0.mlp.act",
        ("stages.1.downsample.1", nn.Conv2d(40, 90, 2, 2),
         r"it gives \(2, 90, 28, 28\) now, \(2, 80, 28, 28\) before, and stages.1.blocks.0.conv_dw cannot take that"),
    ),
    "BERT": Anatomy(
        bert, "classifier",
        lambda m: put(
            m, bert__encoder__layer__2__intermediate__dense=nn.Linear(32, 96),
            bert__encoder__layer__2__output__dense=nn.Linear(96, 32),
        ),
        "bert.encoder.layer.1", "bert.pooler.activation",
        ("bert.encoder.layer.0.intermediate.dense", nn.Linear(32, 48),
         r"it gives \(2, 16, 48\) now, \(2, 16, 64\) before, and bert.encoder.layer.0.output.dense cannot take that"),
    ),
}  # fmt: skip


@pytest.fixture(params=ANATOMIES)
def anatomy(request: Any) -> Anatomy:
    return ANATOMIES[request.param]


@pytest.fixture
def trained(anatomy: Anatomy, request: Any) -> nn.Module:
    torch.manual_seed(0)
    return anatomy.build(request).eval()


def again(model: nn.Module) -> nn.Module:
    """The same network, with other weights."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for value in found.state_dict().values():
            value.add_(1)
    return found


def under(names: Iterable[str], *parts: str) -> set[str]:
    return {name for name in names if any(name.startswith(f"{part}.") for part in parts)}


def taken(model: nn.Module, state: dict[str, Tensor], renamed: Any = None) -> Difference:
    """`take`, and the proof that what it tells is so."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = take(model, state, renamed=renamed)
    for name, value in model.state_dict().items():
        same = state[found.renamed.get(name, name)] if name in found.kept else before[name]
        assert torch.equal(value, same), name
    assert {*found.kept, *found.fresh} == before.keys()
    used = {found.renamed.get(name, name) for name in found.kept} | {one.name for one in found.resized}
    assert len(used) == len(found.kept) + len(found.resized) and used.isdisjoint(found.dropped)
    return found


def test_another_head(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    assert replace_head(mine, 3) == (anatomy.head,)
    found = taken(mine, state)
    assert found.fresh == under(state, anatomy.head) and not found.new and not found.dropped and not found.renamed
    assert {one.ours[0] for one in found.resized} == {3}


def test_a_wider_layer(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    changed = anatomy.wide(mine)
    found = taken(mine, state)
    fresh = {n for n in under(state, *changed) if state[n].shape != mine.state_dict()[n].shape}
    assert {one.name for one in found.resized} == fresh and len(fresh) >= 3 and not found.new and not found.dropped
    assert all(str(one) == f"{one.name} {tuple(state[one.name].shape)} → {one.ours}" for one in found.resized)


def test_a_block_fewer(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    drop(mine, anatomy.block)
    found = taken(mine, state)
    assert set(found.dropped) == under(state, anatomy.block) != set() and not found.fresh and not found.renamed


def test_a_block_more(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    insert(mine, anatomy.block, copy.deepcopy(mine.get_submodule(anatomy.block)))
    found = taken(mine, state)
    assert set(found.new) == under(mine.state_dict(), f"{anatomy.block}.1") and not found.dropped and not found.resized
    moved = {f"{anatomy.block}.0{name[len(anatomy.block) :]}": name for name in under(state, anatomy.block)}
    assert found.renamed == moved, "what was there has another name now, and its weights"
    same = again(mine)
    assert not taken(same, mine.state_dict()).fresh, "weights of the changed network go by their own names"


def test_another_activation(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    swap(mine, anatomy.activation, nn.PReLU())
    found = taken(mine, state)
    assert found.new == (f"{anatomy.activation}.weight",) and not found.resized and not found.dropped
    swap(mine, anatomy.activation, nn.GELU())
    assert not taken(mine, state).fresh


def test_one_of_a_list_taken_out_is_found_by_order(anatomy: Anatomy, trained: nn.Module) -> None:
    """In plain Python, `del model.features[9]`: those behind it have other names from then on."""
    state, mine = trained.state_dict(), again(trained)
    parent, _, place = anatomy.block.rpartition(".")
    blocks = mine.get_submodule(parent)
    assert isinstance(blocks, (nn.Sequential, nn.ModuleList))
    del blocks[int(place)]
    found = taken(mine, state, renamed="by order")
    assert len(found.kept) == len(mine.state_dict()) and not found.fresh
    assert len(found.dropped) == len(under(state, anatomy.block))


def test_parts_under_another_name_are_found_by_order_or_when_told(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    first = anatomy.block.partition(".")[0]
    other = {f"trunk{n[len(first) :]}" if n.startswith(f"{first}.") else n: v for n, v in state.items()}
    plain = taken(again(trained), other)
    assert set(plain.new) == under(state, first) and set(plain.dropped) == under(other, "trunk")
    ordered, told = taken(mine, other, "by order"), taken(again(trained), other, {"trunk": first})
    for found in (ordered, told):
        assert not found.fresh and not found.dropped and set(found.renamed) == under(state, first)
        assert all(theirs == f"trunk{ours[len(first) :]}" for ours, theirs in found.renamed.items())


def test_what_is_new_learns_fast_and_what_was_kept_slowly(anatomy: Anatomy, trained: nn.Module) -> None:
    state, mine = trained.state_dict(), again(trained)
    replace_head(mine, 3)
    insert(mine, anatomy.block, copy.deepcopy(mine.get_submodule(anatomy.block)))
    fresh = taken(mine, state).fresh
    new = {p for n, p in mine.named_parameters() if n in fresh}
    assert new == {p for n, p in mine.named_parameters() if n in under([n], anatomy.head, f"{anatomy.block}.1")}
    found = groups(mine, 0.1, fresh, kept=0.1, front=0.1)
    assert {p for group in found if group["lr"] == 0.1 for p in group["params"]} == new
    slow = [group["lr"] for group in found if group["lr"] < 0.1]
    assert min(slow) == pytest.approx(0.001) and max(slow) == pytest.approx(0.01) and slow == sorted(slow)
    only = groups(mine, 0.1, fresh)
    assert {p for group in only for p in group["params"]} == new, "mode 1: what was kept is left out"


def test_what_does_not_fit_is_named_with_both_shapes(anatomy: Anatomy, trained: nn.Module) -> None:
    parts, (name, module, said) = dict(trained.named_modules()), anatomy.wrong
    with pytest.raises(SurgeryError, match=said):
        swap(trained, name, module)
    assert dict(trained.named_modules()) == parts, "the network is as it was"
