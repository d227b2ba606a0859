"""Checks of arguments where they enter the library. Each error says what was given and what is allowed."""

import operator
import os
import re
import reprlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

from blockrag.errors import ArgumentError

T = TypeVar("T")

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 1 << 10,
    "MI": 1 << 20,
    "GI": 1 << 30,
    "TI": 1 << 40,
}
LONGEST_PATH, LONGEST_NAME = 4095, 255
"""Bytes of a path and of each name in it, on Linux; a longer one is a text that was given as a path."""

_HALF = re.compile("[\ud800-\udfff]")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", re.IGNORECASE)


def shown(value: Any) -> str:
    """Return `value` as an error tells it, shortened."""
    return reprlib.repr(value) if not isinstance(value, str) or len(value) > 200 else repr(value)


def one_of(name: str, value: Any, allowed: Collection[str]) -> Any:
    """Return `value` if it is one of the strings `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"{name} is {shown(value)}; give one of {', '.join(map(repr, allowed))}")
    return value


def whole(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return `value` as an int if it is a whole number in [low, high]."""
    bounds = f"from {low} up" if high is None else f"from {low} to {high}"
    try:
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ArgumentError(f"{name} is {shown(value)}; give a whole number {bounds}")
    return number


def fraction(name: str, value: Any) -> float:
    """Return `value` as a float if it is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {shown(value)}; give a number from 0 to 1")
    return float(value)


def filled(name: str, value: Any) -> str:
    """Return `value` if it is a string with more than white space."""
    if not isinstance(value, str) or not value.strip():
        raise ArgumentError(f"{name} is {shown(value)}; give a text that is not empty")
    return value


def text(name: str, value: Any, most: int | None = None) -> str:
    """Return `value` if it is a string of whole characters, at most `most`."""
    if not isinstance(value, str):
        raise ArgumentError(f"{name} is {shown(value)}; give a text")
    if most is not None and len(value) > most:
        raise ArgumentError(f"{name} has {len(value):,} characters; give at most {most:,}")
    if half := _HALF.search(value):
        raise ArgumentError(
            f"{name} has half of a character (a lone surrogate) at offset {half.start()}; give whole ones"
        )
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Return a collection of strings as a tuple; one string is refused, as it would be read letter by letter."""
    if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(each, str) for each in value):
        raise ArgumentError(f"{name} is {value!r}; give a list of texts")
    return tuple(value)


def instance(name: str, value: Any, kind: type[T]) -> T:
    """Return `value` if it is an instance of `kind`."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ArgumentError(f"{name} is {shown(value)}; give {article} {kind.__name__}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} is {shown(value)}; give True or False")
    return value


def seconds(name: str, value: Any) -> float:
    """Return `value` as a float if it is a number of seconds from 0 up."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ArgumentError(f"{name} is {shown(value)}; give seconds, from 0 up")
    return float(value)


def function(name: str, value: Any) -> Any:
    """Return `value` if it is callable or None."""
    if value is not None and not callable(value):
        raise ArgumentError(f"{name} is {shown(value)}; give a function")
    return value


def encoding(name: str, value: Any) -> str | None:
    """Return `value` if it is None or a text encoding that Python knows."""
    try:
        "".encode(value or "utf-8")
    except (LookupError, TypeError, ValueError) as error:
        told = f"{name} is {shown(value)}; give a text encoding such as utf-8, cp1252 or shift_jis"
        raise ArgumentError(told) from error
    return value


def path_of(name: str, value: Any, what: str = "the path of a file") -> Path:
    """Return a path with ``~`` expanded. An empty one is refused: it would mean the current folder."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ArgumentError(f"{name} is {shown(value)}; give {what}")
    try:
        found = Path(value).expanduser()
    except RuntimeError as error:
        raise ArgumentError(f"{name} is {shown(str(value))}; {error}") from error
    encoded = str(found).encode("utf-8", "surrogatepass")
    if len(encoded) > LONGEST_PATH or max(map(len, encoded.split(os.sep.encode()))) > LONGEST_NAME:
        raise ArgumentError(f"{name} is {shown(str(value))}, which is too long for a path; give {what}")
    return found


def folder(name: str, value: Any) -> Path:
    """Return a path to a folder, with ``~`` expanded. It need not exist; a file is refused."""
    found = path_of(name, value, "the path of a folder")
    if found.exists() and not found.is_dir():
        raise ArgumentError(f"{name} is {shown(str(value))}, which is a file; give the path of a folder")
    return found


def secret(name: str, value: Any) -> bytes:
    """Return the secret in a file, at least 16 bytes without the white space around it."""
    try:
        found = Path(value).expanduser().read_bytes().strip()
    except (OSError, TypeError) as error:
        raise ArgumentError(f"{name} is {shown(value)}; give the path of a file ({error})") from error
    if len(found) < 16:
        raise ArgumentError(
            f"the file of {name} has {len(found)} bytes; give at least 16, such as of `openssl rand -hex 32`"
        )
    return found


def nbytes(name: str, value: Any) -> int | None:
    """Return a number of bytes given as an int, as text such as ``"2GB"`` or ``"512 MiB"``, or as None (no limit)."""
    if value is None:
        return None
    if isinstance(value, str) and (size := _SIZE.fullmatch(value)):
        return int(float(size[1]) * _UNITS[(size[2] or "").upper()])
    if isinstance(value, (str, bool)) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ArgumentError(
            f"{name} is {shown(value)}; give bytes as a number, a size such as '2GB', or None for no limit"
        )
    return int(value)


def known(function: str, given: Iterable[str], allowed: Collection[str], hint: str = "") -> None:
    """Raise TypeError in the name of a public `function` if a keyword argument is not `allowed`."""
    for name in given:
        if name not in allowed:
            raise TypeError(
                f"{function}() got an unexpected keyword argument {name!r}; it takes {', '.join(sorted(allowed))}"
                + (f". {hint}" if hint else "")
            )
