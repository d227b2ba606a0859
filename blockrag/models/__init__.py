"""Where weights come from, and which models may use them.

Importing this package loads no model library; `blockrag.models.load` does.
"""

from blockrag.models.store import list_models, local_path, remove, weights_sha256

DEFAULT_MODEL = "smollm2"
DEFAULT_EMBEDDER = "minilm"

__all__ = ["DEFAULT_EMBEDDER", "DEFAULT_MODEL", "list_models", "local_path", "remove", "weights_sha256"]
