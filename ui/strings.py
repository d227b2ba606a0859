"""Every sentence of the page, as data."""

TITLE = "BlockRAG"
TAGLINE = "Documents are cut into blocks, each block is read once, and a question costs only itself."

DOCUMENTS = "1  Documents"
BLOCKS = "2  Blocks"
INDEX = "3  Index"
ASK = "4  Ask"

UPLOAD = "Upload documents"
UPLOAD_INFO = "PDF, Word, PowerPoint, EPUB, HTML, Markdown, text, code, chat exports; up to 64 MB each."
NO_DOCUMENTS = "No documents yet. Drop some above, or begin with the sample."
SAMPLE = "Load a sample document"
NEXT_BLOCKS = "Next: look at the blocks"
LOADING = "reading …"
READY = "ready"

DOCUMENT = "Document"
GRANULARITY = "Granularity"
GRANULARITY_INFO = "Left: few, large blocks. Right: many, small ones. Your own edits stay."
SEGMENTER = "Segmenter"
SEGMENTER_SETTINGS = "Segmenter and sizes"
SEGMENTER_INFO = "How places for a boundary are scored."
SEGMENTER_CHOICES = {
    "neural": "Learned: where people begin a new block",
    "structural": "Structure: headings, paragraphs, turns, definitions",
    "similarity": "Similarity: where the topic changes, by sentence embeddings",
    "fixed": "Fixed size: every so many tokens",
}
MIN_TOKENS = "Fewest tokens"
MAX_TOKENS = "Most tokens"
APPLY = "Cut again"
NO_BLOCKS = "Nothing to cut yet: load a document in step 1, and its blocks appear here."
EDIT_HINT = "Click between sentences to begin a block, on the line under a block to merge it with the next."
NEXT_INDEX = "Next: index these blocks"

INDEX_BUTTON = "Index all documents"
STOP = "Stop"
NOTHING_TO_INDEX = "Nothing to index yet: load a document in step 1."
INDEX_EXPLAINED = (
    "Each block gets a vector, to be found by, and is read once by the model; the keys and values it leaves are kept."
)
NEXT_ASK = "Next: ask a question"

QUESTION = "Question"
QUESTION_PLACEHOLDER = "What do you want to know from these documents?"
ASK_BUTTON = "Ask"
MODE = "Mode"
MODES = {"Compare both": "compare", "Block mode": "block", "Full mode": "full"}
MODE_INFO = "Block mode uses the cached blocks; full mode reads everything again."
K = "Blocks to retrieve"
MAX_NEW_TOKENS = "Longest answer, in tokens"
MORE = "Mode, sources, length"
NO_ANSWER = "The answer appears here."
NO_FULL_ANSWER = "Full mode answers here, for comparison."
NO_SOURCES = "The blocks that the answer is given appear here."
NO_TIMES = "How soon the first token comes, in block and in full mode, appears here."
NO_SOURCE = "Click a source to see it in its document."
SOURCES = "Sources"
IN_DOCUMENT = "In the document"
CACHED = "cached"
EMPTY_QUESTION = "Type a question first."
BLOCK_MODE = "Block mode"
FULL_MODE = "Full mode"
QUEUED = "waiting for the model …"
READING = "reading the sources …"
STOPPED = "stopped"

GONE = "This visit ended after a long pause, and its documents were removed. Reload the page to start again."
REMOVED = "This document was removed meanwhile."
FOOTER = "Everything you load stays on this machine and is removed after the visit."
