"""Guess a single-byte encoding: the one whose text has ordinary words of some language."""

import re
import unicodedata
from dataclasses import dataclass

ENCODINGS = (
    "cp1252", "cp1251", "cp1250", "cp1254", "cp1253", "cp1255", "cp1256", "cp1257", "koi8_r", "koi8_u", "cp866",
    "mac_roman", "cp850", "cp852", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_15", "cp874", "mac_cyrillic",
    "mac_latin2", "mac_greek", "mac_turkish", "cp437", "cp737", "cp775", "cp855", "cp857", "cp862", "cp864",
)  # fmt: skip
"""The most common first; of equally likely ones the first is taken."""

_LATIN = (
    "äöüß", "àâæçéèêëîïôœùûü", "áéíñóúü", "áâãàçéêíóôõú", "àèéìíòóù", "éëïöü", "åäöé", "æøåé", "áðéíóúýþæö",
    "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîșțşţ", "čćđšž", "çğıöşüâî", "ąčęėįšųūž",
    "āčēģīķļņšūž", "äõöüšž",
)  # fmt: skip
"""Letters beyond ASCII of languages in the Latin script."""
_OTHERS = (
    "оеаинтсрвлкмдпуяыьгзбчйхжшющцэфъё",
    "оаинвіетсркдлмупязьгбчйхжшюєїґщцф",
    "αοιετσνηυρπκμλςωδγχθφβξζψάέήίόύώϊϋ",
    "יוהלאמרתבשנדכפעקחגטזסצךםןףץ",
    "اليمنرتبوهدفعكسقحجصشطخضذزثغظءأإآؤئةى",
    "านรอกเงมยลทวดตสบปคหพะขจแชใผโซถศณธภษไฟฝฉฐญฮุิีู่้ืำั์็ึ๊๋ๆฯ",
)
"""Letters of languages in other scripts, the most frequent first."""
_TYPOGRAPHIC = frozenset("“”‘’‚„‹›«»–—…•€£°§©®™·½¼¾²³±×¿¡ªº\xa0№־׳״،؛؟")
_WORD = re.compile(r"[^\W\d_]+(?:[^\W\d_]|[\u0300-\u036f])*")
_SAMPLE_CHARS = 4_000
_LEAST = 0.3
"""Smallest score of a guess. Below it the bytes are in no encoding of `ENCODINGS`."""
_TIE = 0.003
_WINDOWS_SIGNS = re.compile(
    rb"(?<![A-Za-z])[\x80\x82\x84\x85\x91\x93-\x97\x99]|[\x85\x93\x94\x96\x97\x99](?![A-Za-z])"
    rb"|\x92(?:(?=(?:[stdm]|ll|re|ve)\b|[aeiouhAEIOUH])|(?![A-Za-z]))"
)
"""Quotation marks, dashes, dots and the euro sign of cp1252, where such signs stand."""


@dataclass(frozen=True)
class Guess:
    """An encoding, and the others that fit as well."""

    encoding: str
    others: tuple[str, ...] = ()


def guess(sample: bytes) -> Guess | None:
    """The likeliest encoding, or None if none fits."""
    if _WINDOWS_SIGNS.sub(b"", sample).isascii():
        return Guess("cp1252")
    lines = b"\n".join(line for line in sample.split(b"\n") if not line.isascii())[: 4 * _SAMPLE_CHARS]
    texts = {encoding: text for encoding in ENCODINGS if (text := _decoded(lines, encoding)) is not None}
    scores = {encoding: _score(text) for encoding, text in texts.items()}
    if not scores or max(scores.values()) < _LEAST:
        return None
    best = max(scores, key=lambda encoding: scores[encoding])  # the first of equal ones
    tied = [name for name in scores if scores[name] >= scores[best] - _TIE and texts[name] != texts[best]]
    return Guess(_common(best, sample), tuple(tied))


def _common(best: str, sample: bytes) -> str:
    """The first encoding that the whole sample, not only its beginning, can be decoded in alike."""
    text = _decoded(sample, best)
    return next((encoding for encoding in ENCODINGS if _decoded(sample, encoding) == text), best)


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _score(text: str) -> float:
    """How well the characters beyond ASCII fit, 0 to 1: letters by the words that they stand in, signs by kind."""
    sample = text[:_SAMPLE_CHARS]
    words = [word for word in _WORD.findall(sample) if not word.isascii()]
    letters = "".join(c for word in words for c in word if c > "\x7f")
    n_signs = sum(c > "\x7f" for c in sample) - len(letters)
    stray = sum(c > "\x7f" and c not in _TYPOGRAPHIC for c in sample) - len(letters)
    inside = len(re.findall(r"(?<=[^\W\d_])[“„‚–—…•€£°§©®™½¼¾²³±×¿¡«»‹›](?=[^\W\d_])", sample))
    good_signs = max(0, n_signs - stray - inside)
    if not letters:
        return 0.9 * good_signs / max(1, n_signs)
    shape = sum(_shape(word) * sum(c > "\x7f" for c in word) for word in words) / len(letters)
    return (shape * _language(letters.lower()) * len(letters) + 0.9 * good_signs) / (len(letters) + n_signs)


def _shape(word: str) -> float:
    """1 for a word in small letters or with a first capital, less for one in capitals, 0 for mixed ones."""
    if len({unicodedata.name(c, "").partition(" ")[0] for c in word}) > 1:
        return 0.0  # of two scripts
    if len(word) == 1 and "LATIN" in unicodedata.name(word):
        return 0.8
    if word.islower() or word.istitle() or word.lower() == word.upper():
        return 1.0
    return 0.7 if word.isupper() else 0.0


def _language(letters: str) -> float:
    """The best share of the letters in the alphabet of one language."""
    latin = max(sum(c in alphabet for c in letters) for alphabet in _LATIN) / len(letters)
    others = []
    for alphabet in _OTHERS:
        known, frequent = set(alphabet), set(alphabet[:10])
        n_known = sum(c in known for c in letters)
        others.append((0.6 * n_known + 0.4 * min(n_known, 1.6 * sum(c in frequent for c in letters))) / len(letters))
    return max(latin, *others)
