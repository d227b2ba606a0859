"""The block mask: which token may see which.

Block attention, arXiv 2409.15355, section 2.2: a block's tokens see the earlier tokens of their own block; the final
block's tokens see everything before them.
"""

from collections.abc import Sequence

import torch


def strict_isolation(n_parts: int) -> torch.Tensor:
    """Which parts see which: each sees itself, the last sees all. Bool, shape ``(n_parts, n_parts)``, row = query."""
    sees = torch.eye(n_parts, dtype=torch.bool)
    sees[-1] = True
    return sees


def block_mask(lengths: Sequence[int], sees: torch.Tensor | None = None) -> torch.Tensor:
    """Dense mask of one prompt: the specification that every fast path is tested against.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each part in prompt order, sinks included: prefix, blocks, final block. 0 is an absent part.
    sees : torch.Tensor, optional
        Bool, shape ``(len(lengths), len(lengths))``; `strict_isolation` by default.

    Returns
    -------
    torch.Tensor
        Bool, shape ``(tokens, tokens)``: row = query, column = key, True = may be seen.

    Examples
    --------
    Prefix of 1 token, two blocks of 2, final block of 1:

    >>> block_mask([1, 2, 2, 1]).int()
    tensor([[1, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0],
            [0, 1, 1, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 1, 0],
            [1, 1, 1, 1, 1, 1]], dtype=torch.int32)
    """
    sees = strict_isolation(len(lengths)) if sees is None else sees
    part = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(list(lengths)))
    return sees[part][:, part].tril()
