"""The callback under Hugging Face's real Trainer, with a model of a few numbers: weights as without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed: pip install runtrue[transformers]")
pytest.importorskip("accelerate", reason="accelerate is not installed: pip install runtrue[transformers]")

import transformers
from test_unchanged import clean

from runtrue.watch import record_of
from runtrue.watch.transformers import Watch

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries

ROWS = 24


@pytest.fixture(autouse=True)
def no_library_of_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Trainer takes our folder tests/datasets for the library of that name."""
    monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)


def model() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2, attn_pdrop=0.1, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 20, (ROWS, 8), generator=generator)
    labels = tokens.clone()
    labels[::3, :5] = -100  # parts of a batch have different numbers of items
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels)]


def trained(place: Path, callbacks: list[Any], resume: Any = None, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(place), "per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 1e-2, "seed": 0,
        "report_to": [], "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True, "max_grad_norm": 0.1,
        "dataloader_pin_memory": False, **options,
    }  # fmt: skip
    trainer = transformers.Trainer(
        model=model(), args=transformers.TrainingArguments(**settings), train_dataset=rows(), eval_dataset=rows()[:4],
        callbacks=callbacks,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("parts", [1, 3])
def test_weights_are_the_same_and_losses_are_the_trainers(parts: int, tmp_path: Path) -> None:
    options = {"gradient_accumulation_steps": parts, "eval_strategy": "epoch"}
    alone = trained(tmp_path / "alone", [], **options)
    said: list[str] = []
    watch = Watch(every=1, say=said.append)
    watched = trained(tmp_path / "run", [watch], **options)
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    assert clean() and not any("stopped" in line or "while" in line for line in said), said
    record = record_of(tmp_path / "run")
    losses = [row["loss"] for row in watched.state.log_history if "loss" in row]
    assert len(losses) == 12 // parts
    assert [part.mean for part in record.steps()] == pytest.approx(losses, rel=1e-3)
    readings = list(record.readings())
    assert len(readings) == len(losses)
    norms = [row["grad_norm"] for row in watched.state.log_history if "grad_norm" in row]
    for reading, norm in zip(readings[1:], norms[1:], strict=True):
        ours = sum(x * x for (_, what), x in reading.numbers.items() if what == "grad_norm") ** 0.5
        assert ours / reading.numbers["", "clipped"] == pytest.approx(norm, rel=1e-2)
    assert [sorted(row) for row in record.epochs()] == [["epoch", "step", "train_loss", "val_loss"]] * 2
    assert ("transformer.h.1.mlp.c_fc", "std") in readings[-1].numbers and not record.events()


def test_a_resumed_training_goes_on_in_the_same_record(tmp_path: Path) -> None:
    trained(tmp_path, [Watch(every=1, say=lambda _: None)], num_train_epochs=1, save_strategy="epoch")
    trained(tmp_path, [Watch(every=1, say=lambda _: None)], str(tmp_path / "checkpoint-6"))
    record = record_of(tmp_path)
    assert [part.first for part in record.steps()] == list(range(12))
    assert record.events() == [(6, "resumed", "the run goes on from step 6")]


def test_a_training_broken_off_and_begun_again_with_the_same_callback(tmp_path: Path) -> None:
    class Fails(transformers.TrainerCallback):
        fails = True

        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if self.fails and state.global_step == 3:
                raise KeyError("of the user")

    watch, breaker = Watch(every=1, say=lambda _: None), Fails()
    with pytest.raises(KeyError):
        trained(tmp_path, [watch, breaker])
    breaker.fails = False
    trained(tmp_path, [watch, breaker])
    assert clean() and len(record_of(tmp_path).steps()) == 12 and watch.watching is None


def test_numbers_go_where_log_says(tmp_path: Path) -> None:
    got: list[Any] = []
    trained(
        tmp_path, [Watch(False, every=1, say=lambda _: None, log=lambda numbers, step: got.append((step, numbers)))]
    )
    assert got and got[-1][0] == 11 and "loss" in got[-1][1]
