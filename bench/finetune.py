"""Fine-tuning on a folder of photographs: mode head and mode deep over stratified folds and seeds, and features that are kept
against passing every image in every epoch.

    python bench/finetune.py --data photos/ --weights mobilenet_v2.pth [--net mobilenet_v2] [--folds 5] [--seeds 1] [--each 1]
    [--modes head deep]

Each fold is laid out as train/ and val/ by links and trained as `runtrue finetune` does, at its defaults. In mode head the
fold takes no part in any choice; in mode deep it ends the training early, so its accuracy is a little too high. Times are CPU
seconds."""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import _common
from runtrue.datasets.folder import classes_in, listing
from runtrue.finetune.features import Features, features, fit
from runtrue.finetune.solve import folds_of
from runtrue.tuning import Settings, data, finetune, head, network
from runtrue.tuning.run import Tuned

LATER = 2  # epochs by which the time of one is told: they are all alike
EPOCHS = 20


def laid_out(place: Path, root: Path, folds: int, fold: int, seed: int) -> Path:
    """The folder as train/ and val/, a fold of each class in the latter."""
    classes = classes_in(root)
    listed = listing(root, classes)
    parts = folds_of(torch.tensor(listed.labels), folds, seed)
    for path, label, part in zip(listed.paths, listed.labels, parts.tolist(), strict=True):
        at = place / ("val" if part == fold else "train") / classes[label]
        at.mkdir(parents=True, exist_ok=True)
        (at / path.name).symlink_to(path.resolve())
    return place


def folds(asked: argparse.Namespace, mode: str) -> list[dict[str, Any]]:
    found = []
    for seed in range(asked.seeds):
        for fold in [(seed + i) % asked.folds for i in range(asked.each or asked.folds)]:
            with tempfile.TemporaryDirectory() as place:
                where = laid_out(Path(place) / "data", asked.data, asked.folds, fold, seed)
                began, began_at = time.process_time(), time.time()
                tuned = tuned_on(asked, where, Path(place) / "run", mode, seed)
                seconds = time.process_time() - began
                facts = tuned.folder.read_facts()
            first = tuned.history[0]["val_accuracy"] if mode == "deep" else None
            last = tuned.history[-1]["val_accuracy"]
            found.append(
                {"seed": seed, "fold": fold, "accuracy": tuned.val_accuracy, "head alone": first, "last epoch": last,
                 "kept epoch": tuned.kept_epoch, "cpu seconds": seconds, "rate": facts.get("rate"), "torn": facts.get("torn"),
                 "seconds before training": facts["training"] - began_at, "peak MB": peak_mb()}
            )  # fmt: skip
            print(mode, found[-1], flush=True)
    return found


HEAD = ["mode", "runs", "mean accuracy", "worst", "last epoch", "collapsed", "CPU s", "s before training", "peak MB"]


def row(mode: str, runs: list[dict[str, Any]]) -> list[Any]:
    """Medians of times, the highest memory, means of accuracies."""
    accuracies = [run["accuracy"] for run in runs]
    return [
        mode, len(runs), statistics.mean(accuracies), min(accuracies), statistics.mean(run["last epoch"] for run in runs),
        sum(bool(run["torn"]) for run in runs), statistics.median(run["cpu seconds"] for run in runs),
        statistics.median(run["seconds before training"] for run in runs), max(run["peak MB"] for run in runs),
    ]  # fmt: skip


def peak_mb() -> float:
    """Of this process so far, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tuned_on(asked: argparse.Namespace, where: Path, run: Path, mode: str, seed: int) -> Tuned:
    return finetune(
        asked.net,
        where,
        run=run,
        mode=mode,
        weights=asked.weights,
        seed=seed,
        watch=mode == "deep",
        say=lambda text: None,
    )


def kept_against_passed(asked: argparse.Namespace) -> dict[str, float]:
    """The same head, optimizer and order: on features that are computed once, and behind a network that every image passes."""
    settings = Settings().changed(net=asked.net, data=str(asked.data), weights=str(asked.weights))
    wanted = network.wants(settings)
    images = data.read(settings, wanted.side, data.framing(settings))
    start = network.start(settings, len(images.classes), wanted)
    began = time.process_time()
    train, val = (features(start.model, start.head, head.batches(split, start)) for split in (images.train, images.val))
    once = time.process_time() - began
    layer = start.model.get_submodule(start.head)
    began = time.process_time()
    fitted = fit(layer, train, val, epochs=EPOCHS, patience=EPOCHS)
    kept = once + time.process_time() - began
    began = time.process_time()
    for _ in range(LATER):
        passed(start, layer, images, train)
    each = (time.process_time() - began) / LATER
    again = features(start.model, start.head, head.batches(images.train, start))
    apart = float((again.inputs - train.inputs).abs().max() / train.inputs.abs().max())
    return {
        "epochs": EPOCHS, "kept cpu seconds": kept, "passed cpu seconds": each * EPOCHS, "ratio": each * EPOCHS / kept,
        "accuracy": fitted.accuracy, "features apart": apart,
    }  # fmt: skip


def passed(start: network.Start, layer: nn.Module, images: Any, train: Features) -> None:
    """One epoch as it is without kept features: every training image forward, a step of the head, and the validation."""
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-4)
    start.model.eval()
    for inputs, labels in head.batches(images.train, start):
        with torch.no_grad():
            trunk = features(start.model, start.head, [(inputs, labels)])
        loss = nn.functional.cross_entropy(layer(trunk.inputs).flatten(1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features(start.model, start.head, head.batches(images.val, start))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="a folder of class folders; without it nothing is measured")
    options.add_argument("--weights", help="a file with the network's weights")
    options.add_argument("--net", default="mobilenet_v2")
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--each", type=int, help="folds of each seed that are run; without it all")
    options.add_argument("--modes", nargs="*", default=["head", "deep"], choices=["head", "deep"])
    options.add_argument("--no-ratio", action="store_true", help="leave out kept features against passed images")
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    if asked.data is None:
        print("no --data FOLDER with photographs: nothing to measure")
        return
    torch.set_num_threads(1)
    found: dict[str, Any] = {mode: folds(asked, mode) for mode in asked.modes}
    print(_common.table(HEAD, [row(mode, runs) for mode, runs in found.items()]))
    if not asked.no_ratio:
        found["kept features"] = kept_against_passed(asked)
        print(_common.table(list(found["kept features"]), [list(found["kept features"].values())]))
    print(_common.write("finetune", found, asked.out, net=asked.net, folds=asked.folds, seeds=asked.seeds))


if __name__ == "__main__":
    main()
