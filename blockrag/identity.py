"""Identity of the block KVs that a model makes with its prompt (rule 6). Knows no store."""

from blockrag.kv.key import KVIdentity
from blockrag.models.answer_model import AnswerModel
from blockrag.prompt import Prompt


def kv_identity(model: AnswerModel) -> KVIdentity:
    """Identity of the block KVs that `model` makes with its prompt (rule 6)."""
    prefix = Prompt(model.tokenizer).prefix_ids if model.format.prefix_visible else ()
    return KVIdentity(model.weights_id, model.format.digest, prefix, str(model.dtype).removeprefix("torch."))
