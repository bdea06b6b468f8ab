from pathlib import Path

from fortify_lab.labels import Sample
from fortify_lab.reading import plausibility, submission


def sample(variant="distorted_text", mode="typed", choices=(), question="Type the 6 characters"):
    return Sample(Path("x.png"), variant, 5, mode, "", question=question, choices=choices)


def test_a_text_is_brought_into_the_alphabet():
    assert submission(sample(), "k7 pB-xm?") == "K7PRXM"


def test_a_sum_is_worked_out():
    assert submission(sample("arithmetic", question="Solve"), "10x62") == "60"
    assert submission(sample("arithmetic", question="Solve"), "nothing") == ""


def test_the_nearest_choice_is_picked():
    choices = ("7K9PXM", "AACCEE", "HHJJKK")
    assert submission(sample(mode="choice", choices=choices), "7k9pn") == "7K9PXM"


def test_the_length_that_was_asked_for_is_most_plausible():
    assert plausibility(sample(), "K7PXMA") > plausibility(sample(), "K7PX")
