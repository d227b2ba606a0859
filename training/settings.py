"""Settings of a run as flags: one flag for each field of a dataclass, and the dataclass from what was given."""

import argparse
from dataclasses import fields
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def add_flags(parser: argparse.ArgumentParser, settings: type) -> None:
    """One flag a field; its ``help`` is the field's metadata."""
    for each in fields(settings):
        flag, default = "--" + each.name.replace("_", "-"), each.default
        options: dict[str, Any] = {"help": f"{each.metadata['help']} (default: {default})", "default": default}
        if isinstance(default, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, tuple):
            options |= {"nargs": len(default), "type": type(default[0])}
        else:
            options["type"] = type(default)
        parser.add_argument(flag, **options)


def from_flags(args: argparse.Namespace, settings: type[Settings]) -> Settings:
    """The settings that were given.

    Raises
    ------
    ValueError
        What the dataclass raises where a value is out of its range.
    """
    given: dict[str, Any] = {}
    for each in fields(settings):  # type: ignore[arg-type]
        value = getattr(args, each.name)
        given[each.name] = tuple(value) if isinstance(value, list) else value
    return settings(**given)
