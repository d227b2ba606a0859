"""Benchmarks on the page: the project's measured tables and plots, and a measurement of this machine."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components import TablesView
from ui.handlers import benchmarks
from ui.session import QUICK, WORKING, Session


class BenchmarksTab:
    """Layout and events of the tab."""

    def __init__(self, visit: Session):
        self._visit = visit
        gr.Markdown(strings.BENCHMARKS_EXPLAINED)
        self.mine = TablesView({"empty": strings.NO_MEASURE}, elem_id="measured")
        with gr.Row(elem_classes="actions"):
            self.measure = gr.Button(strings.MEASURE, variant="primary", elem_id="measure")
        TablesView({"tables": benchmarks.tables(), "empty": strings.NO_MEASURE}, elem_id="tables")
        with gr.Accordion(strings.PLOTS, open=False):
            for path in benchmarks.plots():
                gr.Image(str(path), label=path.stem, interactive=False, buttons=[], show_label=True)
        self.measure.click(self._measure, visit.id, self.mine, **QUICK, **WORKING)

    def _measure(self, visit: Any, request: gr.Request) -> Iterator[dict[str, Any]]:
        with self._visit.open(visit, request) as workspace, workspace.meter.job(workspace.owner):
            yield from benchmarks.measure(workspace.library.engine)
