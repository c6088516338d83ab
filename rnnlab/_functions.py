"""Functions as static arguments of compiled programs, compared by their code and their values.

``jax.jit`` reuses a compiled program when its static arguments are equal, and Python's functions
are equal only to themselves: a lambda in a loop, or in a notebook cell that is run again, would be
compiled anew each time. Here two functions are equal if they have the same code, defaults, closure
and globals, and if all of these are values that cannot change: numbers, strings, JAX arrays,
functions, modules and frozen dataclasses. A function that uses anything else, such as a NumPy array
or a list, which may be changed in place, is equal only to itself.
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

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    types.NoneType,
    types.EllipsisType,
)
_CODE = (
    types.ModuleType,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    np.ufunc,
    jax.custom_jvp,
    jax.custom_vjp,
    # The type of what jax.jit returns has no public name.
    type(jax.jit(lambda: None)),
)
_PATHS = (
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    sysconfig.get_path("stdlib"),
)
# The separator at the end keeps out folders whose names merely begin alike.
_LIBRARIES = tuple(path + os.sep for path in _PATHS)
_PACKAGE = __name__.split(".", maxsplit=1)[0]


class ByValue:
    """A function that compares by what it computes, as far as that is known.

    It is called as the function itself.
    """

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
    """Compares by identity.

    It keeps its object alive: the memory of a dead one can be that of the next, with the same id.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _key(value: Any, above: tuple[Any, ...]) -> Any:
    """A hashable key for ``value``; ``above`` are the functions that use it.

    Keys hold types beside values, because 1, 1.0 and True are equal in Python but give different
    programs. Raises _MutableError for what may be changed in place.
    """
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, tuple):
        return type(value), tuple(_key(entry, above) for entry in value)
    if isinstance(value, jax.core.Tracer):
        # A tracer is invalid after its trace, and a key would keep it.
        raise _MutableError
    if isinstance(value, jax.Array):
        return _Same(value)
    if isinstance(value, np.dtype | np.generic):
        return type(value), value
    if isinstance(value, functools.partial):
        call = (value.func, value.args, _items(value.keywords))
        return functools.partial, _key(call, above)
    if isinstance(value, types.MethodType):
        function, instance = _key(value.__func__, above), _key(value.__self__, above)
        return types.MethodType, function, instance
    if _from_library(value):
        return _Same(value)
    if isinstance(value, types.FunctionType):
        return _function_key(value, above)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass_key(value, above)
    raise _MutableError


def _function_key(function: types.FunctionType, above: tuple[Any, ...]) -> Any:
    if function in above:
        # It calls itself. Its place among the functions above is the same in an equal function; a
        # key of its own would never end.
        return "above", above.index(function)
    above = (*above, function)
    used = {}
    for name in _names(function.__code__):
        # The other names are those of built-in functions and of attributes.
        if name in function.__globals__:
            used[name] = function.__globals__[name]
    try:
        closure = tuple(cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:
        # A variable of the closure is assigned later.
        raise _MutableError from None
    defaults = (function.__defaults__, _items(function.__kwdefaults__))
    values = (defaults, closure, _items(used))
    return function.__code__, _key(values, above)


def _items(mapping: dict[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """The entries of a dict in the order of their names, which is that of equal dicts too."""
    return tuple(sorted((mapping or {}).items()))


def _dataclass_key(value: Any, above: tuple[Any, ...]) -> Any:
    # pyright knows no fields of dataclasses that begin with an underscore.
    if not type(value).__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise _MutableError
    fields = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return _Same(type(value)), _key(fields, above)


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that may be read from the globals, by the function and by functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _from_library(value: Any) -> bool:
    """Whether ``value`` is a module, class or function of an installed package.

    Nobody edits these while a program runs, so there is no need to look into their code.
    """
    if not isinstance(value, _CODE):
        return False
    if isinstance(value, types.ModuleType):
        name = value.__name__
    else:
        name = getattr(value, "__module__", None)
    if not isinstance(name, str):
        return False
    package = name.split(".", maxsplit=1)[0]
    if package in (_PACKAGE, *sys.builtin_module_names):
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return file.startswith(_LIBRARIES)
