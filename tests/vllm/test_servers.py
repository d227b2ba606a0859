# ruff: noqa: E402
"""Two servers over HTTP on one store: what one encoded the other uses, also after the first was killed."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: requirements-vllm.txt")


from blockrag.errors import ServerError
from blockrag.generate import Sampling
from blockrag.models import local_path
from blockrag.models.load import describe_answer_model
from blockrag.models.peft_format import export_peft
from blockrag.models.shipped import find_adapter
from blockrag.pipeline import Pipeline
from blockrag.vllm.client import VLLMClient
from blockrag.vllm.engine import ServedEngine
from tests.samples import BOUNDS, CITIES
from tests.tiny import WordEmbedder

START_S = 600


@contextmanager
def serving(loras, **extra):
    """A server process, killed at the end as a crash would; yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transfer = {
        "kv_connector": "BlockRAGConnector",
        "kv_connector_module_path": "blockrag.vllm.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": extra,
    }
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port),
        "--model", str(local_path("smollm2")), "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048",
        "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2",
        "--lora-modules", f"block={loras}/block", f"full={loras}/full", "--kv-transfer-config", json.dumps(transfer),
    ]  # fmt: skip
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while not _is_up(url):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _is_up(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except OSError:
        return False


def engine_of(url):
    adapter = find_adapter("auto", "smollm2")
    model = describe_answer_model("smollm2", adapter=adapter)
    return ServedEngine(VLLMClient(url, (), adapter.prefix_visible), model, WordEmbedder(), "smollm2-135m")


def ask(pipeline, mode="block"):
    *_, answer = pipeline.ask("Which river flows through Rome?", mode, 3, 12)
    return answer


@pytest.mark.slow
def test_what_one_server_encoded_another_uses(tmp_path, own):
    loras, store = tmp_path / "loras", tmp_path / "store"
    for mode in ("block", "full"):
        export_peft(find_adapter("auto", "smollm2"), loras / mode, mode)
    remote = store.as_uri()
    with serving(loras, kv_dir=str(tmp_path / "kv"), kv_remote=remote) as url:
        pipeline = Pipeline.open(engine_of(url), tmp_path / "index")
        pipeline.add(pipeline.segment(CITIES, bounds=BOUNDS), 1.0)
        first, full = ask(pipeline), ask(pipeline, "full")
        case = own.case([source.text for source in first.sources], "Which river flows through Rome?")
        ours = own.ask(case, n=12)
        text = own.model.tokenizer.decode(ours.token_ids, skip_special_tokens=True)
        assert text.startswith(first.text) and full.text and first.report.path == full.report.path == "vllm"
        missing = VLLMClient(url, (), True)
        with pytest.raises(ServerError):
            list(missing.answer(case.prefix, [[1, 2, 3]], case.final, 2, Sampling()))
        assert ask(pipeline).text == first.text
        pipeline.index.close()
    files = {path.name for path in store.rglob("*.safetensors")}
    assert len(files) >= 4, "the prefix and the blocks"
    with serving(loras, kv_remote=remote) as url:
        engine = engine_of(url)
        client = engine.server
        blocks = [engine.prompt.block_ids(source.text) for source in first.sources]
        answer = list(client.answer(engine.prompt.prefix_ids, blocks, case.final, 12, Sampling()))
        assert answer[: len(ours.token_ids)] == ours.token_ids[: len(answer)], "nothing was encoded here"
    assert {path.name for path in store.rglob("*.safetensors")} == files
