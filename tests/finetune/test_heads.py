"""The classifier of networks as people use them is found, and exchanged for one with other classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from runtrue.finetune.dry import SurgeryError, example_for, flow
from runtrue.finetune.heads import outputs_of, replace_head

CLASSES = 7

OF_TORCHVISION = {
    "resnet18": ("fc",), "mobilenet_v2": ("classifier.1",), "mobilenet_v3_small": ("classifier.3",),
    "efficientnet_b0": ("classifier.1",),
    "convnext_tiny": ("classifier.2",), "swin_t": ("head",), "densenet121": ("classifier",), "regnet_y_400mf": ("fc",),
    "squeezenet1_1": ("classifier.1",), "shufflenet_v2_x0_5": ("fc",), "mnasnet0_5": ("classifier.1",),
    "googlenet": ("aux1.fc2", "aux2.fc2", "fc"), "inception_v3": ("AuxLogits.fc", "fc"),
}  # fmt: skip

OF_TIMM = {
    "vit_tiny_patch16_224": ("head",), "convnext_atto": ("head.fc",), "efficientnet_b0": ("classifier",), "resnet10t": ("fc",),
    "mobilenetv4_conv_small": ("classifier",), "deit_tiny_distilled_patch16_224": ("head", "head_dist"),
    "levit_128s": ("head.linear", "head_dist.linear"), "crossvit_tiny_240": ("head.0", "head.1"), "test_nfnet": ("head.fc",),
    "eva02_tiny_patch14_224": ("head",),  # comes without a head
}  # fmt: skip


def of_hugging_face(name: str) -> nn.Module:
    t = pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    match name:
        case "BERT":
            return t.BertForSequenceClassification(t.BertConfig(vocab_size=100, **small))
        case "RoBERTa":
            return t.RobertaForSequenceClassification(t.RobertaConfig(vocab_size=100, **small))
        case "DistilBERT":
            return t.DistilBertForSequenceClassification(
                t.DistilBertConfig(vocab_size=100, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
            )
        case "ViT":
            return t.ViTForImageClassification(t.ViTConfig(image_size=32, patch_size=8, **small))
        case _:
            return t.ResNetForImageClassification(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))


OF_HUGGING_FACE = {
    "BERT": ("classifier",), "RoBERTa": ("classifier.out_proj",), "DistilBERT": ("classifier",), "ViT": ("classifier",),
    "ResNet": ("classifier.1",),
}  # fmt: skip


def exchanged(model: nn.Module, heads: tuple[str, ...]) -> None:
    """The heads alone are new, and the network tells so many classes as was asked."""
    model.eval()
    before = {n: p for n, p in model.named_parameters() if not n.startswith(tuple(f"{head}." for head in heads))}
    assert replace_head(model, CLASSES) == heads
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert {n.rpartition(".")[0] for n in after.keys() - before.keys()} == set(heads)
    assert all(outputs_of(model.get_submodule(head)) == CLASSES for head in heads) and not model.training
    example = example_for(model)
    assert example is not None
    found = flow(model, example)
    assert found.error is None and getattr(found.result, "logits", found.result).shape == (2, CLASSES)


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_of_torchvision(name: str, torchvision: Any) -> None:
    given = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    exchanged(torchvision.models.get_model(name, weights=None, **given), OF_TORCHVISION[name])


@pytest.mark.parametrize("name", OF_TIMM)
def test_of_timm(name: str, timm: Any) -> None:
    model = timm.create_model(name, pretrained=False)
    exchanged(model, OF_TIMM[name])
    assert model.num_classes == CLASSES


@pytest.mark.parametrize("name", OF_HUGGING_FACE)
def test_of_hugging_face(name: str) -> None:
    model: Any = of_hugging_face(name)
    exchanged(model, OF_HUGGING_FACE[name])
    assert model.config.num_labels == model.num_labels == CLASSES
    loss = model(example_for(model), labels=torch.tensor([0, CLASSES - 1])).loss
    assert loss.item() > 0, "its own loss counts the new classes"


def test_a_network_that_ends_in_features() -> None:
    """The last layer with weights is no classifier: with 7 outputs the sum behind it fails, or nobody would notice."""
    t = pytest.importorskip("transformers")
    model = t.DistilBertModel(t.DistilBertConfig(vocab_size=100, dim=32, n_layers=2, n_heads=2, hidden_dim=64))
    parts = dict(model.named_modules())
    with pytest.raises(
        SurgeryError, match=r"layer\.1\.ffn\.lin2, is no classifier: with another number of outputs .* fails: "
    ):
        replace_head(model, CLASSES)
    assert dict(model.named_modules()) == parts
    bert = t.BertModel(
        t.BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    )
    with pytest.raises(SurgeryError, match=r"ends in features, not in classes: its last layer is pooler\.dense"):
        replace_head(bert, CLASSES)


@pytest.mark.parametrize("first", ["heads", "trunk"])
def test_a_layer_that_has_as_many_outputs_by_chance_is_kept(first: str) -> None:
    """In front under a name that speaks of heads, and within the classifier."""
    model = nn.Sequential()
    model.add_module(first, nn.Linear(5, 4))
    model.add_module("classifier", nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
    exchanged(model, ("classifier.2",))


class Fussy(nn.Module):
    """Takes what no example can be made for."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, rows: dict[str, torch.Tensor]) -> Any:
        return self.head(self.body(rows["x"]))


def test_a_network_whose_input_cannot_be_told_gets_its_head_untried() -> None:
    model = Fussy()
    assert replace_head(model, CLASSES) == ("head",) and model({"x": torch.zeros(2, 4)}).shape == (2, CLASSES)


def test_one_that_lies_on_no_device_and_one_in_half_precision(torchvision: Any) -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    assert replace_head(model, CLASSES) == ("fc",) and model.fc.weight.is_meta
    half = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9)).bfloat16()
    assert replace_head(half, CLASSES) == ("3",) and half[3].weight.dtype == torch.bfloat16
