"""Cache on the page: the tiers, and what can be done with the open collection's KV."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components import CacheView
from ui.handlers import cache
from ui.session import QUICK, WORKING, Session


class CacheTab:
    """Layout and events of the tab."""

    def __init__(self, visit: Session):
        self._visit = visit
        tiers = [tier.name for tier in visit.workspaces.engine.kv.tiers]
        gr.Markdown(strings.CACHE_EXPLAINED)
        self.view = CacheView({"empty": strings.NO_CACHE}, elem_id="cache")
        self.told = gr.Markdown("", elem_id="cache-told", elem_classes="aside")
        with gr.Row(elem_classes="beside"):
            self.tier = gr.Dropdown(tiers, value=tiers[0] if tiers else None, label=strings.TIER, min_width=140)
            self.clear = gr.Button(strings.CLEAR, elem_id="clear-cache", min_width=180)
            self.move = gr.Button(strings.MOVE, elem_id="move-cache", min_width=180)
            self.warm = gr.Button(strings.WARM, elem_id="warm-cache", min_width=180)
            self.refresh = gr.Button(strings.REFRESH, elem_id="refresh-cache", min_width=120)
        self._wire()

    def _wire(self) -> None:
        id, shown = self._visit.id, [self.view, self.told]
        self.clear.click(self._clear, [id, self.tier], shown, **QUICK)
        self.move.click(self._move, id, shown, **QUICK, **WORKING)
        self.warm.click(self._warm, id, shown, **QUICK, **WORKING)
        self.refresh.click(self.overview, id, self.view, **QUICK)

    def overview(self, visit: Any, request: gr.Request) -> dict[str, Any]:
        """The tiers as they are now."""
        with self._visit.open(visit, request) as workspace:
            return cache.view(workspace, self._visit.watch)

    def _clear(self, visit: Any, tier: str, request: gr.Request) -> tuple[Any, str]:
        with self._visit.open(visit, request) as workspace:
            n = cache.clear(workspace, tier)
            return cache.view(workspace, self._visit.watch), strings.CLEARED.format(n=n)

    def _move(self, visit: Any, request: gr.Request) -> tuple[Any, str]:
        with self._visit.open(visit, request) as workspace:
            n = cache.move_to_memory(workspace)
            return cache.view(workspace, self._visit.watch), strings.MOVED.format(n=n)

    def _warm(self, visit: Any, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        with self._visit.open(visit, request) as workspace:
            for _ in cache.warm(workspace):
                yield cache.view(workspace, self._visit.watch), gr.skip()
            yield cache.view(workspace, self._visit.watch), strings.WARMED
