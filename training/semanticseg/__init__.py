"""Build SemanticSeg: annotated, filtered instances of 2,000 to 32,000 tokens, from any texts.

    sources -> annotate -> filter -> near-duplicates -> split -> pack and cut -> with and without headings -> Parquet

Each step is a function of one row, or of all rows in a fixed order, so the same configuration gives the same bytes.
"""
