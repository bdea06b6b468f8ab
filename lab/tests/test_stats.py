import pytest

from fortify_lab.stats import wilson


def test_an_interval_holds_the_share_and_stays_within_nought_and_one():
    for trials in (1, 7, 100, 20_000):
        for successes in (0, trials // 3, trials):
            low, high = wilson(successes, trials)
            assert 0 <= low <= successes / trials <= high <= 1
            assert low < high


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, table I, method 3 (the score method without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals_come_out(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_nothing_tried_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
