"""Guess a single-byte encoding: the one whose text has ordinary words of some language."""

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

ENCODINGS = (
    "cp1252", "cp1251", "cp1250", "cp1254", "cp1253", "cp1255", "cp1256", "cp1257", "koi8_r", "koi8_u", "cp866",
    "mac_roman", "cp850", "cp852", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_15", "cp874", "mac_cyrillic",
    "mac_latin2", "mac_greek", "mac_turkish", "cp437", "cp737", "cp775", "cp855", "cp857", "cp862", "cp864",
    "iso8859_6", "iso8859_16", "cp1258",
)  # fmt: skip
"""The most common first; of equally likely ones the first is taken."""

_LATIN = (
    "äöüß", "àâæçéèêëîïôœùûü", "áéíñóúü", "áâãàçéêíóôõú", "àèéìíòóù", "éëïöü", "åäöé", "æøåé", "áðéíóúýþæö",
    "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîșțşţ", "čćđšž", "çğıöşüâîi\u0307",
    "ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž", "ăâđêôơưàáãèéìíòóõùúýĩũ\u0300\u0301\u0303\u0309\u0323",
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
_TYPOGRAPHIC = frozenset("“”‘’‚„‹›«»–—…•€£¥¢°§©®™·½¼¾²³±×¿¡ªº\xa0№־׳״،؛؟")
_WORD = re.compile(r"[^\W\d_]+(?:[^\W\d_]|[\u0300-\u036f])*")
_BROKEN = re.compile(
    r"(?<=[^\W\d_])[^\w\s\0-\x7f’·״׳\xad\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0e31-\u0e4e](?=[^\W\d_])"
)
"""A sign inside a word."""
_SAMPLE_CHARS = 4_000
_LEAST = 0.3
"""Smallest score of a guess. Below it the bytes are in no encoding of `ENCODINGS`."""
_TIE, _SHORT_TIE, _SHORT = 0.003, 0.5, 12
"""How far behind the best a score may be and still count as a tie, in long texts and in those of few letters; and the
number of letters beyond ASCII from which a text is long."""
_FEW_SIGNS = 4
_VOWELS = frozenset("aeiouyаеёиоуыэюяіїєαεηιουωάέήίόύώϊϋ")
_GREEK_WORD = re.compile("[^ς]*[αεηιουωάέήίόύώϊϋΐΰςνρ]")
"""Small letters of Greek: the final sigma ends a word, and few other consonants do."""
_PAIRS = {
    script: frozenset(group[0] + second for group in groups.split() for second in group[1:])
    for script, groups in (
        (
            "CYRILLIC",
            "авнлкрстмдзябпхіїй бооеаылури веоаиынсліз гоаиред деоаиурня еннртслмдевзгкйть жедиа заанди "
            "инетсйлевямкдхчз йсн коаирлтуі леоаиьяюную моеиауы неоаиыуняі овнтрслдмйгбкжпеюз пороеарлія реоаиыуяітн "
            "стокляевиьпнуа тоеарьивсуыія "
            "урчютждснлкп хо цеиі четиао шеитла щеи ыейхмвлтс ьнсюшк эт юттдчщб яевтзмнх івнлдсзйтяк "
            "їні єтмю ътлр",
        ),
        (
            "GREEK",
            "ανιπρσκλγτυδμς βαιορε γιεραονη διεοηιαυ ειναρσπτκλμχγυξ ζεωιο ηςνσμκρτλ θηεαμουω ιααοκεσςντμλδχρω "
            "κααιροελυτηω λοαιληεωυ μεαοιπηφυβ νταιηοδεωυ ξεηια ορυνςλτιπμσσκγδφ ποραειλτυω ροαιεησχωγ στεηκυιαμοωφχπ "
            "τοηαιεωρυς υνστρςμπλγχθ φοεραιυτω χεοριαυω ψηε ωννςρστπμ",
        ),
    )
}
"""Pairs of letters that are frequent in words."""
_FEW_PAIRS, _MANY_PAIRS = 0.3, 0.6
"""A word of at least four letters with a smaller share of them is hardly one; with a larger one it is, in capitals too.
"""
_ENDS_ALONE, _NEVER_ENDS = frozenset("ךםןףץ"), frozenset("כמנפצ")
"""Hebrew letters that stand only at the end of a word, and those that never do."""
_THAI_SIGNS = frozenset("ะาำิีึืฺุูเแโใไ็่้๊๋์ั")
_WINDOWS_SIGNS = re.compile(
    rb"(?<![A-Za-z])[\x80\x82\x84\x85\x91\x93-\x97\x99]|[\x85\x93\x94\x96\x97\x99](?![A-Za-z])"
    rb"|\x92(?:(?=(?:[stdm]|ll|re|ve)\b|[aeiouhAEIOUH])|(?![A-Za-z]))"
)
"""Quotation marks, dashes, dots and the euro sign of cp1252, where such signs stand."""
_SURE = re.compile(rb"\s[\x96\x97]\s|\d ?\x80|\x80 ?\d|[A-Za-z]\x92(?:[stdm]|ll|re|ve)\b")
"""Those of them that are hardly letters of another encoding."""


@dataclass(frozen=True)
class Guess:
    """An encoding, the others that fit as well, and how well it fits (0 to 1)."""

    encoding: str
    others: tuple[str, ...] = ()
    score: float = 1.0


def guess(sample: bytes) -> Guess | None:
    """The likeliest encoding, or None if none fits."""
    if _WINDOWS_SIGNS.sub(b"", sample).isascii() and _is_sure(sample):
        return Guess("cp1252")
    lines = b"\n".join(line for line in sample.split(b"\n") if not line.isascii())[: 4 * _SAMPLE_CHARS]
    texts = {encoding: text for encoding in ENCODINGS if (text := _decoded(lines, encoding) or "").strip()}
    scores = {encoding: _score(text) for encoding, text in texts.items()}
    if not scores or max(scores.values()) < _LEAST:
        return None
    best = max(scores, key=lambda encoding: scores[encoding])  # the first of equal ones
    n_beyond = sum(byte > 0x7F for byte in lines[:_SAMPLE_CHARS])
    least = scores[best] - max(_TIE, _SHORT_TIE * (1 - n_beyond / _SHORT))
    tied = {texts[name]: name for name in reversed(scores) if scores[name] >= least and texts[name] != texts[best]}
    return Guess(_common(best, sample), tuple(sorted(tied.values(), key=ENCODINGS.index)), scores[best])


def _is_sure(sample: bytes) -> bool:
    """Whether signs of cp1252 are many, in pairs or between blanks: a few bytes may be letters of another encoding."""
    n_signs, n_open = sum(byte > 0x7F for byte in sample[:_SAMPLE_CHARS]), sample.count(b"\x93")
    return n_signs >= _FEW_SIGNS or (n_open > 0 and n_open == sample.count(b"\x94")) or bool(_SURE.search(sample))


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
    broken = len(_BROKEN.findall(sample))
    inside = len(re.findall(r"(?<=[^\W\d_])[“„‚–—…•€£°§©®™½¼¾²³±×¿¡«»‹›](?=[^\W\d_])", sample))
    good_signs: float = max(0, n_signs - stray - inside)
    if n_signs > len(letters) + sum(c.isascii() and c.isalnum() for c in sample):
        good_signs *= 0.5  # text of signs
    if not letters:
        return 0.9 * good_signs / max(1, n_signs)
    foreign = 0.85 if sum(c.isascii() and c.isalpha() for c in sample) > len(letters) else 1.0
    shape = sum(
        _shape(word) * (1.0 if _is_latin(word) else foreign) * sum(c > "\x7f" for c in word) for word in words
    ) / len(letters)
    return (shape * _language(letters.lower()) * len(letters) + 0.9 * good_signs) / (
        len(letters) + n_signs + 2 * broken
    )


def _is_latin(word: str) -> bool:
    return unicodedata.name(word[0], "").startswith("LATIN")


def _shape(word: str) -> float:
    """1 for a word in small letters or with a first capital, less for one in capitals or one that can hardly be said, 0
    for mixed ones."""
    scripts = {unicodedata.name(c, "").partition(" ")[0] for c in word} - {"COMBINING"}
    if len(scripts) > 1:
        return 0.0
    if len(word) == 1:
        return 0.8
    pronounced = _pronounced(word.lower(), *scripts)
    if word.islower() or word.istitle() or word.lower() == word.upper():
        return pronounced
    if not word.isupper():
        return 0.0
    return (0.95 if _pair_share(word.lower(), *scripts) >= _MANY_PAIRS else 0.8) * pronounced


def _pronounced(word: str, script: str = "") -> float:
    """1 for a word that its script allows; 0.5 for one without a vowel, one of accented letters alone, Hebrew whose
    letters have the wrong form at the end, or Thai without a sign."""
    if script == "LATIN":
        return 0.5 if all(c > "\x7f" for c in word) else 1.0
    if script in ("CYRILLIC", "GREEK"):
        has_vowel = len(word) < 3 or bool(_VOWELS & set(word))
        is_word = has_vowel and (script == "CYRILLIC" or len(word) == 1 or _GREEK_WORD.fullmatch(word))
        is_rare = len(word) > 3 and _pair_share(word, script) < _FEW_PAIRS
        return (1.0 if is_word else 0.5) * (0.7 if is_rare else 1.0)
    if script == "HEBREW":
        return 0.5 if word[-1] in _NEVER_ENDS or _ENDS_ALONE & set(word[:-1]) else 1.0
    return 0.5 if script == "THAI" and len(word) > 3 and not _THAI_SIGNS & set(word) else 1.0


def _pair_share(word: str, script: str) -> float:
    """Share of frequent pairs among the letters of a word in small letters; 0 in scripts without a list of them."""
    plain = unicodedata.normalize("NFD", word).replace("\u0301", "") if script == "GREEK" else word
    return sum(a + b in _PAIRS.get(script, ()) for a, b in pairwise(plain)) / max(len(plain) - 1, 1)


def _language(letters: str) -> float:
    """The best share of the letters in the alphabet of one language."""
    latin = max(sum(c in alphabet for c in letters) for alphabet in _LATIN) / len(letters)
    others = []
    for alphabet in _OTHERS:
        known, frequent = set(alphabet), set(alphabet[:10])
        n_known = sum(c in known for c in letters)
        others.append((0.6 * n_known + 0.4 * min(n_known, 1.6 * sum(c in frequent for c in letters))) / len(letters))
    return max(latin, *others)
