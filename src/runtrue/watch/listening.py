"""The tape as the watch uses it: an error of ours ends the listening and leaves the user's forward pass as it is, and of an
operation nothing is asked but which layers wait for an activation behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn, overrides
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

from runtrue.calls import ActivationCall
from runtrue.tape import Layer, Names, Observer, Source, Tape

NOTHING = Source()


class _Call:
    """A call of one of torch's functions that remembers what came of it."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func, self.__name__ = func, getattr(func, "__name__", "")
        self.done = self.raised = False
        self.output: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self.output = self.func(*args, **kwargs)
        except BaseException:
            self.raised = True
            raise
        self.done = True
        return self.output


class Listening(Tape):
    """fails: told of an error of ours, once. The tape records from `begin` to `end`, which may be called twice."""

    def __init__(
        self, model: nn.Module, observer: Observer, fails: Callable[[Exception], None], names: Names | None = None
    ) -> None:  # fmt: skip
        super().__init__(model, observer, names)
        self.fails, self.broken = fails, False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.broken:
            return func(*args, **(kwargs or {}))
        call = _Call(func)
        try:
            return super().__torch_function__(call, types, args, kwargs)
        except Exception as error:
            if call.raised:
                raise
            self._give_up(error)
        return call.output if call.done else func(*args, **(kwargs or {}))

    def begin(self) -> None:
        self.handles = [
            module_hooks.register_module_forward_pre_hook(self._entered),
            module_hooks.register_module_forward_hook(self._left, always_call=True),
        ]
        self.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        leave(self)
        for handle in self.handles:
            handle.remove()
        self.handles = []
        self._sources.clear()

    def _joined(self, tensors: Iterable[Tensor]) -> Source:
        waiting: dict[Layer, None] = {}
        for tensor in tensors:
            source = self._source(tensor)
            if source is not None:
                waiting.update(dict.fromkeys(source.waiting))
        return Source(tuple(waiting)) if waiting else NOTHING

    def _passed(self, name: str, inputs: list[Tensor], plain: Source, before: Source) -> Source:
        return plain

    def _note_activation(self, name: str, args: Any, kwargs: Any, before: Source) -> ActivationCall | None:
        return None

    def _feed(self, layer: Layer, before: Source) -> None: ...

    def _note_loss(self, name: str, args: Any, kwargs: Any) -> None: ...

    def _note_regularizers(self, name: str, args: Any, kwargs: Any, before: Source) -> None: ...

    def _note_cut(self, name: str, output: Any) -> None: ...

    def _entered(self, module: nn.Module, inputs: Any) -> None:
        self._unless_broken(self._enter_module, module, inputs)

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._unless_broken(self._leave_module, module, inputs, output)

    def _unless_broken(self, act: Callable[..., None], *args: Any) -> None:
        if self.broken:
            return
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.broken = True
        self.fails(error)


def leave(mode: TorchFunctionMode) -> None:
    """Take a mode off this thread's stack; those that were entered after it and not left yet stay."""
    above: list[Any] = []
    if not any(one is mode for one in overrides._get_current_function_mode_stack()):
        return
    while (top := overrides._pop_mode()) is not mode:
        above.append(top)
    for other in reversed(above):
        overrides._push_mode(other)
