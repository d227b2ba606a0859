"""Which language a text is in, and whether encoder and segmenter know it."""

import re
from collections import Counter
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from blockrag.retrieve.embedder import Embedder

SEGMENTERS = {"neural": frozenset({"en"})}
"""Languages that a segmenter learned; those that are not here know none."""

NAMES = {
    "en": "English", "es": "Spanish", "fr": "French", "de": "German", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "sv": "Swedish", "da": "Danish", "pl": "Polish", "cs": "Czech", "tr": "Turkish",
    "fi": "Finnish", "hu": "Hungarian", "ro": "Romanian", "id": "Indonesian", "vi": "Vietnamese",
    "ru": "Russian", "uk": "Ukrainian", "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "ar": "Arabic",
    "fa": "Persian", "he": "Hebrew", "el": "Greek", "hi": "Hindi", "th": "Thai",
}  # fmt: skip

_SCRIPTS = (
    ("ja", regex.compile(r"[\p{Hiragana}\p{Katakana}]"), 0.1),  # Chinese signs make up the rest
    ("zh", regex.compile(r"\p{Han}"), 0.3),
    ("ko", regex.compile(r"\p{Hangul}"), 0.3),
    ("fa", regex.compile("[پچژگ]"), 0.02),
    ("ar", regex.compile(r"\p{Arabic}"), 0.5),
    ("he", regex.compile(r"\p{Hebrew}"), 0.5),
    ("el", regex.compile(r"\p{Greek}"), 0.5),
    ("hi", regex.compile(r"\p{Devanagari}"), 0.5),
    ("th", regex.compile(r"\p{Thai}"), 0.5),
    ("uk", regex.compile("[іїєґ]"), 0.03),
    ("ru", regex.compile(r"\p{Cyrillic}"), 0.5),
)
"""Languages by their letters, and the least share of these among all letters; the first that fits."""

_WORDS = {
    "en": "the of and to is in that it was for are with as his be this from have which not by",
    "es": "el la los las de que en un una por con para del se no es su al lo como más",
    "fr": "le la les des du et en un une est que qui dans pour pas sur au avec ce il sont ne",
    "de": "der die das und ist nicht ein eine den dem zu mit von auf für im sich auch des wird",
    "it": "il la lo gli di che un una per non con del della sono le nel dei si più alla",
    "pt": "os as de que em um uma para com não do da se por dos no na mais ao",
    "nl": "de het een van en is dat niet op te zijn voor met die er aan ook als bij naar",
    "sv": "och att det som en är på för av med den inte ett har till om de var från",
    "da": "og at det som en er på for af med den ikke et har til om de var fra",
    "pl": "nie na się że do jest to jak za od po co przez dla są był oraz",
    "cs": "se na je že do to jako za pro ale by byl jsou od který",
    "tr": "ve bir bu da de için ile çok olarak daha olan gibi ama ne kadar sonra en",
    "fi": "ja on ei se että oli hän mutta kun niin ovat joka myös tai kuin sen",
    "hu": "az és hogy nem is egy ez van volt de meg csak mint azt vagy már",
    "ro": "și de în la nu că este cu un pe din să care mai pentru sau",
    "id": "yang dan di dengan untuk dari ini itu tidak adalah pada akan dalam juga ke oleh",
    "vi": "và của là có không được cho một những trong với người này các đã khi",
}
"""The most frequent words of languages in the Latin script."""

_MOST_FREQUENT = {code: frozenset(words.split()) for code, words in _WORDS.items()}
_WORD = re.compile(r"[^\W\d_]{2,}")  # single letters are more frequent in formulas and tables than in any language
_LEAST_WORDS, _LEAST_SHARE, _LEAST_DIFFERENT = 30, 0.12, 5
_SAMPLE_CHARS, _SAMPLES = 4_000, 3


def language_of(text: str) -> str | None:
    """The code (ISO 639-1) of the language that most of a text is in; None where it cannot be told, as of tables and
    code. Reads three samples of the text."""
    step = max(1, (len(text) - _SAMPLE_CHARS) // (_SAMPLES - 1))
    starts = range(0, max(1, len(text) - _SAMPLE_CHARS + 1), step) if len(text) > _SAMPLE_CHARS else [0]
    sample = " ".join(text[start : start + _SAMPLE_CHARS] for start in starts).casefold()
    n_letters = sum(map(str.isalpha, sample))
    if n_letters < _LEAST_WORDS:
        return None
    for code, letters, least in _SCRIPTS:
        if len(letters.findall(sample)) >= least * n_letters:
            return code
    words = Counter(_WORD.findall(sample))
    if words.total() < _LEAST_WORDS:
        return None
    shares = {code: sum(words[word] for word in known) / words.total() for code, known in _MOST_FREQUENT.items()}
    best = max(shares, key=shares.__getitem__)
    different = sum(word in words for word in _MOST_FREQUENT[best])
    return best if shares[best] >= _LEAST_SHARE and different >= _LEAST_DIFFERENT else None


def language_note(text: str, embedder: "Embedder", segmenter: str) -> str:
    """What a reader should know of a text in a language that the encoder or the segmenter did not learn; empty where
    there is nothing to say."""
    code = language_of(text)
    if code is None:
        return ""
    learned = SEGMENTERS.get(segmenter, frozenset())
    known: frozenset[str] = getattr(embedder, "languages", frozenset())
    said = []
    if known and code not in known:
        said.append(
            f"the encoder knows {_listed(known)}, so that blocks are found by their words more than by their meaning"
        )
    if learned and code not in learned:
        said.append(f"the segmenter learned {_listed(learned)}, so that blocks may begin at worse places")
    return f"The text seems to be {NAMES[code]}: {'; '.join(said)}." if said else ""


def _listed(codes: frozenset[str]) -> str:
    return ", ".join(sorted(NAMES.get(code, code) for code in codes))
