"""The Hugging Face hub -> a folder of its cache. Knows no catalog."""

from pathlib import Path

from blockrag.errors import WeightsError

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What is taken: no file that would have to be unpickled."""

TWICE = ["consolidated*"]
"""What is left out: the same weights again, as their maker's own code wants them."""


def fetch_from_hub(name: str) -> Path:
    """Folder of the model `name` (``org/name``); without a network, of what the hub's cache has of it.

    Raises
    ------
    WeightsError
        If the hub has no such model or cannot be reached, and its cache has it not either.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (slow to import, rarely needed)

    try:
        return Path(snapshot_download(name, allow_patterns=FILES, ignore_patterns=TWICE))
    except (OSError, ValueError) as error:  # the hub's own errors are among these
        raise WeightsError(
            f"{name} cannot be had from the Hugging Face hub, nor from its cache here: {error}. Check the name and the "
            "network, or give a folder."
        ) from error
