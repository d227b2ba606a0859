"""Answers a question: waits for admission, takes the sources, then gathers, assembles, prefills and decodes."""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, get_args

import torch

from blockrag import arguments
from blockrag.admission import ClientId, Stream
from blockrag.cite import cite
from blockrag.engine import KV_READERS, NO_ADAPTER_NOTE, NO_MEMORY, Engine
from blockrag.errors import DeviceMemoryError, KVCorruptError, KVTierError, PromptTooLongError, ServerError
from blockrag.events import Answer, Event, Mode, Piece, Queued, Report, Retrieved, Source
from blockrag.gather import Gathered, Gatherer, Wanted
from blockrag.generate import GREEDY, Sampling, StopStrings, TextStream, end_tokens, sampled
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.tiered import Lease, add_note
from blockrag.prompt import Framing
from blockrag.stopwatch import Stopwatch

if TYPE_CHECKING:
    from blockrag.vllm.client import VLLMClient

_LOG = logging.getLogger(__name__)

WAIT_STEP_S = 0.25
"""How often a waiting question yields its position."""

TTFT_STAGES = ("retrieval", "kv_load", "encode", "assemble", "prefill")


@dataclass
class Request:
    """A question being answered, and its cost so far.

    `framing` replaces the prompt's own prefix and the plain question around the blocks.

    Raises
    ------
    ArgumentError
        If `mode` or `max_new_tokens` is not allowed.
    """

    question: str
    mode: Mode
    max_new_tokens: int
    watch: Stopwatch
    sources: tuple[Source, ...] = ()
    left_out: tuple[Source, ...] = ()
    framing: Framing | None = None
    sampling: Sampling = GREEDY
    keys: list[str] = field(default_factory=list)
    n_prefill_tokens: int = 0
    n_tokens_saved: int = 0
    n_new_tokens: int = 0
    is_cut_off: bool = False
    gathered: Gathered = field(default_factory=Gathered)
    kv_misses: int = 0
    path: str = ""
    queued_ms: float = 0.0
    notes: list[str] = field(default_factory=list)
    token_ids: dict[str, list[int]] = field(default_factory=dict)
    """Tokens of the blocks that had to be tokenised, by text."""

    def __post_init__(self) -> None:
        arguments.one_of("mode", self.mode, get_args(Mode))
        arguments.instance("sampling", self.sampling, Sampling)
        self.max_new_tokens = arguments.whole("max_new_tokens", self.max_new_tokens)


def queue_and_answer(
    engine: Engine, request: Request, find: Callable[[], tuple[Source, ...]], client_id: ClientId = ""
) -> Stream[Event]:
    """Wait for admission, find the sources, and stream the answer.

    Parameters
    ----------
    engine : Engine
    request : Request
        Without sources yet.
    find : callable
        Gives the sources, best first; its time counts as retrieval.
    client_id : str or pair of str
        See `FairQueue`.

    Yields
    ------
    Queued while others go first, Retrieved, then Piece for each piece of text, then Answer
        Closing the stream stops the answer; a stream that nobody reads is closed once others wait for its slot.

    Raises
    ------
    PromptTooLongError, BusyError, DeviceMemoryError
    """
    return Stream(engine.queue, _events(engine, request, find, client_id))


def _events(
    engine: Engine, request: Request, find: Callable[[], tuple[Source, ...]], client_id: ClientId
) -> Generator[Event]:
    with engine.queue.ticket(client_id) as ticket:
        while not ticket.wait(WAIT_STEP_S):
            yield Queued(ticket.ahead)
        request.queued_ms = ticket.waited_ms
        with request.watch.stage("retrieval"):
            fit(engine, request, find())
        yield Retrieved(request.sources, request.left_out)
        yield from answer(engine, request)


def fit(engine: Engine, request: Request, found: tuple[Source, ...]) -> None:
    """Give the request as many sources, best first, as fit the model's context beside question and answer.

    Raises
    ------
    PromptTooLongError
        If the question leaves no room for any document.
    """
    model, n_sinks = engine.model, engine.model.format.n_sinks
    framing = _framing(engine, request)
    n_question = len(framing.final_ids)
    room = model.max_tokens - len(framing.prefix_ids) - n_question - request.max_new_tokens
    if room < 0:
        raise PromptTooLongError(
            f"the question has {n_question} tokens; with {request.max_new_tokens} for the answer it does not fit the "
            f"model's context of {model.max_tokens}. Shorten the question or ask for a shorter answer."
        )
    kept: list[Source] = []
    left_out: list[Source] = []
    for source in found:
        n_tokens = n_sinks + (source.n_tokens if source.kv_key else len(_token_ids(engine, request, source)))
        fits = n_tokens <= room
        room -= n_tokens if fits else 0
        (kept if fits else left_out).append(source)
    request.sources, request.left_out = tuple(kept), tuple(left_out)
    if left_out:
        numbers = ", ".join(str(source.number) for source in left_out)
        request.notes.append(f"Left out because the model's context is full: blocks {numbers}.")
    if found and not kept:
        request.notes.append("No block fits the model's context: the answer is from no document.")
        _LOG.warning("no block fits the context of %d tokens; index the documents in smaller blocks", model.max_tokens)


def answer(engine: Engine, request: Request) -> Iterator[Piece | Answer]:
    """Stream the answer to a request whose sources are fitted.

    Yields
    ------
    Piece
        The answer's text, in order.
    Answer
        Last: the whole answer, with its report. Closing the generator earlier frees what the answer held.
    """
    pieces: list[str] = []
    for piece in _text(engine, request):
        yield Piece(piece, None if pieces else request.watch.total_ms(*TTFT_STAGES))
        pieces.append(piece)
    if request.mode == "block" and engine.adapter is None:
        request.notes.append(NO_ADAPTER_NOTE)
    text, report = "".join(pieces), _report(request)
    if engine.server is None:
        engine.costs.keep()
    for observe in engine.observers:
        observe(report)
    yield Answer(
        question=request.question,
        text=text,
        sources=request.sources,
        citations=cite(text, request.sources),
        report=report,
        stopped="length" if request.is_cut_off else "end",
        left_out=request.left_out,
    )


def _text(engine: Engine, request: Request) -> Iterator[str]:
    """The answer's text piece by piece, up to a stop string."""
    stream, stop = TextStream(engine.model.tokenizer), StopStrings(request.sampling.stop)
    with closing(_tokens(engine, request)) as tokens:
        for token in tokens:
            if piece := stop.push(stream.push(token)):
                yield piece
            if stop.found:
                return
    piece = stop.push(stream.flush())
    if piece := piece if stop.found else piece + stop.flush():
        yield piece
    request.is_cut_off = request.n_new_tokens == request.max_new_tokens and not stop.found


def _tokens(engine: Engine, request: Request) -> Generator[int]:
    """The answer's tokens, without the end token."""
    with ExitStack() as held:
        token, following = _begin(engine, request, held)
        ends = end_tokens(engine.model)
        while token not in ends:
            request.n_new_tokens += 1
            yield token
            if request.n_new_tokens == request.max_new_tokens:
                return
            with request.watch.stage("decode"):
                token = next(following)


def _begin(engine: Engine, request: Request, held: ExitStack) -> tuple[int, Iterator[int]]:
    """The first token and those that follow. Starts over, once each, if the device's memory runs out (cached blocks are
    evicted) and if a block is found damaged while it streams (all blocks are then read completely first)."""
    if engine.server is not None:
        return _from_server(engine, engine.server, request, held)
    streaming, has_evicted = True, False
    while True:
        try:
            return _first_token(engine, request, held, streaming)
        except torch.OutOfMemoryError:
            held.close()
            if has_evicted:
                raise DeviceMemoryError(NO_MEMORY) from None
            is_full = has_evicted = True
        except (KVCorruptError, KVTierError) as error:
            held.close()
            if not streaming:
                raise
            add_note(request.notes, error)
            is_full = streaming = False
        if is_full:
            engine.free_device_memory(request.notes)


def _first_token(engine: Engine, request: Request, held: ExitStack, streaming: bool) -> tuple[int, Iterator[int]]:
    """The first token and those that follow. With `streaming`, blocks are read while the first layers are computed."""
    context = _block_context if request.mode == "block" else _full_context
    lease = held.enter_context(engine.kv.lease())
    parts, prompt_ids = context(engine, request, lease, streaming)
    runner = engine.runner if request.mode == "block" else engine.full_runner
    with request.watch.stage("assemble"):
        joined = held.enter_context(runner.join(parts, len(prompt_ids) + request.max_new_tokens))
    request.path = joined.path
    request.n_prefill_tokens += len(prompt_ids)
    sampling = request.sampling
    tokens = joined.greedy(prompt_ids) if sampling.is_greedy else sampled(joined.logits, prompt_ids, sampling)
    with request.watch.stage("prefill"):
        token = next(tokens)
    for key, part in zip(request.keys, joined.parts[1:], strict=False):
        lease.moved(key, part)
    return token, tokens


def _from_server(engine: Engine, server: "VLLMClient", request: Request, held: ExitStack) -> tuple[int, Iterator[int]]:
    """The first token and those that follow, computed by a vLLM server. If it has lost a block, all are encoded again,
    once."""
    blocks = [_token_ids(engine, request, source) for source in request.sources] if request.mode == "block" else []
    try:
        return _ask_server(engine, server, request, blocks, held)
    except ServerError as error:
        if not blocks:
            raise
        add_note(request.notes, error)
        server.forget()
        return _ask_server(engine, server, request, blocks, held)


def _ask_server(
    engine: Engine, server: "VLLMClient", request: Request, blocks: list[list[int]], held: ExitStack
) -> tuple[int, Iterator[int]]:
    framing, limit = _framing(engine, request), request.max_new_tokens
    request.path = "vllm"
    if blocks:
        with request.watch.stage("encode"):
            request.kv_misses = server.ensure(framing.prefix_ids, blocks)
        request.n_tokens_saved = sum(map(len, blocks))
        request.n_prefill_tokens = len(framing.final_ids)
        tokens = server.answer(framing.prefix_ids, blocks, framing.final_ids, limit, request.sampling)
    else:
        prompt_ids = _full_prompt(engine, request)
        request.n_prefill_tokens = len(prompt_ids)
        tokens = server.complete(request.mode, prompt_ids, limit, request.sampling)
    held.callback(tokens.close)
    following = chain(tokens, repeat(min(end_tokens(engine.model))))
    with request.watch.stage("prefill"):
        return next(following), following


def _block_context(engine: Engine, request: Request, lease: Lease, streaming: bool) -> tuple[list[BlockKV], list[int]]:
    """KV of prefix and blocks, and the final block, which is left to compute."""
    framing = _framing(engine, request)
    with request.watch.stage("encode"):
        prefix = engine.prefix(framing.prefix_ids)
    return [prefix, *_gather(engine, request, lease, streaming)], list(framing.final_ids)


def _full_context(engine: Engine, request: Request, lease: Lease, streaming: bool) -> tuple[list[BlockKV], list[int]]:
    """No KV, and the whole prompt, which is left to compute."""
    with request.watch.stage("assemble"):
        return [], _full_prompt(engine, request)


def _full_prompt(engine: Engine, request: Request) -> list[int]:
    """Prefix, blocks and final block, without sinks, which belong to block mode."""
    framing = _framing(engine, request)
    blocks = [token for source in request.sources for token in _token_ids(engine, request, source)]
    return [*framing.prefix_ids, *blocks, *framing.final_ids]


def _token_ids(engine: Engine, request: Request, source: Source) -> list[int]:
    """Token ids of a block; tokenises it once."""
    if source.text not in request.token_ids:
        request.token_ids[source.text] = engine.prompt.block_ids(source.text)
    return request.token_ids[source.text]


def _kv_key(engine: Engine, request: Request, source: Source) -> str:
    return source.kv_key or engine.identity.key(_token_ids(engine, request, source))


def _framing(engine: Engine, request: Request) -> Framing:
    """The framing of the blocks; created once."""
    if request.framing is None:
        final_ids = engine.prompt.final_ids(request.question)
        request.framing = Framing(engine.prompt.prefix_ids, tuple(final_ids))
    return request.framing


def _gather(engine: Engine, request: Request, lease: Lease, streaming: bool) -> list[BlockKV]:
    """KV of every source, in order: from the store (with `streaming`, perhaps still being read), or encoded now. Only
    blocks that must be encoded, or have no key yet, are tokenised."""
    n_sinks = engine.model.format.n_sinks
    with request.watch.stage("kv_load"):
        request.keys = [_kv_key(engine, request, source) for source in request.sources]
        wanted = [
            Wanted(key, n_sinks + source.n_tokens, partial(_token_ids, engine, request, source))
            for key, source in zip(request.keys, request.sources, strict=True)
        ]
    gatherer = Gatherer(
        lease,
        engine.choose,
        partial(engine.encode, notes=request.notes),
        engine.model.kv_nbytes_per_token,
        engine.readers,
        request.watch,
        request.notes,
    )
    gathered = request.gathered = gatherer.gather(wanted, streaming=streaming, at_once=KV_READERS)
    request.kv_misses = gathered.n_encoded - gathered.n_again
    request.n_prefill_tokens = gathered.n_tokens
    n_kept = sum(gathered.found[key].n_tokens - n_sinks for key in request.keys)
    request.n_tokens_saved = n_kept - gathered.n_tokens
    return [gathered.found[key] for key in request.keys]


def _report(request: Request) -> Report:
    watch, decode_ms = request.watch, request.watch.ms("decode")
    return Report(
        mode=request.mode,
        **{f"{stage}_ms": watch.ms(stage) for stage in TTFT_STAGES},
        ttft_ms=watch.total_ms(*TTFT_STAGES),
        tokens_per_s=1000 * (request.n_new_tokens - 1) / decode_ms if decode_ms else 0.0,
        n_context_tokens=sum(source.n_tokens for source in request.sources),
        n_prefill_tokens=request.n_prefill_tokens,
        n_tokens_saved=request.n_tokens_saved,
        n_new_tokens=request.n_new_tokens,
        kv_hits=dict(request.gathered.hits),
        kv_misses=request.kv_misses,
        path=request.path,
        queued_ms=request.queued_ms,
        notes=tuple(request.notes),
        kv_again=request.gathered.n_again,
        kv_choice=request.gathered.why,
    )
