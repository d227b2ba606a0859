"""Train the segmenter on SemanticSeg; `blockrag.segment.neural` loads the resulting weights."""
