"""Page parts of our own: static templates, JSON values, and text that becomes text nodes only."""

from ui.components.static import (
    AnswerView,
    BlockView,
    CacheView,
    DocumentsView,
    ProgressView,
    SourcesView,
    TablesView,
    TimesView,
    TurnsView,
)

__all__ = [
    "AnswerView",
    "BlockView",
    "CacheView",
    "DocumentsView",
    "ProgressView",
    "SourcesView",
    "TablesView",
    "TimesView",
    "TurnsView",
]
