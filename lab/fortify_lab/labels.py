"""`labels.csv`, as `fortify render` writes it, from whatever version."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

_DEFAULT_COUNT = re.compile(r"\b(\d+)\b")
_TASKS_IN_WORDS = ("pattern_completion", "color_text_mismatch")


@dataclass(frozen=True)
class Sample:
    """A picture and what is known of it. The attack looks at `path`, `question`, `choices` and what
    a page tells (task, mode, level); `answer` and `decoy` are for judging alone."""

    path: Path
    variant: str
    level: int
    mode: str
    answer: str
    question: str = ""
    choices: tuple[str, ...] = ()
    carrier: str = "ink"
    decoy: str = ""
    style: str = ""
    # The project's, unless "any": letters and digits of other generators.
    alphabet: str = ""

    @property
    def cell(self) -> "Cell":
        return (self.variant, self.carrier, self.mode, self.level)

    @property
    def kind(self) -> str:
        """What the answer is: choice, number, words or text."""
        if self.mode == "choice":
            return "choice"
        if self.variant == "arithmetic":
            return "number"
        if self.variant in _TASKS_IN_WORDS:
            return "words"
        return "text"

    @property
    def length(self) -> int | None:
        """How many characters are asked for, where the question says it."""
        found = _DEFAULT_COUNT.search(self.question)
        if self.kind == "text" and found:
            return int(found[1])
        return 3 if self.variant == "object_recognition" and self.kind == "text" else None


Cell = tuple[str, str, str, int]


def read_labels(folder: Path, style: str = "") -> list[Sample]:
    """The samples of a set. Columns that a version does not write have their defaults; columns that
    are not known are ignored."""
    samples = []
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            choices = tuple(choice for choice in (row.get("choices") or "").split("|") if choice)
            samples.append(
                Sample(
                    path=folder / row["file"],
                    variant=row.get("variant") or "distorted_text",
                    level=int(row.get("level") or 5),
                    mode=row.get("mode") or "typed",
                    answer=row["answer"],
                    question=row.get("question") or "",
                    choices=choices,
                    carrier=row.get("carrier") or "ink",
                    decoy=row.get("decoy") or "",
                    style=row.get("style") or style,
                    alphabet=row.get("alphabet") or "",
                )
            )
    return samples


def by_cell(samples: list[Sample]) -> dict[Cell, list[Sample]]:
    """Samples by task, carrier, mode and level, in the order in which they come."""
    cells: dict[Cell, list[Sample]] = {}
    for sample in samples:
        cells.setdefault(sample.cell, []).append(sample)
    return cells
