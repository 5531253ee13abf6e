"""Reads a pickle as data: no name in it is ever imported and nothing in it is ever called.

Python's `pickle` runs whatever function the file names. Here the instructions are listed by
`pickletools` and carried out by a small machine that knows lists, tuples, dictionaries,
numbers and text. Where a file asks for a class or function, the machine asks the caller, who
answers with plain data or refuses.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

_LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    ]
)
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_MARK = object()


class PickleRefusedError(Exception):
    """The pickle asks for something that is not plain data; the text says for what."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function the pickle names, such as "collections.OrderedDict"."""

    name: str


def read_pickle(
    stream: IO[bytes],
    *,
    call: Callable[[str, tuple[object, ...]], object],
    load_persistent: Callable[[object], object],
) -> object:
    """Read one pickle from where the stream stands; leaves the stream just behind it.

    Parameters
    ----------
    stream : binary file
    call : function (name, arguments) -> object
        Stands in for calling what the pickle names. Raises `PickleRefusedError` for names
        that it does not know.
    load_persistent : function (identifier) -> object
        Stands in for an object that is stored outside of the pickle.

    Returns
    -------
    object
        Made of lists, tuples, dictionaries, numbers, text, `Global`, and what `call` and
        `load_persistent` return.

    Raises
    ------
    PickleRefusedError
        An instruction or a name is not allowed.
    ValueError
        The pickle is damaged.

    Examples
    --------
    >>> import io, pickle
    >>> def refuse(name, arguments):
    ...     raise PickleRefusedError(name)
    >>> read_pickle(io.BytesIO(pickle.dumps({"a": [1, 2.5]})), call=refuse, load_persistent=str)
    {'a': [1, 2.5]}
    >>> read_pickle(io.BytesIO(pickle.dumps(range(3))), call=refuse, load_persistent=str)
    Traceback (most recent call last):
        ...
    blemish.backbones.restricted_pickle.PickleRefusedError: builtins.range
    """
    machine = _Machine(call, load_persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # odd escapes in damaged text
            for opcode, argument, _ in pickletools.genops(stream):
                machine.step(opcode.name, argument)
        return machine.result()
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__})") from error


class _Machine:
    """The stack and the memo of the pickle format."""

    def __init__(
        self,
        call: Callable[[str, tuple[object, ...]], object],
        load_persistent: Callable[[object], object],
    ) -> None:
        self._call = call
        self._load_persistent = load_persistent
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        self._steps: dict[str, Callable[[], None]] = {
            "PROTO": _nothing,
            "FRAME": _nothing,
            "STOP": _nothing,
            "MARK": lambda: self._stack.append(_MARK),
            "MEMOIZE": lambda: self._put(len(self._memo)),
            "TUPLE": lambda: self._stack.append(tuple(self._pop_to_mark())),
            "LIST": lambda: self._stack.append(self._pop_to_mark()),
            "DICT": self._dict,
            "APPEND": lambda: self._extend([self._stack.pop()]),
            "APPENDS": lambda: self._extend(self._pop_to_mark()),
            "SETITEM": lambda: self._set_items([self._stack.pop(-2), self._stack.pop()]),
            "SETITEMS": lambda: self._set_items(self._pop_to_mark()),
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._reduce,
            "NEWOBJ": self._reduce,
            "BUILD": self._build,
            "BINPERSID": lambda: self._stack.append(self._load_persistent(self._stack.pop())),
        }

    def step(self, name: str, argument: object) -> None:
        """Carry out one instruction."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            items = tuple(self._stack.pop() for _ in range(count))
            self._stack.append(items[::-1])
        elif name in _PUTS:
            self._put(int(str(argument)))
        elif name in _GETS:
            self._stack.append(self._memo[int(str(argument))])
        elif name == "GLOBAL":
            self._stack.append(Global(str(argument).replace(" ", ".", 1)))
        elif name in self._steps:
            self._steps[name]()
        else:
            raise PickleRefusedError(f"the pickle instruction {name}")

    def result(self) -> object:
        """Return the one object left on the stack."""
        (found,) = self._stack
        return found

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _pop_to_mark(self) -> list[object]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _dict(self) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._set_items(items)

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise TypeError("items for something that is no list")
        target.extend(items)

    def _set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("entries for something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise PickleRefusedError(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(Global(f"{module}.{name}"))

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that is no name")
        self._stack.append(self._call(function.name, arguments))

    def _build(self) -> None:
        """Drop the attributes of an OrderedDict: torch keeps format versions there."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise PickleRefusedError(f"setting attributes of a {type(self._stack[-1]).__name__}")


def _nothing() -> None:
    """Framing: nothing to do."""
