"""The Benchmarks tab: the project's measured tables and plots, and a measurement of this machine."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components.payloads import TablesPayload
from ui.components.view import View
from ui.handlers import benchmarks
from ui.session import JOBS, QUICK, Session


class BenchmarksTab:
    """Layout and events of the tab."""

    def __init__(self, session: Session):
        self._session = session
        gr.Markdown(strings.BENCHMARKS_EXPLAINED)
        self.measured = View("tables", {"empty": strings.NO_MEASURE}, elem_id="measured")
        with gr.Row(elem_classes="actions"):
            self.measure = gr.Button(strings.MEASURE, variant="primary", elem_id="measure")
        View("tables", {"tables": benchmarks.tables(), "empty": strings.NO_MEASURE}, elem_id="tables")
        with gr.Accordion(strings.PLOTS, open=False):
            for path in benchmarks.plots():
                gr.Image(str(path), label=path.stem, interactive=False, buttons=[], show_label=True)
        self.measure.click(self._measure, session.visitor, self.measured, **QUICK, **JOBS)

    def _measure(self, visitor: Any, request: gr.Request) -> Iterator[TablesPayload]:
        with self._session.open(visitor, request) as collection, collection.limiter.job(collection.owner):
            yield from benchmarks.measure(collection.library.engine)
