"""Page parts of our own: static templates, JSON values, and text that becomes text nodes only."""

from ui.components.static import AnswerView, BlockView, ProgressView, SourcesView, TimesView

__all__ = ["AnswerView", "BlockView", "ProgressView", "SourcesView", "TimesView"]
