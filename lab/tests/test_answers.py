"""The cases of `crates/fortify-captcha/src/answer.rs` and `number.rs`, so that the lab judges alike."""

from pathlib import Path

import pytest

from fortify_lab.answers import fold, matches, osa_distance, parse_number
from fortify_lab.labels import Sample


def text(answer, level=5):
    return Sample(Path("x.png"), "distorted_text", level, "typed", answer)


def number(answer):
    return Sample(Path("x.png"), "arithmetic", 5, "typed", str(answer))


@pytest.mark.parametrize(
    "submitted",
    ["7K9PXM", "7k9pxm", " 7k9 pxm\t", "7-K-9-P-X-M", "7.k.9.p.x.m", "７Ｋ９ＰＸＭ", "７ｋ９ｐｘｍ", "7К9РХМ",
     "7к9рхм", "7Κ9ΡΧΜ", "\ufeff7K9PXM\u200b", "٧K٩PXM"],
)
def test_case_spaces_and_scripts_do_not_matter(submitted):
    assert matches(text("7K9PXM"), submitted, tolerant=False)


@pytest.mark.parametrize("submitted", ["", "7K9PX", "7K9PXMM", "7K9PXN", "K79PXM", "\0"])
def test_other_texts_are_not_exact(submitted):
    assert not matches(text("7K9PXM"), submitted, tolerant=False)


def test_look_alikes_outside_the_alphabet_are_what_they_look_like():
    assert matches(text("D7ACEF"), "o1acef", tolerant=False)
    assert fold("ЗЧб79o") == "34679D"
    assert not matches(text("6ACEFH"), "BACEFH", tolerant=False)


def test_one_slip_is_forgiven_where_the_level_allows():
    for submitted in ["7K9PXN", "7K9PX", "7K9PXMM", "K79PXM", "7k9px"]:
        assert matches(text("7K9PXM"), submitted, tolerant=True)
        assert not matches(text("7K9PXM", level=6), submitted, tolerant=True)
    for submitted in ["7K9PNN", "K7P9XM"]:
        assert not matches(text("7K9PXM"), submitted, tolerant=True)
    assert not matches(text("7K9P"), "7K9X", tolerant=True)
    assert not matches(number(10_000), "10001", tolerant=True)


@pytest.mark.parametrize("submitted", ["10", " 10 ", "１０", "ten", "Ten", "TEN ", "+10", "010", "=10", "10."])
def test_numbers_are_accepted_as_digits_and_words(submitted):
    assert matches(number(10), submitted, tolerant=False)


@pytest.mark.parametrize("submitted", ["-10", "1O", "", "10.5", "tenn", "1 1", "100", "ten ten"])
def test_what_is_another_number_or_none_is_refused(submitted):
    assert not matches(number(10), submitted, tolerant=True)


def test_words_for_large_numbers():
    assert parse_number("twenty-one") == 21
    assert parse_number("one hundred and five") == 105
    assert parse_number("a hundred") == 100
    assert parse_number("hundred") is None
    assert parse_number("one hundred and") is None


def test_long_submissions_never_match():
    padded = "7K9PXM" + " " * 59
    assert not matches(text("7K9PXM"), padded, tolerant=True)
    assert matches(text("7K9PXM"), padded[1:65], tolerant=True)


def test_a_choice_is_exact():
    sample = Sample(Path("x.png"), "distorted_text", 1, "choice", "7K9PXM", choices=("7K9PXM", "7K9PXN"))
    assert matches(sample, "7K9PXM", tolerant=True)
    assert not matches(sample, "7K9PXN", tolerant=True)


def test_edits_are_counted_as_optimal_string_alignment():
    assert osa_distance("AB", "BA") == 1
    assert osa_distance("CA", "ABC") == 3
    assert osa_distance("", "ABC") == 3
