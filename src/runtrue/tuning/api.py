"""`runtrue.finetune` as people call it: settings by name, from a file, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from runtrue.training.folder import RunFolder, new_folder, own_folder
from runtrue.training.values import OF_FILES, need
from runtrue.tuning.folder import Place
from runtrue.tuning.settings import ConfigError, Settings

if TYPE_CHECKING:
    from runtrue.finetune.difference import Renaming
    from runtrue.tuning.run import Tuned

ROOT = Path("runs")
CHANGEABLE = ("epochs", "patience", "watch")


def finetune(
    net: str | nn.Module | Callable[..., nn.Module] | None = None,
    data: str | Path | None = None,
    *,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    renamed: Renaming = None,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> Tuned:
    """Take a network that others trained, put a head for your classes on it, train, and leave a folder with all of it.

    net: a name of a zoo, a TARGET, a module (a copy of it is trained), or a function that makes one. data: a folder of class
    folders, or csv:PATH. run: a new folder; runs/NET-DATA-1 or the next free number by default. resume: a folder to go on in.
    renamed: where names in a file of weights differ from the network's; see `difference.take`. `settings`: see `Settings`.

    Raises ConfigError for a wrong setting, `datasets.DataError` for missing or wrong data, ZooError, WeightsError and
    SurgeryError for a network, its weights or its head that do not fit, TaskError for a TARGET that does not,
    `UntrainableError` if the images do not reach the network as it was trained to see them.
    """
    need(OF_FILES, "fine-tuning", "train,zoo")
    asked_net, net = (net, None) if isinstance(net, str) else (None, net)
    given = settings | {
        k: v for k, v in {"net": asked_net, "data": str(data) if data else None}.items() if v is not None
    }
    if net is not None:
        given["net"] = f"object:{getattr(net, '__qualname__', type(net).__name__)}"
    from runtrue.tuning.asked import Asked
    from runtrue.tuning.run import run as start

    if resume is not None:
        return start(Asked(*_resumed(Path(resume), given, net), True, net, renamed, say))
    found = Settings().changed(**given)
    folder = placed(run, found)
    try:
        return start(Asked(found, folder, False, net, renamed, say))
    finally:
        if folder.path.is_dir() and not any(folder.path.iterdir()):
            folder.path.rmdir()  # it came to nothing before anything was known


def _resumed(path: Path, given: Mapping[str, Any], net: Any) -> tuple[Settings, RunFolder]:
    folder = RunFolder(path)
    found = Place(folder).read_settings()
    changes = {name: value for name, value in given.items() if getattr(found, name, None) != value}
    if odd := sorted(set(changes) - set(CHANGEABLE)):
        raise ConfigError(f"a resumed run keeps its settings; {', '.join(odd)} cannot be changed: start a new run")
    if found.net.startswith("object:") and net is None:
        raise ConfigError(f"the run was started with a network of your program ({found.net[7:]}): pass it again, net=…")
    found = found.changed(**changes)
    Place(folder).write_settings(found)
    return found, folder


def placed(run: str | Path | None, settings: Settings) -> RunFolder:
    """The folder of a new run, made. Raises ConfigError if it holds something."""
    if run is None:
        short = Path(settings.data.partition(":")[2] or settings.data).stem
        return RunFolder(new_folder(ROOT, f"{settings.net.rpartition(':')[2]}-{short}"))
    return RunFolder(own_folder(Path(run)))
