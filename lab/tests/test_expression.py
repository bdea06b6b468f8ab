import pytest

from fortify_lab.expression import evaluate


@pytest.mark.parametrize(
    ("reading", "result"),
    [
        ("4x5=?", 20), ("4×5=？", 20), ("9-5-？", 4), ("10x62", 60), ("11+nine=?", 20), ("11+nine2", 20),
        ("19-19=?", 0), ("15+1=", 16), ("86+53=7", 139), ("5x5-7", 25), ("six*seven=?", 42), ("l1+l9=?", 30),
        ("12-nlne=?", 3),
    ],
)
def test_what_engines_read_is_worked_out(reading, result):
    assert evaluate(reading) == result


@pytest.mark.parametrize(("reading", "result"), [("12+7", 19), ("34-12", 22), ("9x12", 108)])
def test_a_sum_without_a_tail_keeps_its_last_digit(reading, result):
    assert evaluate(reading, tail=False) == result


@pytest.mark.parametrize("reading", ["", "?", "KX7P", "12", "+", "12+", "abc+xyz=?"])
def test_what_is_no_sum_has_no_result(reading):
    assert evaluate(reading) is None
