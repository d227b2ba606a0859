"""Semantic blocks as nodes."""

from blockrag.llamaindex import SemanticBlockNodeParser

__all__ = ["SemanticBlockNodeParser"]
