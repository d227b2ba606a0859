"""Every sentence of the page, as data."""

TITLE = "BlockRAG"
TAGLINE = "Documents are cut into blocks, each block is read once, and a question costs only itself."

DOCUMENTS = "1  Documents"
BLOCKS = "2  Blocks"
INDEX = "3  Index"
ASK = "4  Ask"

UPLOAD = "Drop documents here: PDF, Word, PowerPoint, EPUB, HTML, Markdown, text, code, chat exports"
DOCUMENT_HEADERS = ["Document", "Type", "Characters", "Pages", "State"]
NO_DOCUMENTS = "No documents yet. Drop some above, or try the sample."
SAMPLE = "Load a sample document"
REMOVE = "Remove"
REMOVE_CHOICE = "Remove a document"
NEXT_BLOCKS = "Look at the blocks"
READY = "ready"

DOCUMENT = "Document"
GRANULARITY = "Granularity"
GRANULARITY_INFO = "Left: few, large blocks. Right: many, small ones. Your own edits stay."
SEGMENTER = "Segmenter"
SEGMENTER_INFO = "How places for a boundary are scored."
SEGMENTER_CHOICES = {
    "structural": "Structure: headings, paragraphs, turns, definitions",
    "similarity": "Similarity: where the topic changes, by sentence embeddings",
    "fixed": "Fixed size: every so many tokens",
}
SIZES = "Sizes"
MIN_TOKENS = "Fewest tokens"
MAX_TOKENS = "Most tokens"
APPLY = "Cut again"
NO_BLOCKS = (
    "Load a document in step 1, and its blocks appear here. Click between sentences to begin a block, or on the line "
    "below a block to merge it with the next."
)
NEXT_INDEX = "Index these blocks"

INDEX_BUTTON = "Index all documents"
STOP = "Stop"
NOTHING_TO_INDEX = "Nothing to index yet: load a document in step 1."
INDEX_EXPLAINED = (
    "Each block gets a vector, to be found by, and is read once by the model; the keys and values it leaves are kept."
)
NEXT_ASK = "Ask a question"

QUESTION = "Question"
QUESTION_PLACEHOLDER = "What do you want to know from these documents?"
ASK_BUTTON = "Ask"
MODE = "Mode"
MODES = {"Compare both": "compare", "Block mode": "block", "Full mode": "full"}
MODE_INFO = "Block mode uses the cached blocks; full mode reads everything again."
K = "Blocks to retrieve"
MAX_NEW_TOKENS = "Longest answer, in tokens"
MORE = "More settings"
NO_ANSWER = "The answer appears here."
NO_FULL_ANSWER = "Full mode answers here, for comparison."
NO_SOURCES = "The blocks that the answer is given appear here."
NO_TIMES = "How soon the first token comes, in block and in full mode, appears here."
NO_SOURCE = "Click a source to see it in its document."
SOURCES = "Sources"
IN_DOCUMENT = "In the document"
EMPTY_QUESTION = "Type a question first."
BLOCK_MODE = "Block mode"
FULL_MODE = "Full mode"
WAITING = "waiting"
READING = "reading the sources …"
STOPPED = "stopped"

GONE = "This visit ended after a long pause, and its documents were removed. Reload the page to start again."
STALE = "The blocks changed meanwhile; please click again."
FOOTER = "Everything you load stays on this machine and is removed after the visit."
