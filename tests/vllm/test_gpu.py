# ruff: noqa: E402
"""Block mode on GPUs: bfloat16, CUDA graphs, and heads spread over two. Not run yet where this was written.

On a machine with GPUs and vLLM: pytest -n 0 tests/vllm/test_gpu.py
"""

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: requirements-vllm.txt")

from benchmarks.serve import serving
from blockrag.models import local_path
from blockrag.models.peft_format import export_peft
from blockrag.models.shipped import find_adapter
from tests.vllm.cases import WRONG
from tests.vllm.served import answered, client_of, difference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

TOLERANCES = {"float32": 1e-3, "bfloat16": 0.15}
"""Our own engine computes in float32 on the CPU."""


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "graphs"])
@pytest.mark.parametrize("n_ranks", [1, 3])  # SmolLM2 has three KV heads
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_block_mode_on_gpus(dtype, n_ranks, eager, tmp_path, own, cases, expected):
    if torch.cuda.device_count() < n_ranks:
        pytest.skip(f"needs {n_ranks} GPUs")
    export_peft(find_adapter("auto", "smollm2"), tmp_path / "block", "block")
    flags = [
        "--dtype", dtype, "--max-model-len", "2048", "--enable-lora", "--max-lora-rank", "64", "--lora-modules",
        f"block={tmp_path / 'block'}", "--tensor-parallel-size", str(n_ranks), *(["--enforce-eager"] if eager else []),
    ]  # fmt: skip
    settings = {"kv_dir": str(tmp_path / "kv"), "allow_untested": True}
    with serving(str(local_path("smollm2")), *flags, connector=settings) as url:
        for case in cases:
            client_of(url).ensure(case.prefix, case.blocks)
        before = [answered(url, case, block_mode=False) for case in cases[:3]]
        for case, ours in zip(cases, expected, strict=True):
            answer = answered(url, case, block_mode=True)
            assert difference(answer, ours) < TOLERANCES[dtype]
            if dtype == "float32":
                assert answer.token_ids == ours.token_ids
        for case, full, ours in zip(cases, before, expected, strict=False):
            again = answered(url, case, block_mode=False)
            assert difference(again, full) < TOLERANCES[dtype] and difference(again, ours) > WRONG
