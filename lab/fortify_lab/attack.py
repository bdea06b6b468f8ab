"""Solvers with chains chosen on one set and measured on another.

    python -m fortify_lab.attack --tune DIR ... --test DIR ... --out DIR
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import engines, report
from .answers import matches, osa_distance
from .chains import Chain, chains_for
from .labels import Cell, Sample, by_cell, read_labels
from .pictures import Picture
from .reading import plausibility, submission
from .stats import wilson

# Pictures that every chain is tried on, and chains that go on to the whole tuning set.
FIRST_ROUND = 8
KEPT = 2
# Ready-made engines alone, and behind what somebody wrote against a carrier.
GROUPS = ("ocr", "informed")


@dataclass
class Result:
    """What a solver reached on the held-out pictures of a cell."""

    variant: str
    carrier: str
    mode: str
    level: int
    group: str
    solver: str
    chain: str
    trials: int
    exact: int
    accepted: int
    decoys: int
    ms: float
    interval: tuple[float, float] = (0.0, 1.0)
    label: str = ""
    submissions: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self):
        self.interval = wilson(self.accepted, self.trials)


@dataclass(frozen=True)
class Plan:
    """An engine, how it is run, and what it is given."""

    option: engines.Option
    chain: Chain

    @property
    def name(self) -> str:
        return f"{self.chain.name}; {self.option.name}"


class Attack:
    """All solvers against one cell at a time."""

    def __init__(self, solvers: list, only: str = "", groups=GROUPS, log=lambda line: print(line, file=sys.stderr, flush=True)):
        self._solvers = solvers
        self._only = only
        self._groups = groups
        self._log = log
        # Images after preprocessing, by chain and file: engines share them.
        self._images: dict[tuple[str, Path], tuple[list, float]] = {}
        self._scores: dict[tuple[str, Plan, int, str], tuple[float, float]] = {}

    def run(self, tune: list[Sample], test: list[Sample], label: str = "") -> list[Result]:
        """Results of every solver on `test`, set up on `tune`."""
        vocabulary = tuple(sorted({sample.answer for sample in tune}))
        cell = " ".join(map(str, test[0].cell))
        results = [self._blind(tune, test)]
        if test[0].decoy:
            results += self._decoys(tune, test)
        for group in self._groups:
            chains = [c for c in chains_for(test[0].carrier, group) if self._only in c.name]
            read = []
            for solver in self._solvers if chains else ():
                plan = self._choose(solver, chains, tune, vocabulary)
                result = self._measure(solver, plan, group, test, vocabulary)
                read.append((self._score(solver, plan, tune, vocabulary), result))
                self._log(
                    f"{cell}: {group} {result.solver}: {result.accepted}/{result.trials} "
                    f"({result.exact} exact, {result.decoys} decoys) {result.ms:.0f} ms [{result.chain}]"
                )
            if read:
                read.sort(key=lambda pair: pair[0], reverse=True)
                results += [result for _, result in read]
                results += self._together(group, [result for _, result in read], test)
            self._images.clear()
            self._scores.clear()
        for result in results:
            result.label = label
        return results

    def _choose(self, solver, chains: list[Chain], tune: list[Sample], vocabulary) -> Plan:
        """The first option picks chains on a few pictures; the best of them meet every option on all."""
        first = solver.options[0]
        few = tune[:FIRST_ROUND]
        ranked = sorted(
            chains,
            key=lambda chain: self._score(solver, Plan(first, chain), few, vocabulary),
            reverse=True,
        )
        best = max(
            (Plan(first, chain) for chain in ranked[:KEPT]),
            key=lambda plan: self._score(solver, plan, tune, vocabulary),
        )
        others = [Plan(option, best.chain) for option in solver.options[1:]]
        return max([best, *others], key=lambda plan: self._score(solver, plan, tune, vocabulary))

    def _score(self, solver, plan: Plan, samples: list[Sample], vocabulary) -> tuple[float, float]:
        """Share accepted, and how near the submissions are, to tell chains apart that read nothing."""
        key = (solver.name, plan, len(samples), samples[0].answer)
        if key not in self._scores:
            self._scores[key] = self._scored(solver, plan, samples, vocabulary)
        return self._scores[key]

    def _scored(self, solver, plan: Plan, samples: list[Sample], vocabulary) -> tuple[float, float]:
        submitted, _ = self._submissions(solver, plan, samples, vocabulary)
        accepted = sum(matches(s, text, True) for s, text in zip(samples, submitted))
        near = sum(
            1 - osa_distance(text, s.answer) / max(len(text), len(s.answer), 1)
            for s, text in zip(samples, submitted)
        )
        return accepted / len(samples), near / len(samples)

    def _measure(self, solver, plan: Plan, group: str, test: list[Sample], vocabulary) -> Result:
        submitted, seconds = self._submissions(solver, plan, test, vocabulary)
        return _judged(test, submitted, group, solver.name, plan.name, seconds / len(test) * 1e3)

    def _submissions(self, solver, plan: Plan, samples: list[Sample], vocabulary):
        """What is submitted for each sample, and the seconds that all of it took."""
        prepared, seconds = [], 0.0
        for sample in samples:
            images, spent = self._prepared(plan.chain, sample)
            prepared.append(images)
            seconds += spent
        characters = engines.characters_for(samples[0])
        started = time.perf_counter()
        flat = [image for images in prepared for image in images]
        readings = solver.read(flat, plan.option, characters)
        submitted, at = [], 0
        for sample, images in zip(samples, prepared):
            own = readings[at : at + len(images)]
            at += len(images)
            best = max(own, key=lambda r: (plausibility(sample, r[0]), r[1]))
            submitted.append(submission(sample, best[0], vocabulary))
        return submitted, seconds + time.perf_counter() - started

    def _prepared(self, chain: Chain, sample: Sample):
        key = (chain.name, sample.path)
        if key not in self._images:
            started = time.perf_counter()
            images = chain.run(Picture(sample.path))
            self._images[key] = (images, time.perf_counter() - started)
        return self._images[key]

    def _decoys(self, tune: list[Sample], test: list[Sample]) -> list[Result]:
        """The program that takes the default image for the picture: how often it submits the decoy.

        Set up to read what it sees, which is the decoy; judged as everyone else.
        """
        seen = [[replace(s, answer=s.decoy, decoy="") for s in samples] for samples in (tune, test)]
        chains = [c for c in chains_for(test[0].carrier, "ocr") if "default image" in c.name]
        results = []
        for solver in self._solvers:
            plan = self._choose(solver, chains, seen[0], ())
            submitted, seconds = self._submissions(solver, plan, test, ())
            ms = seconds / len(test) * 1e3
            results.append(_judged(test, submitted, "decoy", solver.name, plan.name, ms))
        return results

    @staticmethod
    def _blind(tune: list[Sample], test: list[Sample]) -> Result:
        """Without looking: the commonest answer of the tuning set, or any choice."""
        commonest = Counter(sample.answer for sample in tune).most_common(1)[0][0]
        draw = random.Random(1)
        submitted = [draw.choice(s.choices) if s.choices else commonest for s in test]
        return _judged(test, submitted, "blind", "no look at the picture", "", 0.0)

    @staticmethod
    def _together(group: str, results: list[Result], test: list[Sample]) -> list[Result]:
        """All solvers: their vote, and whether any was right, which bounds what choosing can reach.

        Votes go by character where lengths agree; ties go to the solver that was best in tuning.
        """
        voted, lucky = [], []
        for index, sample in enumerate(test):
            readings = [r.submissions[index] for r in results if r.submissions[index]]
            voted.append(_vote(sample, readings))
            right = [r for r in readings if matches(sample, r, True)]
            right.sort(key=lambda r: not matches(sample, r, False))
            lucky.append(right[0] if right else "")
        total = sum(result.ms for result in results)
        vote = _judged(test, voted, group, "vote of all", "", total)
        any_right = _judged(test, lucky, group, "any of all is right", "", total)
        any_right.decoys = 0
        return [vote, any_right]


def _vote(sample: Sample, readings: list[str]) -> str:
    if not readings:
        return ""
    if sample.kind != "text":
        return Counter(readings).most_common(1)[0][0]
    length = sample.length or Counter(map(len, readings)).most_common(1)[0][0]
    fitting = [reading for reading in readings if len(reading) == length]
    if not fitting:
        return readings[0]
    return "".join(Counter(column).most_common(1)[0][0] for column in zip(*fitting))


def _judged(test, submitted, group, solver, chain, ms) -> Result:
    pairs = list(zip(test, submitted))
    return Result(
        *test[0].cell,
        group=group,
        solver=solver,
        chain=chain,
        trials=len(test),
        exact=sum(matches(sample, text, False) for sample, text in pairs),
        accepted=sum(matches(sample, text, True) for sample, text in pairs),
        decoys=sum(
            bool(sample.decoy) and matches(sample, text, False, sample.decoy) for sample, text in pairs
        ),
        ms=ms,
        submissions=submitted,
    )


def main() -> None:
    arguments = _arguments()
    solvers = engines.load(arguments.engines)
    tune = by_cell([sample for folder in arguments.tune for sample in read_labels(folder)])
    test = by_cell([sample for folder in arguments.test for sample in read_labels(folder)])
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    with open(arguments.out / "results.jsonl", "w", encoding="utf-8") as lines:
        for cell in sorted(test, key=_order):
            if arguments.levels and cell[3] not in arguments.levels:
                continue
            if arguments.variants and cell[0] not in arguments.variants:
                continue
            if cell not in tune:
                sys.exit(f"attack: no tuning set for {cell}")
            pictures = test[cell][: arguments.count]
            for result in Attack(solvers, arguments.chains, arguments.groups).run(tune[cell][: arguments.tuning], pictures, arguments.label):
                results.append(result)
                lines.write(json.dumps({k: v for k, v in asdict(result).items() if k != "submissions"}) + "\n")
            lines.flush()
    load = os.getloadavg()
    records = [asdict(result) for result in results]
    # Without one, or where none was drawn, there is nothing to weigh by.
    sets = sorted(arguments.mix.iterdir()) if arguments.mix and arguments.mix.is_dir() else []
    drawn = [sample for folder in sets for sample in read_labels(folder)]
    mixed = f"{report.mix(records, drawn)}\n" if drawn else ""
    table = f"{report.summary(records)}\n{mixed}{report.table(records)}"
    Path(arguments.out, "results.md").write_text(
        f"{table}\nLoad of the machine at the end: {load[0]:.1f} (one minute), "
        f"{os.cpu_count()} processors. {engines.Tesseract.version()}.\n"
    )
    print(table)


def _order(cell: Cell):
    variant, carrier, mode, level = cell
    return carrier, variant, mode, level


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", type=Path, nargs="+", required=True, help="sets to choose chains on")
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="sets to measure on")
    parser.add_argument("--mix", type=Path, help="folder of sets whose labels say what levels draw")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl and results.md")
    parser.add_argument("--tuning", type=int, default=24, help="pictures per cell to choose on")
    parser.add_argument("--count", type=int, default=100, help="pictures per cell to measure on")
    parser.add_argument("--engines", nargs="*", help="tesseract ddddocr ddddocr-beta rapidocr; all unless named")
    parser.add_argument("--levels", type=int, nargs="*", help="all unless named")
    parser.add_argument("--variants", nargs="*", help="all unless named")
    parser.add_argument("--chains", default="", help="only chains whose name has this in it, such as flow")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="all unless named")
    parser.add_argument("--label", default="", help="a name for these rows, such as a peer's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
