"""What every step needs of a visit: the workspace behind the page, and errors told as messages."""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gradio as gr

from blockrag.errors import BlockRAGError
from ui import strings
from ui.workspace import GoneError, Workspace, Workspaces

MODEL_QUEUE = "model"
"""Events under this id run the models, one at a time; the others do not wait for them."""


@dataclass(frozen=True)
class Visit:
    """The workspaces, and the page's component that holds this visitor's id."""

    workspaces: Workspaces
    id: gr.BrowserState

    @contextmanager
    def open(self, workspace_id: str | None) -> Iterator[Workspace]:
        """This visitor's workspace; an error of ours inside becomes a message on the page."""
        try:
            yield self.workspaces.get(workspace_id)
        except GoneError as error:
            raise gr.Error(strings.GONE, print_exception=False) from error
        except BlockRAGError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error
