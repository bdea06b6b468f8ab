"""Draws sets for the trained attacker and trains it: see `make lab-train`.

    python -m fortify_lab.school --fortify PROGRAM --out DIR --variant NAME --level N \\
        --minutes M --number N [--carrier NAME] [--styles HEX ...] [--unseen HEX ...]

The pictures are shared out among the styles, so that learning from 1, 4 or 16 of them costs the same.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from .sets import options_of, render

HELD_OUT = 1000


def main() -> None:
    arguments = _arguments()
    known = options_of(arguments.fortify)
    if (arguments.styles or arguments.unseen) and "--style" not in known:
        sys.exit("school: this version of `fortify render` has no --style")
    common = {"variant": arguments.variant}
    if arguments.carrier:
        common["carrier"] = arguments.carrier
    styles = arguments.styles or [""]
    folder = arguments.out / "train"

    def draw(name: str, seed: str, count: int, level: int, style: str) -> Path:
        settings = common | {"level": level} | ({"style": style} if style else {})
        out = folder / name
        if not render(arguments.fortify, out, seed, count, **settings):
            sys.exit(1)
        return out

    learn = [
        draw(f"learn-{style or 'default'}", "c0", -(-arguments.number // len(styles)), arguments.level, style)
        for style in styles
    ]
    # The first test draws the learning curve: new pictures of the styles that were learnt.
    tests = {}
    for style in styles[:4]:
        tests[f"same style {style}".strip()] = draw(
            f"same-{style or 'default'}", "d0", HELD_OUT, arguments.level, style
        )
    for style in arguments.unseen:
        tests[f"unseen style {style}"] = draw(f"unseen-{style}", "d0", HELD_OUT, arguments.level, style)
    for level in (3, 8):
        if level != arguments.level:
            tests[f"same style, level {level}"] = draw(f"level-{level}", "d0", HELD_OUT, level, styles[0])
    command = [sys.executable, "-m", "fortify_lab.train", "--train", *map(str, learn)]
    command += ["--test", *(f"{name}={path}" for name, path in tests.items())]
    command += ["--minutes", str(arguments.minutes), "--number", str(arguments.number)]
    sys.exit(subprocess.run([*command, "--out", str(arguments.out)]).returncode)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fortify", type=Path, required=True, help="the program")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", default="distorted_text")
    parser.add_argument("--level", type=int, default=5)
    parser.add_argument("--carrier", default="")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--styles", nargs="*", default=[], help="styles to learn from; the default one unless named")
    parser.add_argument("--unseen", nargs="*", default=[], help="styles to test on only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
