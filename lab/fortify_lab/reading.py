"""From what an engine read to what is submitted: what anyone knows who has seen the page once."""

from .answers import ALPHABET, fold, osa_distance
from .expression import evaluate
from .labels import Sample

# What an engine returns for a character that the alphabet does not have: the nearest shape.
_OUTSIDE = str.maketrans("BGIQSZ258", "R6L937733")


def submission(sample: Sample, reading: str, vocabulary: tuple[str, ...] = ()) -> str:
    """What is submitted after `reading`. `vocabulary` holds the answers of the tuning set, for tasks
    that are answered in words."""
    if sample.kind == "choice":
        return _nearest(_value(sample, reading), sample.choices)
    if sample.kind == "words":
        return _nearest(reading, vocabulary)
    return _value(sample, reading)


def plausibility(sample: Sample, reading: str) -> float:
    """How much a reading looks like an answer to the question: picks among readings of one picture
    without knowing the answer. 0 is best."""
    value = _value(sample, reading)
    if sample.variant == "arithmetic":
        return 0.0 if value else -1.0
    if sample.length is not None:
        return -float(abs(len(value) - sample.length))
    if sample.choices:
        return -float(min(osa_distance(fold(value), fold(choice)) for choice in sample.choices))
    return 0.0 if value else -1.0


def _value(sample: Sample, reading: str) -> str:
    if sample.variant == "arithmetic":
        result = evaluate(reading, tail=sample.carrier == "ink")
        return "" if result is None or result < 0 else str(result)
    if sample.alphabet == "any":
        return "".join(c for c in reading if c.isascii() and c.isalnum())
    if sample.kind == "text" or sample.variant in ("distorted_text", "object_recognition"):
        return "".join(c for c in fold(reading).translate(_OUTSIDE) if c in ALPHABET)
    return reading


def _nearest(value: str, options: tuple[str, ...]) -> str:
    if not options:
        return value
    return min(options, key=lambda option: osa_distance(fold(value), fold(option)))
