"""Tests and code in two processes: the code answers by message, and the tests decide.

    program's process: the tests (`Names`, `Remote`) ── pipes ── its child: the code (`answer`)

Enters: the code's parts, in a process of their own. Leaves: what its names, calls and objects give.
Refuses to know: what the tests claim. The code's process never holds the word of success, nor a file
that it could be said to; whatever the code does there, only an answer of its own can make a test pass.

Plain values are carried whole, in a format that makes nothing but values. Any other object stays with
the code, and what is done to it is done there (`OPERATIONS`). It equals no plain value, whatever its
`__eq__` says; one of a class derived from a plain type equals what its plain part equals. Its other
operators, such as `<` and `-`, its length and its items are the code's own and may lie.
"""

from __future__ import annotations

import builtins
import math
import operator
import os
import sys

from agentloop.checks.account import Parts, account

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

HEADER = 8  # bytes that say how long a message is
NAMED = (
    "builtins",
    "collections",
    "datetime",
    "decimal",
    "fractions",
    "itertools",
    "math",
    "operator",
)
VALUES = (
    "array.array",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.deque",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "decimal.Decimal",
    "fractions.Fraction",
)
PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    complex: lambda v: complex(complex.real.__get__(v), complex.imag.__get__(v)),
    str: str.__str__,
    bytes: lambda v: bytes.__getitem__(v, slice(None)),
    tuple: lambda v: tuple.__getitem__(v, slice(None)),
    list: list.copy,
    dict: dict.copy,
    set: lambda v: set(set.__iter__(v)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
    type({}.keys()): set,
    type({}.items()): set,
}
SEQUENCES: dict[str, type] = {"l": list, "t": tuple, "S": set, "f": frozenset}
SIGNS = {kind: sign for sign, kind in SEQUENCES.items()}
CHANGING = (list, dict, set, bytearray)

UNARY: dict[str, Callable[..., Any]] = {
    "bool": bool,
    "complex": complex,
    "float": float,
    "hash": hash,
    "int": int,
    "iter": iter,
    "len": len,
    "next": next,
    "repr": repr,
    "reversed": reversed,
    "str": str,
    "ceil": math.ceil,
    "floor": math.floor,
    "trunc": math.trunc,
    **{name: getattr(operator, name) for name in ("abs", "index", "invert", "neg", "pos")},
}
SUMS = ("add", "and", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow", "rshift", "sub")
TWO_SIDED = {name: getattr(operator, f"__{name}__") for name in (*SUMS, "truediv", "xor")} | {
    "divmod": divmod
}
BINARY: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("ge", "gt", "le", "lt")},
    **{name: getattr(operator, name) for name in ("contains", "getitem", "setitem", "delitem")},
    "format": format,
    "round": round,
    "instancecheck": lambda kind, value: isinstance(value, kind),
    **TWO_SIDED,
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **UNARY,
    **BINARY,
    "call": lambda called, *arguments, **named: called(*arguments, **named),
    "eq": operator.eq,
    "getattr": getattr,
    "setattr": setattr,
}


class Beyond(BaseException):
    """A test hands the code something that cannot be carried to it, such as a function."""


class Raised(Exception):
    """The code raised what is no exception of Python's own."""


class Closed(BaseException):
    """The other end of a link is closed."""


class Kept:
    """What one side cannot carry: the code keeps and numbers it, a test has a `Remote` for it."""

    def keep(self, value: object) -> str:
        """Return the message for an object that is not carried."""
        raise Beyond

    def find(self, number: int, shadow: object) -> object:
        """Return the object for a number in a message."""
        raise LookupError(number)  # nothing is kept here


def carried(value: Any, kept: Kept) -> str:
    """Return a value as a message; RecursionError for one that holds itself."""
    kind = type(value)
    if value is None or kind is bool:
        return {None: "n", True: "T", False: "F"}[value]
    if kind is int:
        return f"i{value:x};"
    if kind is float:
        return f"d{value.hex()};"
    if kind is str:
        return f"s{len(value)};{value}"
    if kind in SIGNS:
        return f"{SIGNS[kind]}{len(value)};" + "".join([carried(v, kept) for v in value])
    if kind is dict:
        both = [carried(side, kept) for pair in value.items() for side in pair]
        return f"D{len(both)};{''.join(both)}"
    if kind is bytes or kind is bytearray:
        return f"{'b' if kind is bytes else 'B'}{len(value)};{value.decode('latin-1')}"
    if kind is complex:
        return f"c{value.real.hex()};{value.imag.hex()};"
    if kind is range:
        return f"r{carried((value.start, value.stop, value.step), kept)}"
    return _known(value, kept) or kept.keep(value)


def _known(value: Any, kept: Kept) -> str:
    """Return the message for a value, a class, a function or a module of Python's own library."""
    if type(value) is type(sys):
        known = value.__name__.partition(".")[0] in sys.stdlib_module_names
        return f"m{value.__name__};" if known and sys.modules.get(value.__name__) is value else ""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in VALUES and getattr(sys.modules[kind.__module__], kind.__qualname__, None) is kind:
        parts = (*value.__reduce_ex__(2), None, None, None)[:5]
        made = (name, parts[1], list(parts[3] or ()), list(parts[4] or ()))
        return f"v{carried(made, kept)}"
    if kind is type or kind is type(len):
        module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
        if module in NAMED and getattr(sys.modules.get(module), name, None) is value:
            return f"m{module};" if not name else f"g{module};{name};"
    return ""


class Reader:
    """Makes the values of one message; ValueError, IndexError and others where it is none."""

    def __init__(self, text: str, kept: Kept):
        self.text = text
        self.at = 0
        self.kept = kept

    def word(self) -> str:
        """Return the text up to the next semicolon."""
        end = self.text.index(";", self.at)
        found, self.at = self.text[self.at : end], end + 1
        return found

    def piece(self) -> str:
        """Return a text whose length stands before it."""
        length = int(self.word())
        if not 0 <= length <= len(self.text) - self.at:
            raise ValueError("a message ends early")
        self.at += length
        return self.text[self.at - length : self.at]

    def many(self) -> list[Any]:
        """Return values whose number stands before them."""
        return [self.value() for _ in range(int(self.word()))]

    def value(self) -> Any:
        """Return the value that comes next."""
        sign = self.text[self.at]
        self.at += 1
        if sign in "nTF":
            return {"n": None, "T": True, "F": False}[sign]
        if sign in SEQUENCES:
            return _ordered(SEQUENCES[sign], self.many())
        return _READ[sign](self)

    def pairs(self) -> dict[Any, Any]:
        """Return a dict."""
        both = self.many()
        return dict(zip(both[::2], both[1::2], strict=True))

    def made(self) -> Any:
        """Return a value of one of `VALUES`."""
        name, arguments, items, pairs = self.value()
        module, _, kind = name.partition(".")
        if name not in VALUES:
            raise ValueError("no such value")
        value = getattr(__import__(module), kind)(*arguments)
        if items:
            value.extend(items)
        for key, one in pairs:
            value[key] = one
        return value

    def module(self) -> Any:
        """Return a module of Python's own library."""
        name = self.word()
        if name.partition(".")[0] not in sys.stdlib_module_names:
            raise ValueError("no such module")
        __import__(name)
        return sys.modules[name]

    def named(self) -> Any:
        """Return a class or function of one of the modules `NAMED`."""
        module, name = self.word(), self.word()
        if module not in NAMED:
            raise ValueError("no such name")
        return getattr(__import__(module), name)


_READ: dict[str, Callable[[Reader], Any]] = {
    "i": lambda r: int(r.word(), 16),
    "d": lambda r: float.fromhex(r.word()),
    "s": lambda r: r.piece(),
    "b": lambda r: r.piece().encode("latin-1"),
    "B": lambda r: bytearray(r.piece().encode("latin-1")),
    "D": Reader.pairs,
    "c": lambda r: complex(float.fromhex(r.word()), float.fromhex(r.word())),
    "r": lambda r: range(*r.value()),
    "v": Reader.made,
    "m": Reader.module,
    "g": Reader.named,
    "o": lambda r: r.kept.find(int(r.word()), r.value()),
}


class Ordered(set):  # type: ignore[type-arg]
    """A set that is walked in the order in which the code's own is."""

    order: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order if len(self.order) == len(self) else list(set.__iter__(self)))


def _ordered(kind: type, values: list[Any]) -> Any:
    """Return a list, tuple or set; the order of a set's members depends on how it came about."""
    made = kind(values)
    if kind is set and list(made) != values:
        made = Ordered(values)
        made.order = values
    return made


class Link:
    """One end of the two pipes."""

    def __init__(self, read: int, write: int):
        self.files = read, write

    def send(self, text: str) -> None:
        """Send a message."""
        data = text.encode("utf-8", "surrogatepass")
        data = len(data).to_bytes(HEADER, "big") + data
        while data:
            data = data[os.write(self.files[1], data) :]

    def receive(self) -> str:
        """Return a message; Closed when the other end is."""
        length = int.from_bytes(self._bytes(HEADER), "big")
        return self._bytes(length).decode("utf-8", "surrogatepass")

    def _bytes(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            chunk = os.read(self.files[0], min(length - len(found), 1 << 20))
            if not chunk:
                raise Closed
            found += chunk
        return bytes(found)

    def close(self) -> None:
        """Close this end."""
        for file in self.files:
            os.close(file)


class Code(Kept):
    """The code's side: its module, and the objects that the tests know by number."""

    def __init__(self, link: Link):
        self.link = link
        self.objects: list[object] = []
        module = type(sys)("candidate")
        sys.modules["candidate"] = sys.modules["__main__"] = module
        self.space = module.__dict__
        self.space["__builtins__"] = builtins

    def keep(self, value: object) -> str:
        """Number an object, and send its plain part with the number."""
        plain = next((PLAIN[kind] for kind in type(value).__mro__ if kind in PLAIN), None)
        shadow = plain(value) if plain else None
        self.objects.append(value)
        return f"o{len(self.objects) - 1};{carried(shadow, self)}"

    def find(self, number: int, shadow: object) -> object:
        """Return the object of a number."""
        return self.objects[number]

    def load(self, parts: Parts) -> None:
        """Run the code's parts, and say so; the builtins are put back after each."""
        saved = dict(vars(builtins))
        for name, source in parts:
            exec(compile(source, f"<{name}>", "exec", dont_inherit=True), self.space)  # noqa: S102
            vars(builtins).update(saved)
            self.space["__builtins__"] = builtins
        self.link.send(carried((True, None, None), self))

    def reply(self, parts: Parts) -> None:
        """Do what a message asks for."""
        name, arguments, named = Reader(self.link.receive(), self).value()
        before = [carried(a, self) for a in arguments if type(a) in CHANGING]
        if name == "global":
            result = (arguments[0] in self.space, self.space.get(arguments[0]))
        elif name == "assign":
            self.space.update([arguments] if arguments[0] in self.space else [])
            result = None
        elif name == "hush":
            flush()
            sys.stdout = sys.stderr = None
            result = None
        else:
            result = OPERATIONS[name](*arguments, **named)
        after = [a for a in arguments if type(a) in CHANGING]
        same = before == [carried(a, self) for a in after]
        self.link.send(carried((True, result, None if same else after), self))


def answer(link: Link, parts: Parts) -> NoReturn:
    """Run the code, then answer until nobody asks; in the code's process."""
    leave, spare = os._exit, [bytearray(1 << 20)]
    code = Code(link)
    step: Callable[[Parts], None] = code.load
    while True:
        try:
            step(parts)
        except Closed:
            flush()
            leave(0)
        except BaseException as error:
            spare.clear()  # so that running out of memory can be told
            _tell(link, error, parts)
        step = code.reply


def _tell(link: Link, error: BaseException, parts: Parts) -> None:
    told = account(error, parts)
    link.send(carried((False, type(error).__name__, told), Kept()))


def flush() -> None:
    """Write out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 - a program may have closed or replaced them
            continue
