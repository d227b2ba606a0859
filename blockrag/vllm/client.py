"""Asks a vLLM server with our connector, over its OpenAI API. Prompts are sent as token ids, so that control tokens in
documents stay text."""

import hashlib
import json
import math
import threading
import urllib.error
import urllib.request
import uuid
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from typing import Any

from blockrag import arguments
from blockrag.errors import ArgumentError, ServerError
from blockrag.events import Mode
from blockrag.generate import Sampling
from blockrag.vllm.plan import PARAMETER, VERSION

KNOWN_BLOCKS = 100_000
"""Blocks that a client remembers to have encoded."""

AFFINITY = "X-Session-ID"
"""Header by which routers with consistent hashing choose a replica. It holds a hash of the first block, so that
questions about the same block meet in the replica that has it in memory."""

ENCODED_AT_ONCE = 16
"""Blocks that a client has encoded at once, so that the server can batch them."""

SELF_TEST_TOLERANCE = 0.25
"""In nats; above the noise of 16-bit types, below the difference that wrong keys make."""

Tokens = Sequence[int]


class VLLMClient:
    """A vLLM server. Safe to use from several threads.

    A LoRA that the server calls ``block`` answers in block mode, one called ``full`` in full mode; without them the
    server's own model does.

    Parameters
    ----------
    url : str
        Such as ``http://localhost:8000``, with or without ``/v1``.
    sink_ids : sequence of int
        Literal tokens before every block.
    prefix_visible : bool
        Whether blocks see the prefix.
    api_key : str, optional
        As ``vllm serve --api-key`` wants it.
    timeout_s : float
        Longest silence of the server.

    Raises
    ------
    ArgumentError
        If the URL is none.
    ServerError
        By each call, if the server cannot be reached or refuses.
    """

    def __init__(
        self,
        url: str,
        sink_ids: Tokens = (),
        prefix_visible: bool = False,
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
    ):
        if not arguments.filled("url", url).startswith(("http://", "https://")):
            raise ArgumentError(f"url is {url!r}; give one such as http://localhost:8000")
        self._base = url.rstrip("/").removesuffix("/v1")
        self._sinks, self._prefix_visible = list(sink_ids), prefix_visible
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._encoded: OrderedDict[tuple[int, ...], None] = OrderedDict()
        self._lock = threading.Lock()
        self._names: dict[Mode, str] = {}

    def __repr__(self) -> str:
        return f"VLLMClient({self._base!r})"

    def model_name(self, mode: Mode) -> str:
        """The server's name of what answers in this mode."""
        if not self._names:
            with self._open("/v1/models", None) as response:
                served = [model["id"] for model in json.load(response)["data"]]
            if not served:
                raise ServerError(f"{self._base} serves no model")
            self._names = {
                "block": "block" if "block" in served else served[0],
                "full": "full" if "full" in served else served[0],
            }
        return self._names[mode]

    def ensure(self, prefix_ids: Tokens, blocks: Sequence[Tokens]) -> int:
        """Have the server encode the prefix and every block that this client has not had encoded; blocks are given
        without sinks. The server computes only what its store lacks. Returns how many blocks were sent."""
        seen = list(prefix_ids) if self._prefix_visible else []
        todo = [(*seen, *self._sinks, *block) for block in blocks]
        if prefix_ids and not self._is_known(tuple(prefix_ids)):
            self._encode(tuple(prefix_ids), len(prefix_ids))
        missing = [prompt for prompt in dict.fromkeys(todo) if not self._is_known(prompt)]
        with ThreadPoolExecutor(ENCODED_AT_ONCE) as at_once:
            list(at_once.map(lambda prompt: self._encode(prompt, len(seen)), missing))
        return len(missing)

    def self_test(self, prefix_ids: Tokens, block_ids: Tokens, final_ids: Tokens) -> None:
        """Compare block mode with full attention on a prompt of one block, where both compute the same. Full attention
        gets a salt of its own, so that pages of an earlier answer cannot stand in for it.

        Raises
        ------
        ServerError
            If their log-probabilities differ.
        """
        prefix, part = list(prefix_ids) if self._prefix_visible else [], [*self._sinks, *block_ids]
        self.ensure(prefix, [block_ids])
        prompt, params = [*prefix, *part, *final_ids], {"v": VERSION, "prefix": len(prefix), "blocks": [len(part)]}
        block = self._logprobs(self._body("block", prompt, params, 1, Sampling()))
        full = self._logprobs(self._body("block", prompt, None, 1, Sampling()) | {"cache_salt": uuid.uuid4().hex})
        off = max((abs(block[token] - full[token]) for token in block.keys() & full.keys()), default=math.inf)
        if off > SELF_TEST_TOLERANCE:
            raise ServerError(
                f"{self._base} fails the self-test: in block mode, the log-probabilities of a prompt of one block are "
                f"off by {off:.2g}; expected those of full attention. Do not use it."
            )

    def forget(self) -> None:
        """Have everything encoded again, since the server's store may have lost it."""
        with self._lock:
            self._encoded.clear()

    def answer(
        self, prefix_ids: Tokens, blocks: Sequence[Tokens], final_ids: Tokens, max_tokens: int, sampling: Sampling
    ) -> Generator[int]:
        """The tokens of an answer in block mode, as they come. The blocks must be encoded; see `ensure`."""
        parts = [[*self._sinks, *block] for block in blocks]
        prompt = [*prefix_ids, *(token for part in parts for token in part), *final_ids]
        params = {"v": VERSION, "prefix": len(prefix_ids), "blocks": [len(part) for part in parts]}
        affinity = _affinity(parts[0]) if parts else None
        return self._stream("block", prompt, params if parts else None, max_tokens, sampling, affinity)

    def complete(self, mode: Mode, prompt_ids: Tokens, max_tokens: int, sampling: Sampling) -> Generator[int]:
        """The tokens that follow a prompt in ordinary attention, as they come."""
        return self._stream(mode, list(prompt_ids), None, max_tokens, sampling)

    def _is_known(self, prompt: tuple[int, ...]) -> bool:
        with self._lock:
            return prompt in self._encoded

    def _encode(self, prompt: tuple[int, ...], n_prefix: int) -> None:
        params = {"v": VERSION, "prefix": n_prefix, "encode": True}
        body, affinity = self._body("block", list(prompt), params, 1, Sampling()), _affinity(prompt[n_prefix:])
        with self._open("/v1/completions", body, affinity) as response:
            told = (json.load(response).get("kv_transfer_params") or {}).get(PARAMETER) or {}
        if told.get("mode") != "encode":
            reason = told.get("error") or "its answer has no report of BlockRAGConnector; start it with the connector"
            raise ServerError(f"{self._base} does not encode blocks: {reason}")
        with self._lock:
            self._encoded[prompt] = None
            while len(self._encoded) > KNOWN_BLOCKS:
                self._encoded.popitem(last=False)

    def _logprobs(self, body: dict[str, Any]) -> dict[str, float]:
        """Log-probabilities of the likeliest first tokens."""
        with self._open("/v1/completions", body | {"logprobs": 5, "return_tokens_as_token_ids": True}) as response:
            choice = json.load(response)["choices"][0]
        if not choice.get("logprobs"):
            raise ServerError(f"{self._base} could not finish an answer; see its log")
        return dict(choice["logprobs"]["top_logprobs"][0])

    def _stream(
        self,
        mode: Mode,
        prompt: list[int],
        params: dict[str, Any] | None,
        max_tokens: int,
        sampling: Sampling,
        affinity: str | None = None,
    ) -> Generator[int]:
        body = self._body(mode, prompt, params, max_tokens, sampling) | {"stream": True, "return_token_ids": True}
        with self._open("/v1/completions", body, affinity) as response:
            for event in _events(response, self._base):
                for choice in event.get("choices", ()):
                    yield from choice.get("token_ids") or ()
                    if choice.get("finish_reason") == "error":
                        raise ServerError(f"{self._base} could not finish the answer; see its log")

    def _body(
        self, mode: Mode, prompt: list[int], params: dict[str, Any] | None, max_tokens: int, sampling: Sampling
    ) -> dict[str, Any]:
        if sampling.repetition_penalty != 1:
            raise ArgumentError(
                "repetition_penalty is not 1, which a vLLM server would apply to the documents' own words too; leave it"
            )
        body = {
            "model": self.model_name(mode),
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        return body | ({"kv_transfer_params": {PARAMETER: params}} if params else {})

    def _open(self, path: str, body: dict[str, Any] | None, affinity: str | None = None) -> HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({AFFINITY: affinity} if affinity else {})
        request = urllib.request.Request(self._base + path, data, headers)
        try:
            return urllib.request.urlopen(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            raise ServerError(f"{self._base} answers {error.code}: {_message(error.read())}") from error
        except (OSError, HTTPException) as error:
            raise ServerError(f"{self._base} cannot be reached: {error}") from error


def _affinity(block: Tokens) -> str:
    return hashlib.sha256(json.dumps(list(block)).encode()).hexdigest()[:32]


def _events(response: HTTPResponse, base: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events."""
    try:
        for line in response:
            name, _, data = line.decode().strip().partition(":")
            if name != "data":
                continue
            if data.strip() == "[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise ServerError(f"{base} fails: {_message(data.encode())}")
            yield event
    except (OSError, HTTPException, ValueError) as error:
        raise ServerError(f"{base} broke off: {error}") from error
    raise ServerError(f"{base} broke off before the end of its answer")


def _message(body: bytes) -> str:
    """The message of an error of the OpenAI API."""
    text = body.decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300] or "no reason given"
