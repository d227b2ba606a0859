"""The same services for programs: six calls over HTTP, with typed clients and as tools of an MCP server.

Where all share the collections, an empty `collection` is the first one; elsewhere it is the token of one of the
caller's own, which the page shows, and which nobody can guess.
"""

import secrets
from typing import Any

import gradio as gr

from blockrag.documents import load
from blockrag.events import Answer, Mode
from ui.collection_service import LOCAL, CollectionService
from ui.handlers import documents
from ui.handlers.ask import admit
from ui.open_collection import GoneError, OpenCollection
from ui.session import ASKING, WORKING, told, user_of

MAX_TEXT = 4_000_000


def publish(workspaces: CollectionService) -> None:
    """Add the calls to the page that is being built."""
    calls = Calls(workspaces)
    gr.api(calls.new_collection, api_name="new_collection")
    gr.api(calls.list_documents, api_name="list_documents")
    gr.api(calls.add_text, api_name="add_text", **WORKING)
    gr.api(calls.search_blocks, api_name="search_blocks", **ASKING)
    gr.api(calls.ask, api_name="ask", **ASKING)
    gr.api(calls.delete_document, api_name="delete_document")


class Calls:
    """What programs may call. Gradio reads signatures and docstrings for its clients, hence their form here.

    Parameters
    ----------
    workspaces : CollectionService
    """

    def __init__(self, workspaces: CollectionService):
        self._workspaces = workspaces

    def new_collection(self, name: str, request: gr.Request = None) -> dict:
        """Make a collection for documents.

        Parameters:
            name: What to call it.
        Returns:
            Its token, which the other calls take, and which nobody can guess.
        """
        with told():
            owner = self._workspaces.owner(secrets.token_urlsafe(32), user_of(request))
            return {"collection": self._workspaces.create(owner, name).token}

    def list_documents(self, collection: str = "", request: gr.Request = None) -> list[dict]:
        """List the documents of a collection.

        Parameters:
            collection: Token of the collection; may be empty where all share one place.
        Returns:
            One object a document: id, name, characters, indexed.
        """
        with told():
            entries = self._opened(collection, request).entries
            return [
                {"id": id, "name": e.record.name, "characters": e.record.n_chars, "indexed": e.indexed is not None}
                for id, e in entries.items()
            ]

    def add_text(self, name: str, text: str, collection: str = "", request: gr.Request = None) -> dict:
        """Add a text as a document, cut it into blocks and index them.

        Parameters:
            name: File name to show, such as notes.md; its suffix tells the format.
            text: The text, at most four million characters.
            collection: Token of the collection; may be empty where all share one place.
        Returns:
            The document's id and its number of blocks.
        """
        with told():
            workspace = self._opened(collection, request)
            workspace.meter.upload(workspace.owner, 1)
            document = load(text[: MAX_TEXT + 1].encode("utf-8", "replace"), name=name or "text.txt")
            with workspace.meter.job(workspace.owner):
                workspace.add(document)
                entry = workspace.entry(document.sha256)
                if entry is None:
                    raise GoneError("the document was removed while it was added")
                workspace.index(entry)
            return {"id": document.sha256, "blocks": len(entry.starts)}

    def search_blocks(self, question: str, k: int = 8, collection: str = "", request: gr.Request = None) -> list[dict]:
        """Find the indexed blocks nearest to a question.

        Parameters:
            question: What to look for.
            k: Most blocks to return, 1 to 32.
            collection: Token of the collection; may be empty where all share one place.
        Returns:
            One object a block, best first: document, id, start, end, similarity, text.
        """
        with told():
            workspace = self._opened(collection, request)
            workspace.meter.question(workspace.owner)
            vector = workspace.library.engine.embedder.embed([question[:20_000]])[0]
            found = workspace.rag.index.search(vector, min(max(int(k), 1), 32))
            return [
                {
                    "document": f.document.name,
                    "id": f.document.sha256,
                    "start": f.block.start,
                    "end": f.block.end,
                    "similarity": round(f.similarity, 4),
                    "text": f.text,
                }
                for f in found
            ]

    def ask(
        self,
        question: str,
        mode: str = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        collection: str = "",
        request: gr.Request = None,
    ) -> dict:
        """Answer a question from the indexed blocks of a collection.

        Parameters:
            question: The question.
            mode: "block" uses cached blocks, "full" reads them again.
            k: Blocks to give to the model, 1 to 32.
            max_new_tokens: Longest answer, 1 to 512.
            collection: Token of the collection; may be empty where all share one place.
        Returns:
            The answer, its sources (number, document, start, end, text), its citations, and the report of its cost.
        """
        with told():
            workspace = self._opened(collection, request)
            admit(workspace, question)
            wanted: Mode = "full" if mode == "full" else "block"
            with workspace.meter.job(workspace.owner):
                most = min(max(int(max_new_tokens), 1), 512)
                events = workspace.rag.ask(question, wanted, min(max(int(k), 1), 32), most, client_id=workspace.owner)
                (answer,) = [event for event in events if isinstance(event, Answer)]
            return _told(answer)

    def delete_document(self, id: str, collection: str = "", request: gr.Request = None) -> dict:
        """Delete a document with its blocks, vectors and KV.

        Parameters:
            id: The document's id, as list_documents tells it.
            collection: Token of the collection; may be empty where all share one place.
        Returns:
            Whether there was such a document.
        """
        with told():
            workspace = self._opened(collection, request)
            known = workspace.entry(id) is not None
            documents.remove(workspace, id)
            return {"deleted": known}

    def _opened(self, collection: str, request: gr.Request | None) -> OpenCollection:
        user, workspaces = user_of(request), self._workspaces
        if workspaces.access == "login":
            owner: str | None = workspaces.owner("", user)
        else:
            owner = LOCAL if workspaces.access == "shared" else None
        if not collection and owner is not None:
            collection = workspaces.enter({}, user)["collection"]
        if not collection:
            raise GoneError("name a collection by its token")
        return workspaces.open(owner, collection)


def _told(answer: Answer) -> dict[str, Any]:
    report = answer.report.to_dict()
    report["way"] = report.pop("path")  # Gradio's client takes an object with a path for a file, and fetches it
    return {
        "answer": answer.text,
        "sources": [
            {"number": s.number, "document": s.document, "start": s.start, "end": s.end, "text": s.text}
            for s in answer.sources
        ],
        "citations": [{"start": c.start, "end": c.end, "number": c.number} for c in answer.citations],
        "report": report,
    }
