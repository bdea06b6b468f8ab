"""Sets of pictures, written by `fortify render`.

    python -m fortify_lab.sets --fortify PROGRAM --out DIR --levels 1 3 5 --tuning 40 --count 100

Writes DIR/tune/... and DIR/test/... for every task, carrier and mode that the program offers, and for each
level DIR/mix/..., labels alone: what a gate draws there. The seeds are the arguments', so that a set is
named by a command.
"""

import argparse
import subprocess
import sys
from pathlib import Path

# Asked for when the program knows the option; a name that it refuses is left out.
CARRIERS = ("ink", "swirl", "motion")
MODES = ("typed", "choice")
# Pictures that say what a level draws: a pair of 5 % is then known to 1.4 points (95 %).
MIX = 1000
VARIANTS = (
    "distorted_text",
    "object_recognition",
    "pattern_completion",
    "arithmetic",
    "color_text_mismatch",
)


def options_of(fortify: Path) -> set[str]:
    """The options that this version of `fortify render` has."""
    done = subprocess.run([fortify, "render", "--help"], capture_output=True, text=True, check=True)
    return {word.strip(",") for word in done.stdout.split() if word.startswith("--")}


def render(fortify: Path, out: Path, seed: str, count: int, **settings: str | int | bool) -> bool:
    """One set; whether the program offers it. An option that is True has no value."""
    command = [str(fortify), "render", "--out", str(out), "--seed", seed, "--count", str(count)]
    for name, value in settings.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return True
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    print(f"sets: left out {settings}: {reason}", file=sys.stderr)
    return False


def wanted(known: set[str], levels: list[int], carriers: list[str], modes: list[str], variants: list[str]):
    """The settings of every set. A version without `--carrier` only has ink."""
    with_carrier = "--carrier" in known
    for level in levels:
        for variant in variants:
            for mode in modes:
                for carrier in carriers if with_carrier else ["ink"]:
                    chosen = {"level": level, "variant": variant, "mode": mode}
                    yield chosen | ({"carrier": carrier} if with_carrier else {})


def mix(fortify: Path, out: Path, seed: str, level: int) -> None:
    """The labels of what a gate draws at `level`. Nobody attacks these pictures, and they are not kept."""
    if render(fortify, out, seed, MIX, level=level, mode="typed", mix=True):
        for picture in out.glob("*.png"):
            picture.unlink()


def main() -> None:
    arguments = _arguments()
    known = options_of(arguments.fortify)
    if arguments.style and "--style" not in known:
        sys.exit("sets: this version of `fortify render` has no --style")
    written = 0
    refused: set[tuple] = set()
    for settings in wanted(known, arguments.levels, arguments.carriers, arguments.modes, arguments.variants):
        kind = tuple(str(settings.get(key)) for key in ("variant", "mode", "carrier"))
        if kind in refused:
            continue
        name = "-".join(str(settings[key]) for key in sorted(settings))
        if arguments.style:
            settings["style"] = arguments.style
        for part, seed, count in (
            ("tune", arguments.tuning_seed, arguments.tuning),
            ("test", arguments.seed, arguments.count),
        ):
            if not render(arguments.fortify, arguments.out / part / name, seed, count, **settings):
                refused.add(kind)
                break
        else:
            written += 1
    for level in arguments.levels if "--mix" in known and "typed" in arguments.modes else ():
        mix(arguments.fortify, arguments.out / "mix" / f"level-{level}", arguments.seed, level)
    if not written:
        sys.exit("sets: nothing was written")
    print(f"{written} sets in {arguments.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fortify", type=Path, required=True, help="the program")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 3, 5, 8, 10])
    parser.add_argument("--carriers", nargs="+", default=list(CARRIERS))
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--tuning", type=int, default=40)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--tuning-seed", default="a0")
    parser.add_argument("--seed", default="b0")
    parser.add_argument("--style", default="", help="hexadecimal digits, where the program has --style")
    return parser.parse_args()


if __name__ == "__main__":
    main()
