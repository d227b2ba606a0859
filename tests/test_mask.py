"""The block mask, row by row."""

import torch

from blockrag.attention.mask import block_mask


def test_hand_computed_rows():
    mask = block_mask([2, 3, 1, 2])
    assert mask[1].tolist() == [True, True] + [False] * 6, "the prefix sees itself"
    assert mask[4].tolist() == [False] * 2 + [True] * 3 + [False] * 3, "a block sees itself up to the token"
    assert mask[5].tolist() == [False] * 5 + [True] + [False] * 2, "a block of one token sees that token"
    assert mask[6].tolist() == [True] * 7 + [False], "the final block sees all before it"


def test_an_absent_prefix_changes_nothing():
    assert torch.equal(block_mask([0, 3, 2]), block_mask([3, 2]))


def test_one_block_is_ordinary_causal_attention():
    assert torch.equal(block_mask([5]), torch.ones(5, 5, dtype=torch.bool).tril())
    assert torch.equal(block_mask([4, 3])[4:], torch.ones(7, 7, dtype=torch.bool).tril()[4:])


def test_a_block_may_be_shown_another():
    sees = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    assert torch.equal(block_mask([2, 2, 1], sees), torch.ones(5, 5, dtype=torch.bool).tril())
