"""Numbers as Word, PowerPoint and OpenDocument write them before headings and items (ECMA-376, 17.18.59)."""

MAX_LETTERS = 50
"""Most letters of a number such as "aaa"; Word stops there too."""

_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
    (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_AIUEO = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
_IROHA = "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセスン"
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя"
_LETTERS = {
    "lowerLetter": "abcdefghijklmnopqrstuvwxyz",
    "upperLetter": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "russianLower": _RUSSIAN,
    "russianUpper": _RUSSIAN.upper(),
    "hebrew2": "אבגדהוזחטיכלמנסעפצקרשת",
    "arabicAlpha": "أبتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "arabicAbjad": "أبجدهوزحطيكلمنسعفصقرشتثخذضظغ",
    "thaiLetters": "กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ",
}
"""Alphabets; behind the last letter they begin again, doubled."""
_SIGNS = {
    **dict.fromkeys(("aiueo", "aiueoFullWidth"), _AIUEO),
    **dict.fromkeys(("iroha", "irohaFullWidth"), _IROHA),
    "ganada": "가나다라마바사아자차카타파하",
    "chosung": "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ",
    "ideographTraditional": "甲乙丙丁戊己庚辛壬癸",
    "ideographZodiac": "子丑寅卯辰巳午未申酉戌亥",
    "ideographEnclosedCircle": "㊀㊁㊂㊃㊄㊅㊆㊇㊈㊉",
    **dict.fromkeys(
        ("decimalEnclosedCircle", "decimalEnclosedCircleChinese"), "".join(map(chr, range(0x2460, 0x2474)))
    ),
    "decimalEnclosedParen": "".join(map(chr, range(0x2474, 0x2488))),
    "decimalEnclosedFullstop": "".join(map(chr, range(0x2488, 0x249C))),
}
"""Signs; numbers beyond them are written in figures."""
_DIGITS = {
    "decimalFullWidth": "０１２３４５６７８９",
    "decimalFullWidth2": "０１２３４５６７８９",
    "thaiNumbers": "๐๑๒๓๔๕๖๗๘๙",
    "hindiNumbers": "०१२३४५६७८९",
    **dict.fromkeys(("ideographDigital", "japaneseDigitalTenThousand"), "〇一二三四五六七八九"),
    "taiwaneseDigital": "○一二三四五六七八九",
    "koreanDigital": "영일이삼사오육칠팔구",
}
_COUNTING = {
    **dict.fromkeys(
        ("japaneseCounting", "chineseCounting", "chineseCountingThousand", "taiwaneseCounting",
         "taiwaneseCountingThousand"), ("一二三四五六七八九", "十百千"),
    ),
    "koreanCounting": ("일이삼사오육칠팔구", "십백천"),
}  # fmt: skip
"""Numerals and names of tens, hundreds and thousands."""
_HEBREW = ((400, "ת"), (300, "ש"), (200, "ר"), (100, "ק"), (90, "צ"), (80, "פ"), (70, "ע"), (60, "ס"), (50, "נ"),
           (40, "מ"), (30, "ל"), (20, "כ"), (16, "טז"), (15, "טו"), (10, "י"), (9, "ט"), (8, "ח"), (7, "ז"), (6, "ו"),
           (5, "ה"), (4, "ד"), (3, "ג"), (2, "ב"), (1, "א"))  # fmt: skip
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
             "twelve": "twelfth"}  # fmt: skip


def number_text(number: int, format: str) -> str:
    """A number in one of Word's formats; in figures if the format is not known or has no sign for it."""
    if format == "none":
        return ""
    if number > 0 and format in _LETTERS:
        letters = _LETTERS[format]
        return letters[(number - 1) % len(letters)] * min((number - 1) // len(letters) + 1, MAX_LETTERS)
    if 0 < number <= len(_SIGNS.get(format, "")):
        return _SIGNS[format][number - 1]
    if format in _DIGITS and number >= 0:
        return "".join(_DIGITS[format][int(digit)] for digit in str(number))
    if 0 < number < 4000 and format in ("lowerRoman", "upperRoman"):
        text = _of_values(number, _ROMAN)
        return text.upper() if format == "upperRoman" else text
    if 0 < number < 1000 and format == "hebrew1":
        return _of_values(number, _HEBREW)
    if 0 < number < 10_000 and format in _COUNTING:
        return _counted(number, *_COUNTING[format])
    if 0 < number < 100 and format in ("cardinalText", "ordinalText"):
        return _in_words(number, is_ordinal=format == "ordinalText")
    return _in_figures(number, format)


def format_of(first: str) -> str:
    """The format whose first number is `first`, such as "一" or "①"; in figures if there is none."""
    kinds = (*_LETTERS, *_SIGNS, *_COUNTING, *_DIGITS, "hebrew1")
    return next((kind for kind in kinds if number_text(1, kind) == first), "decimal")


def _in_figures(number: int, format: str) -> str:
    if format == "decimalZero":
        return f"{number:02}"
    if format == "ordinal":
        return f"{number}{'th' if 10 < number % 100 < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
    if format == "hex":
        return f"{number:X}"
    return f"- {number} -" if format == "numberInDash" else str(number)


def _of_values(number: int, values: tuple[tuple[int, str], ...]) -> str:
    text = ""
    for value, letters in values:
        text, number = text + letters * (number // value), number % value
    return text


def _counted(number: int, numerals: str, names: str) -> str:
    """十, 二十一, 三百五: a numeral before each name, but no one before it."""
    text = ""
    for place in (3, 2, 1, 0):
        digit = number // 10**place % 10
        if digit and place:
            text += (numerals[digit - 1] if digit > 1 else "") + names[place - 1]
        elif digit:
            text += numerals[digit - 1]
    return text


def _in_words(number: int, *, is_ordinal: bool) -> str:
    """One, Twenty-first: in English, with a capital."""
    tens, last = ("", number) if number < 20 else (_TENS[number // 10 - 2], number % 10)
    word = _ONES[last] if last else ""
    if is_ordinal and word:
        word = _ORDINALS.get(word, f"{word}th")
    elif is_ordinal:
        tens = tens.removesuffix("y") + "ieth"
    return "-".join(filter(None, (tens, word))).capitalize()
