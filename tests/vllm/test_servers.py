# ruff: noqa: E402
"""Servers over HTTP on one store: what one encoded the others use, also after it was killed."""

import threading
from contextlib import ExitStack

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: requirements-vllm.txt")

from benchmarks.serve import serving
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
from tests.vllm.cases import NAMES, TOLERANCE, text_of
from tests.vllm.served import Answered, Case, OwnEngine, answered, client_of, difference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Starts a server of SmolLM2 with its LoRAs."""
    loras = tmp_path_factory.mktemp("loras")
    for mode in ("block", "full"):
        export_peft(find_adapter("auto", "smollm2"), loras / mode, mode)
    flags = [
        "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--enable-lora", "--max-lora-rank", "64",
        "--max-loras", "2", "--lora-modules", f"block={loras}/block", f"full={loras}/full",
    ]  # fmt: skip
    return lambda environment=None, **settings: serving(
        str(local_path("smollm2")), *flags, connector=settings, **(environment or {})
    )


def engine_of(url):
    model = describe_answer_model("smollm2", adapter=find_adapter("auto", "smollm2"))
    return ServedEngine(client_of(url), model, WordEmbedder(), "smollm2-135m")


def assert_same(answer: Answered, ours: Answered):
    assert difference(answer, ours) < TOLERANCE and answer.token_ids == ours.token_ids


def ask(pipeline, mode="block"):
    *_, answer = pipeline.ask("Which river flows through Rome?", mode, 3, 12)
    return answer


def test_a_restarted_server_answers_from_a_warm_folder(serve, tmp_path, own, cases, expected):
    """Twenty prompts, ordinary requests before and after, and the application's own pipeline."""
    store = {"kv_dir": str(tmp_path / "kv"), "kv_remote": (tmp_path / "store").as_uri()}
    with serve(**store) as url:
        before = [answered(url, case, block_mode=False) for case in cases[:3]]
        pipeline = Pipeline.open(engine_of(url), tmp_path / "index")
        pipeline.add(pipeline.segment(CITIES, bounds=BOUNDS), 1.0)
        first, full = ask(pipeline), ask(pipeline, "full")
        case = own.case([source.text for source in first.sources], "Which river flows through Rome?")
        text = own.model.tokenizer.decode(own.ask(case, n=12).token_ids, skip_special_tokens=True)
        assert text.startswith(first.text) and full.text and first.report.path == full.report.path == "vllm"
        with pytest.raises(ServerError):
            list(client_of(url).answer(case.prefix, [[1, 2, 3]], case.final, 2, Sampling()))
        assert ask(pipeline).text == first.text, "a request that fails harms no other"
        pipeline.index.close()
        everything = own.case([text_of(name) for name in NAMES], "")
        client_of(url).ensure(everything.prefix, everything.blocks)
    files = {path.name for path in (tmp_path / "store").rglob("*.safetensors")}
    assert len(files) >= len(NAMES) + 4, "all blocks and the prefix"
    with serve(**store) as url:  # the first was killed
        for case, ours in zip(cases, expected, strict=True):
            answer = answered(url, case, block_mode=True)
            assert answer.report["n_loaded"] == len(case.prompt) - len(case.final)
            assert_same(answer, ours)
        for case, full in zip(cases, before, strict=False):
            assert_same(answered(url, case, block_mode=False), full)
    assert {path.name for path in (tmp_path / "store").rglob("*.safetensors")} == files, "nothing was encoded here"


def test_two_servers_share_an_s3_store_and_one_killed_while_encoding_loses_nothing(serve, tmp_path, own, monkeypatch):
    moto = pytest.importorskip("moto.server", reason="needs moto[server] and s3fs: requirements-vllm.txt")
    pytest.importorskip("s3fs")
    emulator = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    emulator.start()
    host, port = emulator.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    case = own.case([text_of(name) for name in NAMES[:3]], "Which river is the longest?")
    more = [own.case([text_of(f"{name}land")], "") for name in NAMES]
    with ExitStack() as stack:
        stack.callback(emulator.stop)
        one_is_up = stack.enter_context(ExitStack())
        one = one_is_up.enter_context(serve(environment, kv_dir=str(tmp_path / "one"), kv_remote="s3://blocks/kv"))
        two = stack.enter_context(serve(environment, kv_remote="s3://blocks/kv"))
        client_of(one).ensure(case.prefix, case.blocks)
        assert_same(answered(two, case, block_mode=True), own.ask(case))

        kept, killed = [], threading.Event()

        def encode():
            client = client_of(one)
            try:
                for each in more:
                    client.ensure(each.prefix, each.blocks)
                    kept.append(each)
                    if len(kept) == 3:
                        killed.set()
            except ServerError:
                return
            raise AssertionError("the server was to be killed in between")

        encoding = threading.Thread(target=encode)
        encoding.start()
        assert killed.wait(300)
        one_is_up.close()
        encoding.join()
        blocks = [block for each in kept for block in each.blocks]
        whole = Case(case.prefix, blocks, case.final)
        assert_same(answered(two, whole, block_mode=True), own.ask(whole))
        client_of(two).ensure(case.prefix, [each.blocks[0] for each in more])
        rest = Case(case.prefix, [each.blocks[0] for each in more][::-1], case.final)
        assert_same(answered(two, rest, block_mode=True), own.ask(rest))


@pytest.mark.weights
def test_a_model_of_half_a_billion_without_an_adapter(tmp_path):
    """Plain blocks, which do not see the prefix, in another family."""
    name = "qwen2.5-coder-0.5b"
    own = OwnEngine(name)
    cases = [
        own.case([text_of(each) for each in names], f"How long is the {names[1]}?") for names in (NAMES[:3], NAMES[4:9])
    ]
    flags = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--served-model-name", "block"]
    with serving(str(local_path(name)), *flags, connector={"kv_dir": str(tmp_path)}) as url:
        client = VLLMClient(url)
        client.self_test(own.prompt.prefix_ids, cases[0].blocks[0], cases[0].final)
        for case in cases:
            client.ensure(case.prefix, case.blocks)
            assert_same(answered(url, case, block_mode=True), own.ask(case))


def test_heads_spread_over_three_processes(tmp_path, own):
    """Tensor parallelism on a CPU: each rank loads its own head, and all of them are saved."""
    export_peft(find_adapter("auto", "smollm2"), tmp_path / "block", "block")
    cases = [own.case([text_of(each) for each in names], "Which one?") for names in (NAMES[:3], NAMES[3:8])]
    flags = [
        "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--enable-lora", "--max-lora-rank", "64",
        "--lora-modules", f"block={tmp_path / 'block'}", "--tensor-parallel-size", "3",
    ]  # fmt: skip
    settings = {"kv_dir": str(tmp_path / "kv")}
    bind = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with serving(str(local_path("smollm2")), *flags, connector=settings, **bind) as url:
        for case in cases:
            client_of(url).ensure(case.prefix, case.blocks)
            assert_same(answered(url, case, block_mode=True), own.ask(case))
    with serving(str(local_path("smollm2")), *flags[:-2], connector=settings) as url:  # one rank reads what three saved
        assert_same(answered(url, cases[0], block_mode=True), own.ask(cases[0]))
