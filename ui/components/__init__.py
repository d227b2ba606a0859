"""Page parts of our own: static templates, JSON values, and text that becomes text nodes only."""

from ui.components.static import AnswerView, BlockView, DocumentsView, ProgressView, SourcesView, TimesView

__all__ = ["AnswerView", "BlockView", "DocumentsView", "ProgressView", "SourcesView", "TimesView"]
