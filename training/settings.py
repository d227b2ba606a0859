"""Command-line flags from the fields of a dataclass, and the dataclass from parsed flags."""

import argparse
from dataclasses import fields
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def add_flags(parser: argparse.ArgumentParser, settings: type) -> None:
    """Add one flag per field; the field's metadata has its ``help``."""
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
    """The settings from parsed flags.

    Raises
    ------
    ValueError
        From the dataclass, if a value is out of range.
    """
    given: dict[str, Any] = {}
    for each in fields(settings):  # type: ignore[arg-type]
        value = getattr(args, each.name)
        given[each.name] = tuple(value) if isinstance(value, list) else value
    return settings(**given)
