"""Every sentence of the page, as data."""

TITLE = "BlockRAG"
TAGLINE = "Documents are cut into blocks, each block is read once, and a question costs only itself."

DOCUMENTS = "Documents"
BLOCKS = "Blocks"
INDEX = "Index"
ASK = "Ask"
CACHE = "Cache"
BENCHMARKS = "Benchmarks"
SETTINGS = "Settings"

COLLECTION = "Collection"
MANAGE = "Collections: new, rename, export, import, delete"
COLLECTION_NAME = "Name"
COLLECTION_NAME_INFO = "Of a new collection, or the new name of this one. To delete this one, type its name."
CREATE = "New collection"
RENAME = "Rename"
DELETE_COLLECTION = "Delete collection"
EXPORT = "Export to a file"
IMPORT = "Import a file"
TYPE_NAME = "To delete this collection with all that is in it, type its name, {name}, first."
DELETED = "The collection, its documents, blocks and KV are gone."

UPLOAD = "Upload documents"
UPLOAD_INFO = (
    "PDF, Word, PowerPoint, EPUB, HTML, Markdown, text, code, chat exports; up to {n_files} at once, "
    "{megabytes} MB each."
)
NO_DOCUMENTS = (
    "No documents yet. Drop some above, or begin with the sample: its blocks and answers show what this does."
)
SAMPLE = "Load a sample document"
NEXT_BLOCKS = "Next: look at the blocks"
STOP_LOADING = "Stop"
CONTINUE_LOADING = "Go on with the files that wait"
LOADING = "reading …"
SCORING = "scoring"
SEGMENTING = "segmenting {percent} %"
WAITING = "received, waits to be read"
READY = "ready to index"
INDEXED = "indexed"
LEFT_TO_READ = "files to read: {n}"

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
APPLY = "SegmentationRecord again"
COMPARE = "Compare with another cut"
COMPARE_BUTTON = "Show beside it"
COMPARE_NONE = "Choose a segmenter and a granularity, and see the same text cut that way here."
NO_BLOCKS = "Nothing to cut yet: load a document first, and its blocks appear here."
EDIT_HINT = (
    "Click between sentences to begin a block, on the line under a block to merge it; ▲ and ▼ move a boundary, ⠿ drags "
    "it. Arrow keys, Enter and Alt with arrows do the same."
)
TOO_LARGE = "does not fit"
NO_LIMIT = "no limit"
NEXT_INDEX = "Next: index these blocks"

INDEX_BUTTON = "Index all documents"
STOP = "Stop"
NOTHING_TO_INDEX = "Nothing to index yet: load a document first."
INDEX_EXPLAINED = (
    "Each block gets a vector, to be found by, and is read once by the model; the keys and values it leaves are kept. "
    "Blocks that did not change are not read again."
)
NOT_INDEXED = "not indexed"
CUT_ANEW = "cut anew since it was indexed"
KV_NOWHERE = "not cached on this machine"
NEXT_ASK = "Next: ask a question"

QUESTION = "Question"
QUESTION_PLACEHOLDER = "What do you want to know from these documents?"
ASK_BUTTON = "Ask"
RETRY = "Again"
FOLLOW_UP = "Follow-up: the question before and its answer come along"
FOLLOWING = "Earlier I asked: {question}\nYou answered: {answer}\n\n{now}"
CONVERSATION = "Conversation"
NEW_CONVERSATION = "New conversation"
DELETE_CONVERSATION = "Delete it"
HISTORY = "Conversations"
NO_HISTORY = "Questions of this conversation appear here; a click shows one again with its answers and sources."
MODE = "Mode"
MODES = {"Compare both": "compare", "Block mode": "block", "Full mode": "full"}
MODE_INFO = "Block mode uses the cached blocks; full mode reads everything again."
K = "Blocks to retrieve"
MAX_NEW_TOKENS = "Longest answer, in tokens"
MORE = "Mode, sources, length"
NO_ANSWER = "The answer appears here."
NO_FULL_ANSWER = "Full mode answers here, for comparison."
NO_SOURCES = "The blocks that the answer is given appear here. Pin one to have it in the next answer, or exclude it."
NO_TIMES = "How soon the first token comes, in block and in full mode, appears here."
NO_SOURCE = "Click a source to see it in its document."
SOURCES = "Sources"
IN_DOCUMENT = "In the document"
CACHED = "cached"
EMPTY_QUESTION = "Type a question first."
BLOCK_MODE = "Block mode"
FULL_MODE = "Full mode"
QUEUED = "waiting for the model …"
AHEAD = "questions of others that are answered first: {n} …"
READING = "reading the sources …"
STOPPED = "stopped"

CACHE_EXPLAINED = (
    "Where the keys and values of blocks are kept, fastest first. A tier that is full lets the blocks go that were "
    "used least; from a slower one they come back when they are asked for."
)
NO_CACHE = "No tier keeps block KV."
SHARED_STORE = "A store that others may use too; its contents are not counted here."
TIER = "Tier"
CLEAR = "Clear this collection from the tier"
WARM = "Make what is missing"
MOVE = "Copy this collection into memory"
REFRESH = "Look again"
CLEARED = "KV of {n} blocks was deleted; it is made again when it is needed."
MOVED = "KV of {n} blocks was copied into memory."
WARMED = "Every indexed block has its KV."

BENCHMARKS_EXPLAINED = (
    "Time to the first token over cached blocks, against reading everything again. The tables come with the project; "
    "the button measures the model in use on this machine, which takes a minute or two on a CPU."
)
MEASURE = "Measure this machine"
THIS_MACHINE = "This machine, the model in use"
NO_MEASURE = "Nothing is measured on this machine yet."
TTFT_HEAD = ["Tokens", "Full, ms", "Block, ms", "Sooner"]
PLOTS = "Plots"

SETTINGS_EXPLAINED = "Yours alone, and kept. What concerns documents holds for those that you load from now on."
SAVE = "Save"
SAVED = "Saved."
BUDGETS = "Budgets of the tiers, in GiB"
BUDGETS_EXPLAINED = "How much block KV each tier keeps; less evicts at once."
BUDGETS_ELSEWHERE = (
    "Others use the tiers too: their budgets are set where the application is started, by --kv-memory-gb and others."
)
SAVE_BUDGETS = "Set budgets"
SETTING_LABELS = {
    "segmenter": "Segmenter",
    "granularity": "Granularity",
    "min_tokens": "Fewest tokens of a block",
    "max_tokens": "Most tokens of a block",
    "mode": "Mode",
    "k": "Blocks to retrieve",
    "max_new_tokens": "Longest answer, in tokens",
}
MODELS = "Models in use"
MODELS_EXPLAINED = (
    "All visitors use them, so that they are chosen where the application is started: python app.py --help."
)
MODEL_LABELS = {
    "model": ("Model", "Reads the blocks and answers. python app.py --model NAME starts with another one."),
    "adapter": (
        "Adapter",
        "Weights by which the model answers from blocks as well as from the whole text. python app.py --adapter NAME "
        "starts with another one, a folder of your own, or none.",
    ),
    "embedder": (
        "Sentence encoder",
        "Finds the blocks that a question is about. python app.py --embedder NAME starts with another one.",
    ),
}
MODEL_IN_USE = "a {family} network of {layers} layers in {dtype} on {device}, which reads up to {tokens:,} tokens"
EMBEDDER_IN_USE = "{dimension} numbers a block"
NO_ADAPTER = "none: block mode runs the model's own weights, which were not made for it"
ADAPTER_SHIPPED = "the one that comes for this model"
ADAPTER_IN_USE = "{sinks} sinks before each block; blocks {sees} the prompt's beginning"
PREFIX_SEEN, PREFIX_UNSEEN = "see", "do not see"

GONE = "This visit ended after a long pause, or its collection was deleted. Reload the page to go on."
REMOVED = "This document was removed meanwhile."
FOOTERS = {
    "shared": "Everything stays on this machine. All who can open this page share these collections.",
    "login": "Your collections are yours alone, and stay on the machine that serves this page.",
    "private": "Your collections belong to this browser alone.",
}
EXPIRES = " They are removed after four hours without use."
