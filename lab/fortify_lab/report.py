"""Results as a Markdown table."""

HEAD = (
    "| Task | Carrier | Mode | Level | Solver | Exact | Accepted | 95 % interval | Decoy | ms | Chain |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def table(results) -> str:
    """One line per cell and solver. Accepted is at the tolerance that is in force there."""
    lines = []
    for r in results:
        low, high = r.interval
        carrier = r.carrier if not r.label else f"{r.label}"
        decoy = percent(r.decoys / r.trials) if r.carrier == "motion" else ""
        prefix = {"informed": "informed: ", "decoy": "flattened: "}.get(r.group, "")
        solver = prefix + r.solver
        lines.append(
            f"| {r.variant} | {carrier} | {r.mode} | {r.level} | {solver} "
            f"| {percent(r.exact / r.trials)} % | {percent(r.accepted / r.trials)} % ({r.accepted}/{r.trials}) "
            f"| {percent(low)} to {percent(high)} % | {decoy} | {r.ms:.0f} | {r.chain} |"
        )
    return HEAD + "\n".join(lines) + "\n"
