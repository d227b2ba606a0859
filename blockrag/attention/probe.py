"""A test of a model whose family is not verified, before it answers anything."""

from blockrag.attention.assemble import assemble
from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.attention.reference import reference_logits
from blockrag.errors import UnsupportedModelError
from blockrag.generate import last_logits
from blockrag.models.answer_model import AnswerModel

PREFIX, BLOCKS, FINAL = (9, 4), ((7, 11, 13, 5, 3, 17, 19, 23), (29, 31, 7, 37, 41, 5)), (43, 3, 47)
"""Small token ids, which every vocabulary has."""

TOLERANCE = 0.05
"""Largest difference, relative to the largest logit: far more than rounding in 16 bits, far less than what a wrong
rotation or mask gives."""


def check_exact(model: AnswerModel) -> None:
    """Compare a few logits over cached blocks with one dense pass under the block mask.

    Raises
    ------
    UnsupportedModelError
        If they differ: the model's attention is not what its configuration says.
    """
    prefix = encode_prefix(model, PREFIX)
    encoded = sorted(encode_blocks(model, BLOCKS, prefix), key=lambda block: block.number)
    parts = [prefix, *(block.kv for block in encoded)]
    n_tokens = sum(part.n_tokens for part in parts) + len(FINAL)
    found = last_logits(model, FINAL, assemble(parts, model.rope, model.kv_storage(n_tokens)), len(FINAL))
    expected = reference_logits(model, PREFIX, BLOCKS, FINAL)
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise UnsupportedModelError(
            f"{model.network.config.model_type}: over cached blocks its logits differ from those of one pass by "
            f"{difference:.0%}; its keys are rotated or masked in a way that its settings do not tell, so that block "
            "mode would answer wrongly. Use a model of a verified family."
        )
