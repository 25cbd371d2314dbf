"""How layers' modules are made: with weights drawn as PyTorch draws them, or without, where others will be given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# By class and arguments the modules that were made in `undrawn`; None outside of it.
_made: ContextVar[dict[Hashable, nn.Module] | None] = ContextVar("made", default=None)
# Types of most attributes, none of which is a parameter.
_PLAIN = {bool, int, float, str, tuple, type(None)}
# The attributes in which every module holds its tensors, hooks and modules.
_CONTAINERS = [name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set))]


@contextmanager
def undrawn() -> Iterator[None]:
    """Within it no weights are drawn: all parameters of the modules that are made must be replaced.

    Modules that `made` gives may share their tensors, and may not be changed before these are replaced; of all others
    the parameters are left as they are where they would be drawn. Other tensors are drawn, as they need be in no
    state-dict.
    """
    token = _made.set({})
    try:
        with _NoInit():
            yield
    finally:
        _made.reset(token)


@contextmanager
def unshared() -> Iterator[None]:
    """Within it, also in `undrawn`, modules that `made` gives share nothing: for code that may change them."""
    token = _made.set(None)
    try:
        yield
    finally:
        _made.reset(token)


def made(cls: type[nn.Module], *arguments: Hashable, **options: Hashable) -> nn.Module:
    """The module `cls(*arguments, **options)`, in less time; in `undrawn` in a fraction of it.

    Args:
        cls: draws its weights, if it has any, in `reset_parameters` and has no modules within, as PyTorch's layers do.
    """
    found = _made.get()
    if found is None:
        return _constructed(_Quick, cls, arguments, options)
    key = cls, arguments, *options.items()
    first = found.get(key)
    if first is not None:
        return _copy(first)
    with torch._C.DisableTorchFunction():  # `_NoInit` is not needed here, and takes its time
        module = found[key] = _constructed(_Undrawn, cls, arguments, options)
    return module


def _constructed(mixin: type, cls: type[nn.Module], arguments: tuple[Any, ...], options: dict[str, Any]) -> nn.Module:
    """A module of a class that had something mixed into it while its constructor ran."""
    module: nn.Module = _mixed(mixin, cast(Hashable, cls))(*arguments, **options)
    module.__class__ = cls
    return module


@cache
def _mixed(mixin: type, cls: Any) -> Any:
    return type(cls.__name__, (mixin, cls), {})


def _copy(module: nn.Module) -> nn.Module:
    """A module with the same attributes and tensors, and containers of its own for them."""
    copy = object.__new__(type(module))
    copy.__dict__ = attributes = module.__dict__.copy()
    for name in _CONTAINERS:
        container = attributes[name]
        attributes[name] = container.copy() if container else type(container)()
    return copy


class _Quick(nn.Module):
    """Takes numbers and tensors without looking for what they are not: modules, or tensors of another name's."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The first question is the quick one. PyTorch's modes may have parameters of other types, such as fake tensors.
        if type(value) not in _PLAIN and isinstance(value, nn.Parameter):
            self._parameters[name] = value
        else:
            object.__setattr__(self, name, value)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        self._buffers[name] = tensor
        if not persistent:
            self._non_persistent_buffers_set.add(name)


class _Undrawn(_Quick):
    """Draws nothing."""

    def reset_parameters(self) -> None:
        pass


class _NoInit(TorchFunctionMode):
    """While it is entered, `torch.nn.init` leaves parameters as they are.

    Most of its functions can be taken as a whole, and of the others the methods by which they draw.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function in _DRAWING or getattr(function, "__module__", "") == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            if isinstance(tensor, nn.Parameter):
                return tensor
        return function(*args, **(kwargs or {}))


_DRAWING = {Tensor.uniform_, Tensor.normal_}
