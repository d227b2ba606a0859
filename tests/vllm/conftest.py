"""Fixtures of the tests with vLLM. They are run by hand, in an environment of its own (see docs/guides/vllm.md):

OMP_NUM_THREADS=2 pytest -n 0 tests/vllm
"""

import random

import pytest

from tests.vllm.cases import NAMES, text_of


@pytest.fixture(scope="session")
def own():
    """Our own engine."""
    from tests.vllm.served import OwnEngine  # noqa: PLC0415  (imports vLLM)

    return OwnEngine()


@pytest.fixture(scope="session")
def cases(own):
    """Twenty prompts of 3 to 14 blocks, in any order."""
    draw = random.Random(0)
    picks = [draw.sample(NAMES, 3 + n * 11 // 19) for n in range(20)]
    return [own.case([text_of(n) for n in names], f"How long is the {names[len(names) // 2]}?") for names in picks]


@pytest.fixture(scope="session")
def expected(own, cases):
    return [own.ask(case) for case in cases]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """vLLM, with the adapter as LoRAs of both modes; only one can be in a process."""
    from blockrag.models.peft_format import export_peft  # noqa: PLC0415
    from blockrag.models.shipped import find_adapter  # noqa: PLC0415
    from tests.vllm.served import Server  # noqa: PLC0415

    loras = tmp_path_factory.mktemp("loras")
    for mode in ("block", "full"):
        export_peft(find_adapter("auto", "smollm2"), loras / mode, mode)
    return Server(tmp_path_factory.mktemp("kv"), loras)
