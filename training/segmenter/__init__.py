"""Training of the segmenter: rows of SemanticSeg -> weights that `blockrag.segment.neural` reads."""
