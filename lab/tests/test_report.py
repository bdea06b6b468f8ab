from pathlib import Path

from fortify_lab.labels import Sample
from fortify_lab.report import mix, summary, table


def record(**changed):
    return {
        "variant": "distorted_text", "carrier": "motion", "mode": "typed", "level": 8, "label": "",
        "group": "ocr", "solver": "tesseract", "chain": "none", "trials": 100, "exact": 1, "accepted": 2,
        "decoys": 0, "ms": 12.3, "interval": [0.0055, 0.07],
    } | changed


def test_the_summary_has_the_solver_that_was_first_and_the_most_decoys():
    lines = summary([
        record(solver="rapidocr", accepted=3), record(accepted=50), record(solver="vote of all", accepted=4),
        record(group="decoy", decoys=60), record(group="decoy", solver="ddddocr", decoys=99),
    ]).splitlines()
    assert len(lines) == 3
    assert "| 3.0 % rapidocr | 4.0 % |" in lines[2]
    assert lines[2].endswith("| 99.0 % |")


def test_a_line_tells_what_was_counted():
    line = table([record()]).splitlines()[2]
    assert "| 1.0 % | 2.0 % (2/100) | 0.5 to 7.0 % |" in line


def drawn(variant, carrier, level=8):
    return Sample(Path("x.png"), variant, level, "typed", "", carrier=carrier)


def test_over_a_mix_cells_count_as_often_as_they_are_drawn():
    text, ink = "distorted_text", "ink"
    results = [
        record(carrier=ink, solver="ddddocr", accepted=80), record(carrier=ink, accepted=99),
        record(carrier=ink, solver="vote of all", accepted=90), record(carrier=ink, solver="any of all", accepted=100),
        record(carrier=ink, group="informed", accepted=100),
        record(accepted=10), record(solver="vote of all", accepted=0),
        # The same cell of another level, and another generator's.
        record(carrier=ink, level=3, accepted=100), record(label="peer", accepted=100),
    ]
    mix_set = [drawn(text, ink)] * 2 + [drawn(text, "motion")] * 5 + [drawn("arithmetic", "motion")] * 3
    lines = mix(results, mix_set).splitlines()
    assert lines[-1] == "| 8 | typed | 21.0 % | 18.0 % | 70.0 % | arithmetic in motion 30.0 % |"


def test_a_level_of_which_nothing_was_measured_says_so():
    lines = mix([], [drawn("arithmetic", "ink", level=2)]).splitlines()
    assert lines[-1] == "| 2 | typed | 0.0 % | 0.0 % | 0.0 % | arithmetic in ink 100.0 % |"
