"""Functions as static arguments of compiled programs: equal code that sees equal values compiles once.

``jax.jit`` finds a compiled program again when its static arguments are equal, and Python's functions
are equal only to themselves: a lambda in a loop, or in a notebook cell that is run again, would be
compiled anew each time. Here two functions are equal if they have the same code, defaults, closure and
globals, as far as these can never change: numbers, strings, JAX arrays, functions, modules and frozen
dataclasses. A function that sees anything else, such as a NumPy array or a list, which may be changed
in place, is equal only to itself.
"""

import dataclasses
import functools
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")})
_CODE = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, np.ufunc)
_CODE = (*_CODE, jax.custom_jvp, jax.custom_vjp, type(jax.jit(lambda: None)))
_OWN = __name__.split(".", maxsplit=1)[0]


class ByValue:
    """A function that compares by what it computes, where that can be told; call it as the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        try:
            self._key: Any = _key(function, ())
        except _MutableError:
            self._key = _Same(function)
        self._hash = hash(self._key)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByValue) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash


class _MutableError(Exception):
    """Raised for a value that may be changed in place."""


class _Same:
    """Compares by identity, and keeps its object alive so that no other takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _key(value: Any, above: tuple[Any, ...]) -> Any:
    """What stands for ``value``, hashable; ``above`` are the functions inside of which it was found."""
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, tuple):
        return type(value), tuple(_key(entry, above) for entry in value)
    if isinstance(value, jax.core.Tracer):
        raise _MutableError  # it dies with its trace, and must not be kept
    if isinstance(value, jax.Array):
        return _Same(value)
    if isinstance(value, np.dtype | np.generic):
        return type(value), value
    if isinstance(value, functools.partial):
        named = tuple(sorted((value.keywords or {}).items()))
        return functools.partial, _key((value.func, value.args, named), above)
    if isinstance(value, types.MethodType):
        return types.MethodType, _key(value.__func__, above), _key(value.__self__, above)
    if _from_library(value):
        return _Same(value)
    if isinstance(value, types.FunctionType):
        return _function_key(value, above)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass_key(value, above)
    raise _MutableError


def _function_key(function: types.FunctionType, above: tuple[Any, ...]) -> Any:
    if function in above:  # it calls itself
        return "above", above.index(function)
    above = (*above, function)
    seen = {name: function.__globals__[name] for name in _names(function.__code__)
            if name in function.__globals__}  # fmt: skip
    try:
        closed = tuple(cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:  # a variable that is assigned later
        raise _MutableError from None
    given = function.__defaults__, tuple(sorted((function.__kwdefaults__ or {}).items()))
    return function.__code__, _key((given, closed, tuple(sorted(seen.items()))), above)


def _dataclass_key(value: Any, above: tuple[Any, ...]) -> Any:
    if not type(value).__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise _MutableError
    fields = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return _Same(type(value)), _key(fields, above)


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that may be read from the globals, also by functions inside."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _from_library(value: Any) -> bool:
    """Whether ``value`` is a module, class or function of an installed package, which nobody edits as it runs."""
    if not isinstance(value, _CODE):
        return False
    name = (
        value.__name__
        if isinstance(value, types.ModuleType)
        else getattr(value, "__module__", None)
    )
    if not isinstance(name, str):
        return False
    if name.split(".", maxsplit=1)[0] in (_OWN, *sys.builtin_module_names):
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return file.startswith(tuple(path + os.sep for path in _LIBRARIES))
