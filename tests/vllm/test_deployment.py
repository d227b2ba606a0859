"""The examples of deployment: every flag is one of the server's or the router's, and the router keeps blocks together."""

import argparse
import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: requirements-vllm.txt")

from blockrag.generate import Sampling
from blockrag.vllm.client import AFFINITY, VLLMClient
from tests.fake_vllm import FakeHandler, FakeVLLM
from tests.tiny import tiny_engine

EXAMPLES = Path(__file__).parents[2] / "examples" / "vllm"
ROUTER = importlib.util.find_spec("vllm_router") is not None
needs_router = pytest.mark.skipif(not ROUTER, reason="vllm-router is not installed: requirements-vllm.txt")


def server_arguments() -> dict[str, list[str]]:
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    kubernetes = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))
    stack = yaml.safe_load((EXAMPLES / "production-stack.yaml").read_text())
    (model,) = stack["servingEngineSpec"]["modelSpec"]
    return {
        "compose": compose["services"]["server-2"]["command"],
        "kubernetes": kubernetes[0]["spec"]["template"]["spec"]["containers"][0]["args"],
        "production-stack": ["--model", model["modelURL"], *model["vllmConfig"]["extraArgs"]],
    }


@pytest.mark.parametrize("name", ["compose", "kubernetes", "production-stack"])
def test_servers_know_their_flags(name):
    from vllm.config import KVTransferConfig  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    args = make_arg_parser(FlexibleArgumentParser()).parse_args(server_arguments()[name])
    assert args.enable_lora and args.max_loras == 2
    assert [module.name for module in args.lora_modules] == ["block", "full"]
    transfer = args.kv_transfer_config
    assert isinstance(transfer, KVTransferConfig) and transfer.kv_load_failure_policy == "fail"
    assert (
        transfer.kv_connector == "BlockRAGConnector" and transfer.kv_connector_module_path == "blockrag.vllm.connector"
    )


def router_arguments() -> dict[str, list[str]]:
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    kubernetes = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))
    (shell,) = compose["services"]["router"]["command"][2:]
    return {
        "compose": shlex.split(shell.partition("exec vllm-router ")[2]),
        "kubernetes": kubernetes[2]["spec"]["template"]["spec"]["containers"][0]["args"],
    }


@needs_router
@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_routers_know_their_flags(name):
    from vllm_router.router_args import RouterArgs  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    RouterArgs.add_cli_args(parser, exclude_host_port=True)
    assert parser.parse_args(router_arguments()[name]).policy == "consistent_hash"


def start_router(urls: list[str]) -> tuple[subprocess.Popen, str]:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    command = [
        sys.executable, "-m", "vllm_router.launch_router", "--host", "127.0.0.1", "--port", ports[0],
        "--prometheus-port", ports[1], "--policy", "consistent_hash", "--worker-urls", *urls,
    ]  # fmt: skip
    process, url, end = (
        subprocess.Popen(command, env=dict(os.environ)),
        f"http://127.0.0.1:{ports[0]}",
        time.time() + 60,
    )
    while time.time() < end:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return process, url
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise AssertionError("the router is not up")


@needs_router
def test_a_router_keeps_questions_about_a_block_together(monkeypatch):
    answer = FakeHandler.do_GET
    monkeypatch.setattr(FakeHandler, "do_GET", lambda self: self._json({}) if self.path == "/health" else answer(self))
    engine = tiny_engine()
    servers = [FakeVLLM(engine), FakeVLLM(engine)]
    process, url = start_router([server.url for server in servers])
    try:
        client, blocks = VLLMClient(url), [[n, n + 1] for n in range(3, 13)]
        client.ensure([1, 2], blocks)
        everything = servers[0].encoded | servers[1].encoded  # the store is shared
        for server in servers:
            server.encoded |= everything
        for _ in range(2):
            for block in blocks:
                list(client.answer([1, 2], [block, [3, 4]], [6], 2, Sampling(temperature=0.0, seed=5)))
    finally:
        process.kill()
        for server in servers:
            server.shutdown()
            server.server_close()
    one, two = ({key for key in server.sessions if key} for server in servers)
    assert one and two and not one & two, f"{AFFINITY} decides"
    body = next(body for server in servers for body in server.bodies if body.get("stream"))
    assert body["return_token_ids"] and body["seed"] == 5 and body["kv_transfer_params"]["blockrag"]["blocks"] == [2, 2]
