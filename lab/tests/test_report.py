from fortify_lab.report import summary, table


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
