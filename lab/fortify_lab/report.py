"""Results as a Markdown table; by itself, from files of JSON lines:

    python -m fortify_lab.report results.jsonl ...
"""

import json
import sys

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
    print(table(results), end="")


if __name__ == "__main__":
    main()
