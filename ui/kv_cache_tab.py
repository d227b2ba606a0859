"""The Cache tab: the tiers that keep block KV, and what can be done with the open collection's KV."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components.payloads import KVCachePayload
from ui.components.view import View
from ui.handlers import kv_cache
from ui.open_collection import OpenCollection
from ui.session import JOBS, QUICK, Session, Updates


class KVCacheTab:
    """Layout and events of the tab."""

    def __init__(self, session: Session):
        self._session = session
        tiers = [tier.name for tier in session.service.engine.kv.tiers]
        gr.Markdown(strings.CACHE_EXPLAINED)
        self.view = View("kv_cache", {"empty": strings.NO_CACHE}, elem_id="cache")
        self.status = gr.Markdown("", elem_id="cache-status", elem_classes="aside")
        with gr.Row(elem_classes="beside"):
            self.tier = gr.Dropdown(tiers, value=tiers[0] if tiers else None, label=strings.TIER, min_width=140)
            self.clear = gr.Button(strings.CLEAR, elem_id="clear-cache", min_width=180)
            self.move = gr.Button(strings.MOVE, elem_id="move-cache", min_width=180)
            self.warm = gr.Button(strings.WARM, elem_id="warm-cache", min_width=180)
            self.refresh = gr.Button(strings.REFRESH, elem_id="refresh-cache", min_width=120)
        visitor, outputs = session.visitor, [self.view, self.status]
        self.clear.click(self._clear, [visitor, self.tier], outputs, **QUICK)
        self.move.click(self._move, visitor, outputs, **QUICK, **JOBS)
        self.warm.click(self._warm, visitor, outputs, **QUICK, **JOBS)
        self.refresh.click(self.overview, visitor, self.view, **QUICK)

    def overview(self, visitor: Any, request: gr.Request) -> KVCachePayload:
        """Show the tiers as they are now."""
        with self._session.open(visitor, request) as collection:
            return kv_cache.view(collection, self._session.monitor)

    def _clear(self, visitor: Any, tier: str, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            n = kv_cache.clear(collection, tier)
            return self._draw(collection, strings.CLEARED.format(n=n))

    def _move(self, visitor: Any, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            n = kv_cache.move_to_memory(collection)
            return self._draw(collection, strings.MOVED.format(n=n))

    def _warm(self, visitor: Any, request: gr.Request) -> Iterator[Updates]:
        with self._session.open(visitor, request) as collection:
            for _ in kv_cache.warm(collection):
                yield {self.view: kv_cache.view(collection, self._session.monitor)}
            yield self._draw(collection, strings.WARMED)

    def _draw(self, collection: OpenCollection, status: str) -> Updates:
        return {self.view: kv_cache.view(collection, self._session.monitor), self.status: status}
