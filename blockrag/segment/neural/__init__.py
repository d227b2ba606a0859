"""The segmenter trained on human boundaries: text -> tokens in windows -> one score for each candidate."""

from blockrag.segment.neural.segmenter import Neural

__all__ = ["Neural"]
