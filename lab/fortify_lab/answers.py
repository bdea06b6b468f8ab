"""How a submission is judged: the rule of `crates/fortify-captcha/src/answer.rs`, in Python.

Kept beside the attack and not taken from the program, so that 10,000 readings are judged without
10,000 processes. `tests/test_answers.py` holds the cases of the Rust tests.
"""

import unicodedata

from .labels import Sample

ALPHABET = "ACDEFHJKLMNPRTUVWXY34679"
MAX_CHARS = 64
MAX_BYTES = 256
FORGIVEN_FROM = 5
LARGEST_FORGIVING_LEVEL = 5

_SEPARATORS = set("-.,_'\";:/|+\u00b7\u2060\ufeff\u00ad") | {
    chr(code)
    for low, high in ((0x2010, 0x2015), (0x2018, 0x201D), (0x200B, 0x200F))
    for code in range(low, high + 1)
}
_DIGIT_BLOCKS = (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50)
_LOOK_ALIKES = str.maketrans(
    "O0\u041e\u039f1"
    "\u0410\u0421\u0415\u0401\u041d\u0408\u041a\u041c\u0420\u0422\u0423\u04ae\u0425\u0417\u0427"
    "\u0391\u0395\u0397\u039a\u039c\u039d\u03a1\u03a4\u03a5\u03a7\u03f9",
    "DDDD7"
    "ACEEHJKMPTYYX34"
    "AEHKMNPTYXC",
)
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = tuple(_SMALL)


def to_ascii(character: str) -> str:
    """Full-width characters and the digits of other scripts as ASCII."""
    code = ord(character)
    if character == "\u3000":
        return " "
    if 0xFF01 <= code <= 0xFF5E:
        return chr(code - 0xFEE0)
    for zero in _DIGIT_BLOCKS:
        if zero <= code < zero + 10:
            return chr(code - zero + ord("0"))
    return character


def fold(text: str) -> str:
    """The characters of `text` as they are compared."""
    folded = []
    for character in map(to_ascii, text):
        if character.isspace() or unicodedata.category(character) == "Cc" or character in _SEPARATORS:
            continue
        folded.append("6" if character == "\u0431" else character)
    return "".join(folded).upper().translate(_LOOK_ALIKES)


def osa_distance(left: str, right: str) -> int:
    """Optimal string alignment: edits and swaps of neighbours, none edited twice."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, 1):
        current = [row]
        for column, b in enumerate(right, 1):
            best = min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (a != b))
            if row > 1 and column > 1 and a == right[column - 2] and left[row - 2] == b:
                best = min(best, before[column - 2] + 1)
            current.append(best)
        before, previous = previous, current
    return previous[-1]


def parse_number(text: str) -> int | None:
    """Digits of any script, or English words up to 999."""
    text = "".join(map(to_ascii, text)).lower().strip()
    for sign in "=+":
        text = text.removeprefix(sign).lstrip()
    text = text.removesuffix(".").rstrip()
    if text[:1].isascii() and text[:1].isdigit():
        significant = text.lstrip("0")
        if not (text.isascii() and text.isdigit()) or len(significant) > 9:
            return None
        return int(significant or "0")
    return _parse_words(text)


def _parse_words(text: str) -> int | None:
    parts = [part for part in _hyphens_to_spaces(text).split() if part]
    if not parts:
        return None
    total = 0
    if len(parts) > 1 and parts[1] == "hundred":
        hundreds = 1 if parts[0] == "a" else _small(parts[0])
        if hundreds is None or not 1 <= hundreds < 10:
            return None
        total, rest = hundreds * 100, parts[2:]
        if rest[:1] == ["and"]:
            rest = rest[1:]
            if not rest:
                return None
        if not rest:
            return total
        parts = rest
    if parts[0] in _TENS:
        total += (_TENS.index(parts[0]) + 2) * 10
        parts = parts[1:]
        if parts:
            unit = _small(parts[0])
            if unit is None or not 1 <= unit < 10:
                return None
            total, parts = total + unit, parts[1:]
    else:
        unit = _small(parts[0])
        if unit is None:
            return None
        total, parts = total + unit, parts[1:]
    return None if parts else total


def _hyphens_to_spaces(text: str) -> str:
    return "".join(" " if c == "-" or "\u2010" <= c <= "\u2015" else c for c in text)


def _small(word: str) -> int | None:
    return _SMALL.index(word) if word in _SMALL else None


def tolerates(sample: Sample) -> bool:
    """Whether one slip is forgiven: levels 1 to 5, texts of at least five characters, typed."""
    return (
        sample.level <= LARGEST_FORGIVING_LEVEL
        and sample.kind == "text"
        and len(sample.answer) >= FORGIVEN_FROM
    )


def matches(sample: Sample, submitted: str, tolerant: bool, answer: str | None = None) -> bool:
    """Whether `submitted` is right; with `tolerant`, at the tolerance that is in force.

    `answer` stands in for the sample's own, to ask whether a decoy was submitted.
    """
    expected = sample.answer if answer is None else answer
    if len(submitted) > MAX_CHARS or len(submitted.encode()) > MAX_BYTES:
        return False
    if sample.kind == "choice":
        return submitted.strip() == expected
    if sample.kind == "number":
        return parse_number(submitted) == int(expected)
    if sample.kind == "words":
        # Canonical words only: an attacker submits those, so synonyms need no knowing.
        return submitted.lower().split() == expected.lower().split()
    expected, submitted = fold(expected), fold(submitted)
    if expected == submitted:
        return True
    return tolerant and tolerates(sample) and osa_distance(expected, submitted) <= 1
