"""Sums as engines read them: `10x62` is 10 x 6 = ?, `11+nine2` is 11 + nine = ?"""

import re

from .answers import NUMBER_WORDS, osa_distance, to_ascii

_SIGNS = {
    **dict.fromkeys("xX*✕×∗χхХ%", "*"),
    **dict.fromkeys("-－—–−_~一", "-"),
    **dict.fromkeys("+＋十†", "+"),
    **dict.fromkeys("=＝二≡", "="),
    **dict.fromkeys("?？>〉)）", "?"),
}
# What engines take the question mark for, at the end of a sum.
_QUESTION = "?72"
_DIGITS = str.maketrans("OoDQlI|SsZzBgq", "00001115522899"[:14])
_OPERAND = r"(\d{1,3}|[a-z]{3,6})"
_SUM = re.compile(_OPERAND + r"([+*-])" + _OPERAND)


def evaluate(reading: str, tail: bool = True) -> int | None:
    """What the sum in `reading` comes to; `None` if there is none.

    `tail` says that `= ?` follows the sum, so that what stands in its place is cut off.
    """
    text = _normalise(reading)
    for candidate in _without_tail(text) if tail else [text.rstrip("=?")]:
        found = _SUM.fullmatch(candidate)
        if not found:
            continue
        left, right = _operand(found[1]), _operand(found[3])
        if left is None or right is None:
            continue
        return {"+": left + right, "-": left - right, "*": left * right}[found[2]]
    return None


def _normalise(reading: str) -> str:
    """Signs to ASCII; an x between letters is a letter."""
    text = "".join(map(to_ascii, reading)).replace(" ", "")
    characters = []
    for index, character in enumerate(text):
        if character in "xX":
            near = text[max(0, index - 1) : index] + text[index + 1 : index + 2]
            in_word = text[max(0, index - 2) : index].lower() == "si"
            characters.append("x" if in_word and near else "*")
        else:
            characters.append(_SIGNS.get(character, character))
    text = "".join(characters)
    # Letters alone between signs and digits are digits; three in a row are a word.
    return re.sub(
        r"[A-Za-z|]+",
        lambda run: run[0].lower() if len(run[0]) >= 3 else run[0].translate(_DIGITS).lower(),
        text,
    )


def _without_tail(text: str) -> list[str]:
    """Ways to cut off `= ?`, the surest first."""
    if "=" in text:
        return [text.split("=")[0]]
    cut = [text]
    if text and text[-1] in _QUESTION:
        cut = [text[:-1]]
    # The equals sign read as another sign.
    return [part[:-1] for part in cut if part and part[-1] in "-+*"] + [
        found[0] for part in cut if (found := re.match(_SUM.pattern + r"(?=[+*-])", part))
    ] + cut + [text]


def _operand(text: str) -> int | None:
    if text.isdigit():
        return int(text)
    nearest = min(NUMBER_WORDS[:13], key=lambda word: osa_distance(word, text))
    return NUMBER_WORDS.index(nearest) if osa_distance(nearest, text) <= max(1, len(text) // 3) else None
