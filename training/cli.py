"""Helpers of the training commands: flags from a settings dataclass, and the commit that results record."""

import argparse
import os
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from blockrag import __version__

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


def commit() -> str:
    """``$BLOCKRAG_COMMIT``, or the checkout's commit (``-dirty`` if files differ), or ``unknown`` and the version."""
    given = os.environ.get("BLOCKRAG_COMMIT")
    if given:
        return given
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"unknown (release {__version__})"
