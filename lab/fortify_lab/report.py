"""Results as Markdown tables; by itself, from files of JSON lines:

    python -m fortify_lab.report results.jsonl ...
"""

import json
import sys
from collections import Counter

from .labels import Sample

HEAD = (
    "| Task | Carrier | Mode | Level | Solver | Exact | Accepted | 95 % interval | Decoy | ms | Chain |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)
PREFIXES = {"informed": "informed: ", "decoy": "flattened: "}


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def table(results: list[dict]) -> str:
    """One line per cell and solver. Accepted is at the tolerance that is in force there."""
    return HEAD + "".join(map(_line, results))


def summary(results: list[dict]) -> str:
    """One line per cell: of each group the solver that was best in tuning, and the vote."""
    columns = ("blind", "ocr", "ocr vote", "informed", "informed vote")
    lines = [
        "| Task | Carrier | Mode | Level | No look | Best engine | Vote of engines | Best informed | Informed vote "
        "| Flattened: decoy |\n|---|---|---|---|---|---|---|---|---|---|\n"
    ]
    for cell, own in _cells(results).items():
        shares = [_share(own.get(column)) for column in columns]
        decoy = own.get("decoy")
        shares.append(f"{percent(decoy['decoys'] / decoy['trials'])} %" if decoy else "")
        lines.append(f"| {' | '.join([*map(str, cell), *shares])} |\n")
    return "".join(lines)


def mix(results: list[dict], drawn: list[Sample]) -> str:
    """What engines get of a level when they take what comes: one line per level and mode of `drawn`.

    Each cell's share of what the gate draws times what the engine that was best in tuning, and the vote, got
    of that cell. A cell that was not measured adds nothing, and is named.
    """
    cells = _cells(results)
    levels: dict[tuple[int, str], Counter] = {}
    for sample in drawn:
        levels.setdefault((sample.level, sample.mode), Counter())[sample.cell] += 1
    lines = [
        "### Over a level's own mix\n\n| Level | Mode | Best engine | Vote of engines | Measured | Not measured |\n"
        "|---|---|---|---|---|---|\n"
    ]
    for (level, mode), counts in sorted(levels.items()):
        shares = {cell: count / counts.total() for cell, count in counts.most_common()}
        measured = [cell for cell in shares if "ocr" in cells.get(cell, {})]
        best, vote = (
            sum(shares[cell] * _rate(cells[cell][group]) for cell in measured) for group in ("ocr", "ocr vote")
        )
        missing = ", ".join(
            f"{cell[0]} in {cell[1]} {percent(share)} %" for cell, share in shares.items() if cell not in measured
        )
        figures = [f"{percent(share)} %" for share in (best, vote, sum(shares[cell] for cell in measured))]
        lines.append(f"| {' | '.join([str(level), mode, *figures, missing])} |\n")
    return "".join(lines)


def _cells(results: list[dict]) -> dict[tuple, dict[str, dict]]:
    """By cell and group: the solver that was best in tuning, which is the first, and the vote."""
    cells: dict[tuple, dict[str, dict]] = {}
    for r in results:
        own = cells.setdefault((r["variant"], r["label"] or r["carrier"], r["mode"], r["level"]), {})
        voted = r["solver"].startswith("vote")
        if not r["solver"].startswith("any"):
            own.setdefault(f"{r['group']} vote" if voted else r["group"], r)
        if r["group"] == "decoy" and r["decoys"] > own["decoy"]["decoys"]:
            own["decoy"] = r
    return cells


def _rate(r: dict) -> float:
    return r["accepted"] / r["trials"]


def _share(r: dict | None) -> str:
    if r is None:
        return ""
    name = "" if r["solver"].startswith(("vote", "no look")) else f" {r['solver']}"
    return f"{percent(_rate(r))} %{name}"


def _line(r: dict) -> str:
    low, high = r["interval"]
    decoy = f"{percent(r['decoys'] / r['trials'])} %" if r["carrier"] == "motion" else ""
    cells = [
        r["variant"],
        r["label"] or r["carrier"],
        r["mode"],
        str(r["level"]),
        PREFIXES.get(r["group"], "") + r["solver"],
        f"{percent(r['exact'] / r['trials'])} %",
        f"{percent(r['accepted'] / r['trials'])} % ({r['accepted']}/{r['trials']})",
        f"{percent(low)} to {percent(high)} %",
        decoy,
        f"{r['ms']:.0f}",
        r["chain"],
    ]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    results = []
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as lines:
            results += map(json.loads, lines)
    results.sort(key=lambda r: (r["label"], r["carrier"], r["variant"], r["mode"], r["level"]))
    print(f"{summary(results)}\n{table(results)}", end="")


if __name__ == "__main__":
    main()
