"""`runtrue.train` as people call it: settings by name, from a file, or both."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from runtrue.training import distribution
from runtrue.training.config import Config, ConfigError, read, written
from runtrue.training.folder import RunFolder, new_folder, own_folder
from runtrue.training.values import need

if TYPE_CHECKING:
    from runtrue.training.run import Trained

ROOT = Path("runs")
NEEDED = {"pytorch_lightning": "pytorch-lightning", "safetensors": "safetensors", "yaml": "pyyaml"}


def train(
    config: Config | str | Path | Mapping[str, Any] | None = None,
    *,
    net: str | nn.Module | Callable[..., nn.Module] | None = None,
    data: Any = None,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
    **settings: Any,
) -> Trained:
    """Train a network, check it first, and leave a folder that can be resumed, read and compared.

    config: a `Config`, the settings in a dict, or a YAML file; `settings` by name come on top: see `Config`.
    net, data: names as the command takes them, or the things themselves: a module or a function that builds one; `Images`, or
    two pairs (inputs, labels) of tensors, to train and to validate with.
    run: a new folder; runs/NET-DATA-1 or the next free number by default. resume: a folder to go on in.

    Raises ConfigError for a wrong setting, `datasets.DataError` for missing or wrong data, TaskError for a network that does not
    fit, `UntrainableError` if the check before the training finds a fault.
    """
    need_extra()
    asked_net, net = (net, None) if isinstance(net, str) else (None, net)
    asked_data, data = (data, None) if isinstance(data, str) else (None, data)
    given = settings | {k: v for k, v in {"net": asked_net, "data": asked_data}.items() if v is not None}
    if net is not None:
        given["net"] = f"object:{name_of(net)}"
    if data is not None:
        given["data"] = f"object:{name_of(data)}"
    if resume is not None:
        return _resume(Path(resume), config, given, net, data, say, progress)
    found = configured(config).changed(**given)
    if distribution.helped():
        return _started(found, RunFolder(Path(os.environ[distribution.RUN])), False, net, data, say, progress)
    folder = placed(run, found)
    return _started(found, folder, False, net, data, say, progress)


def _resume(path: Path, config: Any, given: dict[str, Any], net: Any, data: Any, say: Any, progress: bool) -> Trained:
    folder = RunFolder(path)
    found = folder.read_config()
    if config is not None:
        raise ConfigError("a resumed run has its settings in its folder: leave the config out")
    changes = {k: v for k, v in given.items() if getattr(found, k, None) != v}
    if odd := sorted(set(changes) - {"epochs", "devices", "nodes", "strategy"}):
        raise ConfigError(f"a resumed run keeps its settings; {', '.join(odd)} cannot be changed: start a new run")
    for kind, thing in (("net", net), ("data", data)):
        if getattr(found, kind).startswith("object:") and thing is None:
            raise ConfigError(
                f"the run was started with a {kind} of your program ({getattr(found, kind)[7:]}): pass it again, {kind}=…"
            )
    found = found.changed(**changes)
    if distribution.is_first():
        folder.write_config(found)
    return _started(found, folder, True, net, data, say, progress)


def _started(config: Config, folder: RunFolder, resume: bool, net: Any, data: Any, say: Any, progress: bool) -> Trained:
    from runtrue.training.run import Asked, again
    from runtrue.training.run import run as start

    need_logger(config)
    asked = Asked(config, folder, resume, net, data, say, progress)
    if config.devices * config.nodes == 1 or distribution.by_command():
        try:
            return start(asked)
        finally:
            if distribution.is_first() and not any(folder.path.iterdir()):
                folder.path.rmdir()  # it came to nothing before anything was known
    if net is not None or data is not None:
        raise ConfigError("several devices run the command in each process: name net and data as file.py:name")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "config.yaml"
        file.write_text(written(config), encoding="utf-8")
        how = ["--resume", str(folder.path)] if resume else [str(file), "--run", str(folder.path)]
        done = subprocess.run([sys.executable, "-m", "runtrue", "train", *how], check=False)
    if done.returncode:
        raise ConfigError(
            f"the training in {folder.path} ended with exit code {done.returncode}: what it said stands above"
        )
    return again(asked)


def configured(config: Any) -> Config:
    if config is None:
        return Config()
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return Config().changed(**config)
    return read(Path(config))


def placed(run: str | Path | None, config: Config) -> RunFolder:
    """The folder of a new run, made. Raises ConfigError if it holds something."""
    if run is None:
        return RunFolder(new_folder(ROOT, f"{short(config.net)}-{short(config.data)}"))
    return RunFolder(own_folder(Path(run), shared=not distribution.is_first()))


def short(name: str) -> str:
    """A name for a folder: mlp:500x10 -> mlp-500x10, file.py:net -> net, folder:photos/ -> photos."""
    kind, _, rest = name.partition(":")
    return Path(rest.rstrip("/")).name if rest and kind not in ("mlp", "cnn") else name


def name_of(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", type(thing).__name__))


def need_logger(config: Config) -> None:
    """Raises ConfigError if the logger is another project's that is not installed."""
    if config.logger in ("tensorboard", "wandb") and find_spec(config.logger) is None:
        raise ConfigError(f"logger {config.logger} is not installed: pip install {config.logger}, or take another one")


def need_extra() -> None:
    """Raises ConfigError that says what to install, if the extra is not there."""
    need(NEEDED, "training", "train")
