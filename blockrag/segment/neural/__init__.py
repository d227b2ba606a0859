"""The segmenter that learned from human boundaries: text -> tokens in windows -> one score a candidate."""

from blockrag.segment.neural.segmenter import Neural

__all__ = ["Neural"]
