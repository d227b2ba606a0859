"""Models: where their weights come from, which are supported, and which one a machine gets.

Importing this package loads no model library; `blockrag.models.load` does.
"""

from blockrag.models.choose import AUTO, choose_model
from blockrag.models.store import list_models, local_path, remove, weights_sha256

DEFAULT_MODEL = AUTO
DEFAULT_EMBEDDER = "minilm"

__all__ = [
    "AUTO",
    "DEFAULT_EMBEDDER",
    "DEFAULT_MODEL",
    "choose_model",
    "list_models",
    "local_path",
    "remove",
    "weights_sha256",
]
