"""Every string of the interface."""

import re

TITLE = "BlockRAG"
TAGLINE = "Ask your documents. They are read once, in advance, so the first words come in under a second."

DOCUMENTS = "Documents"
BLOCKS = "Blocks"
INDEX = "Index"
ASK = "Ask"
CACHE = "Cache"
BENCHMARKS = "Benchmarks"
SETTINGS = "Settings"

COLLECTION = "Collection"
MANAGE = "Collections"
COLLECTION_NAME = "Name"
COLLECTION_NAME_INFO = "For a new collection, or a new name for this one. To delete this collection, type its name."
CREATE = "New collection"
RENAME = "Rename"
DELETE_COLLECTION = "Delete collection"
EXPORT = "Export to a file"
IMPORT = "Import a file"
TYPE_NAME = "To delete this collection and everything in it, type its name first: {name}"
DELETED = "The collection and its documents, blocks and KV were deleted."

UPLOAD = "Upload documents"
UPLOAD_INFO = (
    "PDF, Word, PowerPoint, Excel, OpenDocument, RTF, EPUB, HTML, Markdown, text, code, chat exports. "
    "Up to {n_files} files at once, {megabytes} MB each."
)
MORE_WAYS = "Add a web page, a folder or a text"
URL = "Web address"
URL_INFO = "The page or file is fetched once, now."
URL_ADD = "Fetch"
URL_MISSING = "Type a web address first."
URL_WRONG = "This is not a web address: give one that begins with https:// or http://."
URL_NO_HOST = "{host} was not found. Is the address right?"
URL_PRIVATE = "{host} is in a private network. Only public addresses are fetched; upload the file instead."
URL_REDIRECTS = "The address redirects more than {n} times."
URL_STATUS = "The server answered {status} {reason}."
URL_SLOW = "The server took more than {seconds:.0f} seconds. Download the file and upload it."
URL_FAILED = "{host} could not be reached ({reason})."
URL_TOO_LARGE = "The file is larger than {megabytes} MB, which is the limit."
FOLDER_ADD = "Add a folder"
FOLDER_UNREAD = "{n:,} files of this folder are of types that are not read: {names}."
SYNC = "Folder on this machine"
SYNC_INFO = "New and changed files are read, documents of deleted files are removed."
SYNC_START = "Bring in step"
SYNC_DONE = "{n:,} files are read, {gone:,} documents of deleted files were removed."
SYNC_MISSING = "There is no folder {name} on this machine. Give its whole path."
SYNC_ELSEWHERE = "Folders are read only where the application runs on your own machine."
HOW_READ = "How files are read"
OCR = "Read scanned pages (OCR)"
OCR_INFO = "For PDF files without text. Some seconds for each page."
OCR_MISSING = "Install the extra blockrag[ocr] to read scanned pages."
CHOSEN_ONE = "Asking only **{name}**"
CHOSEN_N = "Asking only **{n} of {total} documents**"
CHOOSE_ALL = "Ask all documents"
CHOSEN_GONE = "The documents you chose were removed. Choose others, or ask all."
CHOSEN_NOT_INDEXED = "The documents you chose are not indexed yet: index them in the tab Index."
SEARCHED_ONE = "Searched only {name}."
SEARCHED_N = "Searched only {n} chosen documents: {names}."
RENAME_DOCUMENT = "New name"
RENAME_EMPTY = "Type a name first."
RECUT = "Cut again"
REPLACE = "Replace with a file"
REPLACE_ONE = "One document can be replaced at a time; {n} are chosen."
DELETE_CHOSEN = "Delete"
DELETE_SURE = "Delete {n} for good"
KEEP = "Keep"
SHOW_BLOCKS = "Show blocks"
PASTE = "Text"
PASTE_NAME = "Name"
PASTE_ADD = "Add the text"
PASTE_EMPTY = "Paste a text first."
PASTE_TOO_LONG = "The text is larger than {megabytes} MB. Split it."
FILE_ENCODING = "Encoding of text files"
FILE_ENCODING_INFO = "Detected where it is empty. If letters are wrong, name it here and add the file again."
NO_ENCODING = "There is no encoding {name!r}; there are utf-8, cp1252, utf-16, shift_jis, gb18030 and others."
NO_DOCUMENTS = "No documents yet: drop some above."
SAMPLE = "Try the sample"
SAMPLE_NAME = "A guide to Saltmere.md"
READING_FILE = "reading …"
SCORING = "scoring boundaries"
SEGMENTING = "cutting into blocks, {percent} %"
INDEXING = "indexing"
INDEXING_PERCENT = "indexing, {percent} %"
WAITING = "waiting to be read"
WAITING_TO_INDEX = "waiting to be indexed"
READY_TO_INDEX = "not indexed"
INDEXED = "indexed"
CHARACTERS = "{n:,} characters"
PAGES = "{n:,} pages"
READ_AS = "Read as {name}."
SAME_FILE = "{name} is here already, with the same text."
INTERNAL_ERROR = "an internal error; the log of the application tells more"

DOCUMENT = "Document"
GRANULARITY = "Granularity"
GRANULARITY_INFO = "Left: few large blocks. Right: many small ones. Your own edits are kept."
SEGMENTER = "Segmenter"
SEGMENTER_SETTINGS = "Segmenter and block sizes"
SEGMENTER_INFO = "How possible boundaries are scored."
SEGMENTER_CHOICES = {
    "neural": "Learned: a model trained on where people start a new block",
    "structural": "Structure: headings, paragraphs, turns, definitions",
    "similarity": "Similarity: where the topic changes, by sentence embeddings",
    "fixed": "Fixed size: a block every N tokens",
}
MIN_TOKENS = "Minimum tokens"
MAX_TOKENS = "Maximum tokens"
APPLY = "Segment again"
COMPARE = "Compare with another segmentation"
COMPARE_BUTTON = "Show side by side"
COMPARE_NONE = "Choose a segmenter and a granularity to see the same text segmented that way here."
NO_BLOCKS = "No blocks yet: load a document first."
EDIT_HINT = (
    "Click between sentences to start a block there. Click the line under a block to merge it with the next. ▲ and ▼ "
    "move a boundary, ⠿ drags it. Arrow keys, Enter and Alt with arrow keys do the same."
)
BLOCK_SUMMARY = "{n} blocks of {smallest} to {largest} tokens, median {median:.0f}"
TOO_LARGE = "too large"
NO_LIMIT = "no limit"
AT_MOST = "at most "

INDEX_BUTTON = "Index all documents"
STOP = "Stop"
NOTHING_TO_INDEX = "Nothing to index yet: load a document first."
INDEX_EXPLAINED = (
    "The model reads each block once and keeps its keys and values (KV); a vector makes the block searchable. "
    "Unchanged blocks are not read again."
)
NOT_INDEXED = "{n} blocks, not indexed"
INDEX_OUTDATED = "{n} blocks, changed since they were indexed"
INDEXED_BLOCKS = "{n} blocks indexed · {kv}"
KV_IN_TIERS = "KV: {tiers}"
BLOCKS_IN_TIER = "{n} in {tier}"
KV_NOT_CACHED = "KV not cached (built on first use): {n}"
KV_NOT_LOCAL = "KV not on this machine (fetched or built on first use): {n}"
EMBEDDING = "embedding: {done} of {total} blocks"
ENCODING = "encoding: {done} of {total} blocks"
REUSED = ", {n} reused"
SECONDS_LEFT = ", about {s:.0f} s left"
NEARLY_DONE = ", nearly done"

QUESTION = "Question"
QUESTION_PLACEHOLDER = "What do you want to know?"
ASK_BUTTON = "Ask"
FOLLOW_UP = "Understand follow-up questions"
FOLLOW_UP_INFO = "A question that points back, such as “And how tall is it?”, is asked with the one before."
AS_FOLLOW_UP = "asked with the question before"
FOLLOW_UP_PROMPT = "Earlier I asked: {question}\nYou answered: {answer}\n\n{now}"
CONVERSATION = "Conversation"
NEW_CONVERSATION = "New"
DELETE_CONVERSATION = "Delete"
WELCOME = (
    "Add documents, or try the sample: a short guide to an island that does not exist, so that every right answer must "
    "come from the text."
)
WELCOME_READY = "Ask a question about your documents. Each answer shows the passages that it is taken from."
SAMPLE_QUESTIONS = (
    "Who built the lighthouse?",
    "How long does the ferry crossing take?",
    "What does the winner of the race receive?",
)
COMPARE_ANSWERS = "Compare with reading everything"
WRITE_MORE = "Write more"
ANSWER_TITLES = {"block": "From the cached blocks", "full": "Reading everything again"}
ENDED = {"length": "The answer was cut off at its maximum length.", "closed": "Stopped."}
WAITING_FOR_DOCUMENTS = "reading your documents first …"
ASK_NO_DOCUMENTS = "There are no documents yet: add some, or try the sample."
ASK_NOT_INDEXED = "Your documents are not indexed yet: index them in the tab Index."
SOURCES_CHANGED = "The blocks have changed since this answer. Ask the question again to compare."
QUESTION_GONE = "This question was deleted in the meantime."
TOO_MANY_WAITING = "Eight questions wait for an answer in this conversation already. Wait for one of them."
REUSED_OF = "{n:,} of {total:,} tokens reused from cache"
LEFT_OUT_N = "{n} blocks left out because the model's context is full"
SAVED_TOKENS = "Answers so far: {n:,}. Tokens reused from cache: {n_tokens:,}."
SAVED_TIME = " Time saved where both modes answered: {time}."
MODE = "Mode"
MODES = {"Compare both": "compare", "Block mode": "block", "Full mode": "full"}
MODE_INFO = "Block mode reuses cached blocks. Full mode reads everything again."
BY = {"Meaning and words": "hybrid", "Meaning": "dense", "Words": "lexical"}
K = "Blocks to retrieve"
MAX_NEW_TOKENS = "Maximum answer length, in tokens"
MORE = "Mode, sources, length"
NO_SOURCES = "The passages that an answer is taken from appear here."
NO_TIMES = "What an answer cost appears here."
NO_SOURCE = "Click a source to see it in its document."
SOURCE_CHANGED = "The document has changed since this answer."
SOURCES = "Sources"
IN_DOCUMENT = "In the document"
SOURCE_CAPTION = "{document}, source {number}"
PAGE_CAPTION = "{document}, page {page}"
SOURCE_PAGE = "page {page}"
SOURCE_SPAN = "characters {start:,} to {end:,}"
SOURCE_DETAIL = "{where} · {n_tokens} tokens · similarity {similarity:.2f}"
CACHED = "cached"
EMPTY_QUESTION = "Type a question first."
QUESTION_TOO_LONG = "The question has {n:,} characters. The limit is {limit:,}; shorten it."
QUESTION_TOO_MANY_TOKENS = "The question has {n:,} tokens; at most {limit:,} are allowed."
BLOCK_MODE = "Block mode"
FULL_MODE = "Full mode"
ANSWER_DONE = "{n} tokens, {rate:.0f} per second"
QUEUED = "waiting for the model …"
AHEAD = "{n} questions ahead of yours …"
READING = "reading the sources …"
STOPPED = "stopped"
FIRST_TOKEN_AFTER = "First words after {time}"
FIRST_TOKEN_COMPARED = "First words after {block} instead of {full}: {ratio:.1f}× {faster}"
FASTER, SLOWER = "faster", "slower"
TOKENS_REUSED = "{n:,} of {total:,} tokens reused from cache ({tiers})."
HITS_IN_TIER = "{n} blocks from {tier}"
NO_HITS = "no block was cached"
LEFT_OUT = "Left out because the model's context is full: blocks {numbers}."

CACHE_EXPLAINED = (
    "The tiers that keep the keys and values (KV) of blocks, fastest first. A full tier evicts the least recently used "
    "blocks. A block found in a slower tier is copied back to a faster one when a question needs it."
)
NO_CACHE = "No tier keeps KV."
TIER = "Tier"
CLEAR = "Clear this collection from the tier"
WARM = "Build missing KV"
MOVE = "Copy this collection to memory"
REFRESH = "Refresh"
USED_OF_BUDGET = "{used} of {budget}"
USED_NO_LIMIT = "{used}, no limit"
SHARED_STORE = "A store that others may share; its contents are not counted here."
CLEARED = "Deleted the KV of {n} blocks. It is built again on first use."
MOVED = "Copied the KV of {n} blocks to memory."
WARMED = "All indexed blocks have KV."

BENCHMARKS_EXPLAINED = (
    "Time to first token with cached blocks against reading everything again. The tables ship with the project. The "
    "button measures the current model on this machine, which takes a minute or two on a CPU."
)
MEASURE = "Measure this machine"
THIS_MACHINE = "This machine, current model"
NO_MEASURE = "Nothing measured on this machine yet."
TTFT_HEAD = ["Tokens", "Full, ms", "Block, ms", "Speed-up"]
PLOTS = "Plots"

SETTINGS_EXPLAINED = "Your own settings. Those about documents apply to documents you load from now on."
SAVE = "Save"
SAVED = "Saved."
BUDGETS = "Tier budgets, in GiB"
BUDGETS_EXPLAINED = "How much KV each tier keeps. Lowering a budget evicts at once."
BUDGETS_ELSEWHERE = (
    "Everyone on this server shares the tiers. Set their budgets when you start the application, with --kv-memory-gb "
    "and related flags."
)
SAVE_BUDGETS = "Save budgets"
SETTING_LABELS = {
    "segmenter": "Segmenter",
    "granularity": "Granularity",
    "min_tokens": "Minimum tokens per block",
    "max_tokens": "Maximum tokens per block",
    "auto_index": "Index automatically",
    "mode": "Mode",
    "by": "Search",
    "k": "Blocks to retrieve",
    "max_new_tokens": "Maximum answer length, in tokens",
    "temperature": "Temperature",
    "top_p": "Top p",
}
MODELS = "Models"
MODELS_EXPLAINED = "Shared by everyone on this server."
MODELS_ELSEWHERE = "The model is chosen when the application is started: see python app.py --help."
MODEL_CHOICE = "Answer with another model"
MODEL_CHOICE_INFO = (
    "A model of the list, a folder, a GGUF file or a Hugging Face name. It is fetched if it is missing, and the "
    "documents are indexed again."
)
USE_MODEL = "Use this model"
CHOOSE_MODEL = "Choose another model"
MODEL_LINE = "Answers by **{name}**: {about} It reads up to {tokens:,} tokens at once."
MODEL_ABOUT = {
    "smollm2": "English, very small; it finds short facts and does not reason.",
    "qwen2.5-coder-0.5b": "English, Chinese and many other languages, and code; small.",
    "qwen2.5-coder-1.5b": "English, Chinese and many other languages, and code; wants a GPU.",
}
MODEL_OF_YOURS = "a model of your choice."
MODEL_UNNAMED = "the model in use"
MODEL_SIZE = "{name}: {about} {size} to fetch."
MODEL_NAME_MISSING = "Name a model first."
MODEL_BUSY = "Another model is being loaded. Wait until it is done."
MODEL_LOADING = "Loading the model {name} …"
MODEL_FETCHING = "Fetching the model {name}: {percent} %"
MODEL_FAILED = "{name} could not be loaded, the model in use stays: {reason}"
MODEL_LABELS = {
    "model": ("Model", "Reads the blocks and answers."),
    "adapter": (
        "Adapter",
        "Weights that make answers from separate blocks as good as answers from the whole text. Choose another, a "
        "folder of your own, or none with python app.py --adapter NAME.",
    ),
    "embedder": (
        "Sentence encoder",
        "Finds the blocks that match a question. Choose another with python app.py --embedder NAME.",
    ),
}
MODEL_IN_USE = "{family}, {layers} layers, {dtype} on {device}, context of {tokens:,} tokens"
EMBEDDER_IN_USE = "{dimension} dimensions"
CHOSEN = "; chosen for this machine: {reason}"
NO_ADAPTER = (
    "none: block mode gives fewer right answers than full mode, since this model has not learned to read blocks "
    "that were encoded apart (train an adapter: python -m training.distill adapt)"
)
ADAPTER_SHIPPED = "the adapter shipped for this model"
ADAPTER_IN_USE = "{sinks} sinks before each block; blocks {sees} the prompt's prefix"
PREFIX_SEEN, PREFIX_UNSEEN = "see", "do not see"

NEEDS_COOKIE = "Allow cookies for this site and reload the page: a cookie tells which collections are yours."
GONE = "Your session expired, or its collection was deleted. Reload the page to continue."
LINK_GONE = "The collection of this address was deleted, or is not yours."
REMOVED = "This document was removed in the meantime."
STATUS_READING = "Reading {name}: {progress}"
STATUS_INDEXING = "Indexing {name}: {progress}"
STATUS_LEFT = " · {n} more"
STATUS_IN_LOG = "Deleted text is still in the database's log; it leaves it when what reads there has ended."
STATUS_WAITING = "{n} jobs wait for the machine"
STATUS_PAUSED = "Stopped: {n} jobs left"
RESUME = "Resume"
SHUTTING_DOWN = "The application is shutting down. Try again after it restarts."
FOOTERS = {
    "shared": "Everything stays on this machine. Everyone who can open this page shares these collections.",
    "login": "Only you can see your collections. They are stored on the server.",
    "private": "Only this browser can open your collections.",
}
EXPIRES = " They are deleted after four hours without use."


def escaped(text: str) -> str:
    """Return a text for use inside Markdown, without its signs and line breaks."""
    return re.sub(r"([^\w\s./-])", r"\\\1", " ".join(text.split()))
