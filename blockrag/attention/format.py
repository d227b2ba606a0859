"""The block format: block sinks, and whether blocks see the prefix.

Both belong to the adapter that was trained with them, since both change every block KV. The plain format (no sinks,
strict isolation) is block attention as arXiv 2409.15355 defines it; sinks are those of arXiv 2605.15913.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

BLOCK_FORMAT = "block_format.json"
"""File that describes the blocks of a folder of weights for other engines; see `write_format`."""


@dataclass(frozen=True)
class BlockFormat:
    """What precedes every block, and what a block may see.

    Attributes
    ----------
    sink_ids : tuple of int
        Literal sink tokens; empty where there are none or they are learned.
    sink_embeddings : torch.Tensor or None
        Learned sinks, shape ``(n_sinks, hidden_size)``.
    prefix_visible : bool
        Whether blocks attend to the prefix.
    adapter : str
        Hash of the changes that the adapter makes to the base's weights; empty without an adapter.

    Raises
    ------
    ValueError
        If both kinds of sinks are given.
    """

    sink_ids: tuple[int, ...] = ()
    sink_embeddings: torch.Tensor | None = None
    prefix_visible: bool = False
    adapter: str = ""

    def __post_init__(self) -> None:
        if self.sink_ids and self.sink_embeddings is not None:
            raise ValueError("sinks are literal tokens or learned embeddings, not both")

    @property
    def n_sinks(self) -> int:
        """Tokens put before every block."""
        return len(self.sink_ids) if self.sink_embeddings is None else len(self.sink_embeddings)

    @property
    def digest(self) -> str:
        """Hash of sinks, visibility and adapter, 64 hexadecimal digits; part of every KV key (rule 6)."""
        learned = [] if self.sink_embeddings is None else self.sink_embeddings.float().tolist()
        parts = [self.sink_ids, learned, self.prefix_visible, *([self.adapter] if self.adapter else [])]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


PLAIN = BlockFormat()


def write_format(folder: Path, sink_ids: tuple[int, ...], prefix_visible: bool, digest: str) -> None:
    """Write the file `BLOCK_FORMAT`: the literal sinks before every block, whether blocks see the prefix, and the
    digest of the format, which is part of every KV key."""
    told = {"sinks": list(sink_ids), "prefix_visible": prefix_visible, "digest": digest}
    (folder / BLOCK_FORMAT).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_format(folder: Path) -> BlockFormat:
    """The format of a merged checkpoint, whose sinks are literal; `PLAIN` if the folder does not describe any."""
    path = folder / BLOCK_FORMAT
    if not path.exists():
        return PLAIN
    told = json.loads(path.read_text(encoding="utf-8"))
    return BlockFormat(tuple(told["sinks"]), prefix_visible=told["prefix_visible"])
