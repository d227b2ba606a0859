"""The API: six calls over HTTP, with typed clients, and as tools of an MCP server.

In shared mode an empty `collection` is the first collection. Elsewhere it must be the unguessable token of one of the
caller's own, which `new_collection` returns.
"""

import hashlib
import secrets
from typing import Any, get_args

import gradio as gr

from blockrag import arguments
from blockrag.documents import load
from blockrag.events import Answer
from blockrag.generate import Sampling
from blockrag.index import By
from blockrag.retrieval import DEFAULT_BY, Retrieval
from storage.models import NAME_CHARS
from ui import strings
from ui.collection_service import LOCAL, CollectionService
from ui.handlers.ask import MAX_K, MAX_NEW_TOKENS, admit
from ui.open_collection import GoneError, OpenCollection
from ui.session import JOBS, QUESTIONS, address_of, user_errors, user_of

MAX_CHARS, MAX_NEIGHBOURS = 4_000_000, 8


def publish(service: CollectionService) -> None:
    """Add the calls to the page that is being built."""
    calls = _Calls(service)
    gr.api(calls.new_collection, api_name="new_collection")
    gr.api(calls.list_documents, api_name="list_documents")
    gr.api(calls.add_text, api_name="add_text", **JOBS)
    gr.api(calls.search_blocks, api_name="search_blocks", **QUESTIONS)
    gr.api(calls.ask, api_name="ask", **QUESTIONS)
    gr.api(calls.delete_document, api_name="delete_document")


class _Calls:
    """The calls. Gradio reads their signatures and docstrings for its clients, hence the docstrings' format."""

    def __init__(self, service: CollectionService):
        self._service = service

    def new_collection(self, name: str, request: gr.Request = None) -> dict:
        """Create a collection.

        Parameters:
            name: Its name.
        Returns:
            Its unguessable token, which the other calls take.
        """
        with user_errors():
            arguments.text("name", name, NAME_CHARS)
            owner = self._service.owner(secrets.token_urlsafe(32), user_of(request))
            return {"collection": self._service.create(owner, name, address_of(request)).token}

    def list_documents(self, collection: str = "", request: gr.Request = None) -> list[dict]:
        """List the documents of a collection.

        Parameters:
            collection: Token of the collection; may be empty in shared mode.
        Returns:
            One object per document: id, name, characters, indexed.
        """
        with user_errors():
            return [
                {
                    "id": id,
                    "name": document.record.name,
                    "characters": document.record.n_chars,
                    "indexed": document.indexed_starts is not None,
                }
                for id, document in self._open(collection, request).documents.items()
            ]

    def add_text(self, name: str, text: str, collection: str = "", request: gr.Request = None) -> dict:
        """Add a text as a document, split it into blocks and index them.

        Parameters:
            name: File name, such as notes.md; its suffix tells the format. A document of that name is replaced. An
                empty name is replaced by a hash of the text.
            text: The text, at most four million characters.
            collection: Token of the collection; may be empty in shared mode.
        Returns:
            The document's id and its number of blocks.
        """
        with user_errors():
            arguments.text("name", name, NAME_CHARS)
            data = arguments.text("text", text, MAX_CHARS).encode()
            opened = self._open(collection, request)
            opened.limiter.upload(opened.owner, 1)
            content = load(data, name=name or f"text-{hashlib.sha256(data).hexdigest()[:12]}.txt")
            with opened.limiter.job(opened.owner):
                opened.add(content)
                document = opened.find(content.id)
                if document is None:
                    raise GoneError(strings.REMOVED)
                opened.index(document)
            return {"id": content.id, "blocks": len(document.starts)}

    def search_blocks(
        self,
        question: str,
        k: int = 8,
        collection: str = "",
        by: str = DEFAULT_BY,
        documents: list[str] | None = None,
        request: gr.Request = None,
    ) -> list[dict]:
        """Find the best indexed blocks for a question.

        Parameters:
            question: What to look for.
            k: Maximum number of blocks, 1 to 32.
            collection: Token of the collection; may be empty in shared mode.
            by: "hybrid" finds by meaning and words, "dense" by meaning, "lexical" by words.
            documents: Names or ids of the documents to search in; all by default.
        Returns:
            One object per block, best first: document, id, start, end, similarity, text.
        """
        with user_errors():
            arguments.filled("question", question)
            k = arguments.whole("k", k, 1, MAX_K)
            opened = self._open(collection, request)
            admit(opened, question)
            retrieval = Retrieval(by=arguments.one_of("by", by, get_args(By)), documents=documents or ())
            return [
                {
                    "document": found.document,
                    "id": found.document_id,
                    "start": found.start,
                    "end": found.end,
                    "similarity": round(found.score, 4),
                    "text": found.text,
                }
                for found in opened.pipeline.search(question, k, retrieval)
            ]

    def ask(
        self,
        question: str,
        mode: str = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        collection: str = "",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        by: str = DEFAULT_BY,
        documents: list[str] | None = None,
        neighbours: int = 0,
        request: gr.Request = None,
    ) -> dict:
        """Answer a question from the indexed blocks of a collection.

        Parameters:
            question: The question.
            mode: "block" reuses cached blocks, "full" reads them again.
            k: Blocks to give to the model, 1 to 32.
            max_new_tokens: Maximum answer length, 1 to 512.
            collection: Token of the collection; may be empty in shared mode.
            temperature: 0 takes the most likely token; above, tokens are drawn.
            top_p: Share of the probability that tokens are drawn from.
            seed: Makes draws repeatable.
            by: "hybrid" finds blocks by meaning and words, "dense" by meaning, "lexical" by words.
            documents: Names or ids of the documents to search in; all by default.
            neighbours: Blocks before and behind each found one to read too, 0 to 8.
        Returns:
            The answer, its sources (number, document, start, end, text), its citations, and a report of its cost.
        """
        with user_errors():
            arguments.filled("question", question)
            chosen = arguments.one_of("mode", mode, ("block", "full"))
            k = arguments.whole("k", k, 1, MAX_K)
            limit = arguments.whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS)
            sampling = Sampling(temperature, top_p, seed)
            near = arguments.whole("neighbours", neighbours, 0, MAX_NEIGHBOURS)
            retrieval = Retrieval(
                by=arguments.one_of("by", by, get_args(By)), documents=documents or (), neighbours=near
            )
            opened = self._open(collection, request)
            admit(opened, question)
            with opened.limiter.job(opened.owner):
                events = opened.pipeline.ask(
                    question, chosen, k, limit, client_id=opened.client_id, sampling=sampling, retrieval=retrieval
                )
                (answer,) = [event for event in events if isinstance(event, Answer)]
            return _answer(answer)

    def delete_document(self, id: str, collection: str = "", request: gr.Request = None) -> dict:
        """Delete a document with its blocks, vectors and KV.

        Parameters:
            id: The document's id, from list_documents.
            collection: Token of the collection; may be empty in shared mode.
        Returns:
            Whether there was such a document.
        """
        with user_errors():
            arguments.text("id", id)
            opened = self._open(collection, request)
            known = opened.find(id) is not None
            if known:
                opened.remove(id)
            return {"deleted": known}

    def _open(self, collection: str, request: gr.Request | None) -> OpenCollection:
        arguments.text("collection", collection)
        user, service = user_of(request), self._service
        if service.access == "login":
            owner: str | None = service.owner("", user)
        else:
            owner = LOCAL if service.access == "shared" else None
        if not collection and owner is None:
            raise GoneError("give the token of a collection")
        opened = service.open(owner, collection or service.enter({}, user)["collection"], address_of(request))
        opened.keep()
        return opened


def _answer(answer: Answer) -> dict[str, Any]:
    report = answer.report.to_dict()
    report["runner"] = report.pop("path")  # Gradio's client takes an object with a path for a file, and downloads it
    return {
        "answer": answer.text,
        "sources": [
            {"number": s.number, "document": s.document, "start": s.start, "end": s.end, "text": s.text}
            for s in answer.sources
        ],
        "citations": [{"start": c.start, "end": c.end, "number": c.number} for c in answer.citations],
        "report": report,
    }
