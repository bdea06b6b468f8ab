"""A trained attacker: a small network that learns from labelled pictures.

    python -m fortify_lab.train --train DIR ... --test NAME=DIR ... --minutes 8 --out DIR

A picture becomes an image 120 px wide, of one channel or more; four convolutions, then one classifier per
position of the answer. Sets of several styles are given as several folders after --train.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from . import maps
from .answers import ALPHABET, matches
from .labels import Sample, read_labels
from .pictures import Picture
from .stats import wilson

WIDTH, HEIGHT = 120, 40
BATCH = 64
CHANNELS = (32, 48, 64, 96)
RATE = 2e-3
# Digits and letters: whatever answers are made of, one class each; the last class is "nothing".
CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def prepared(sample: Sample) -> np.ndarray:
    """What the network sees: colours, how far each pixel is from the ground and how sharp the edge at it is,
    or the map of the informed attack for carriers that only have one. Channels last."""
    picture = Picture(sample.path)
    if sample.carrier == "motion":
        image = maps.to_grey8(maps.motion_correlator(picture.frames))
    elif sample.carrier == "swirl":
        grey = cv2.cvtColor(picture.still, cv2.COLOR_BGR2GRAY)
        image = maps.to_grey8(maps.doubled_angle_field(grey))
    else:
        # The ground is the commonest colour; every fourth pixel is enough to find it.
        colour = picture.still.astype(np.float32)
        apart = colour - np.median(colour[::4, ::4].reshape(-1, 3), 0).astype(np.float32)
        distance = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
        # Edges are the same where text is light on dark and where it is dark on light.
        edges = np.maximum(*(np.abs(cv2.Sobel(colour, cv2.CV_32F, *d)).max(2) for d in ((1, 0), (0, 1))))
        return np.dstack([_small(picture.still), _small(_scaled(distance)), _small(_scaled(edges))])
    return _small(image)[..., None]


def _small(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def _scaled(plane: np.ndarray) -> np.ndarray:
    """To 0..255, with the largest fiftieth cut off."""
    top = np.percentile(plane[::3, ::3], 98) + 1e-6
    return (plane * (255 / top)).clip(0, 255).astype(np.uint8)


def load(samples: list[Sample], positions: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([prepared(sample) for sample in samples])
    labels = np.full((len(samples), positions), len(CLASSES), np.int32)
    for row, sample in enumerate(samples):
        for column, character in enumerate(sample.answer.upper()[:positions]):
            labels[row, column] = CLASSES.index(character)
    return images, labels


def start(key, positions: int, channels: int) -> dict:
    """Weights for pictures of so many channels; He for the convolutions."""
    keys = iter(jax.random.split(key, 8))

    def drawn(shape, fan_in):
        return jax.random.normal(next(keys), shape) * np.sqrt(2 / fan_in)

    weights = {}
    for index, (size, out) in enumerate(zip((5, 3, 3, 3), CHANNELS)):
        weights[f"k{index}"] = drawn((size, size, channels, out), size * size * channels)
        weights[f"s{index}"], weights[f"b{index}"] = jnp.ones(out), jnp.zeros(out)
        channels = out
    features = channels * (HEIGHT // 8) * (WIDTH // 8)
    weights["w4"], weights["b4"] = drawn((features, 256), features), jnp.zeros(256)
    heads = positions * (len(CLASSES) + 1)
    weights["w5"], weights["b5"] = drawn((256, heads), 256) * 0.3, jnp.zeros(heads)
    return weights


def scores(weights: dict, images, positions: int, dropped=None):
    """Of each class at each position."""
    x = images.astype(jnp.float32) / 127.5 - 1
    for index, stride in enumerate((2, 2, 1, 2)):
        x = jax.lax.conv_general_dilated(
            x, weights[f"k{index}"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        # Normalised per picture and channel: needs no running averages.
        mean = x.mean((1, 2), keepdims=True)
        spread = jnp.sqrt(x.var((1, 2), keepdims=True) + 1e-4)
        x = jax.nn.relu((x - mean) / spread * weights[f"s{index}"] + weights[f"b{index}"])
    x = x.reshape(len(x), -1)
    if dropped is not None:
        x = x * jax.random.bernoulli(dropped, 0.8, x.shape) / 0.8
    x = jax.nn.relu(x @ weights["w4"] + weights["b4"])
    return (x @ weights["w5"] + weights["b5"]).reshape(len(x), positions, -1)


def _loss(weights, images, labels, positions, key):
    logs = jax.nn.log_softmax(scores(weights, images, positions, key))
    return -jnp.take_along_axis(logs, labels[..., None], -1).mean()


@partial(jax.jit, static_argnums=(6,), donate_argnums=(0, 1))
def _step(weights, moments, images, labels, rate, key, positions):
    """One step of Adam with decoupled weight decay."""
    loss, slopes = jax.value_and_grad(_loss)(weights, images, labels, positions, key)
    count = moments["count"] + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments["first"], slopes)
    second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, moments["second"], slopes)

    def moved(weight, m, v):
        step = m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.99**count)) + 1e-8)
        return weight - rate * (step + 1e-3 * weight)

    weights = jax.tree.map(moved, weights, first, second)
    return weights, {"count": count, "first": first, "second": second}, loss


_best = jax.jit(lambda weights, images, positions: scores(weights, images, positions).argmax(-1), static_argnums=2)


def read(weights, images: np.ndarray, positions: int) -> list[str]:
    """The answers that the network gives."""
    answers = []
    for at in range(0, len(images), 250):
        batch = images[at : at + 250]
        padded = np.concatenate([batch, np.zeros((250 - len(batch), *images.shape[1:]), np.uint8)])
        for row in np.asarray(_best(weights, padded, positions))[: len(batch)]:
            answers.append("".join(CLASSES[c] for c in row if c < len(CLASSES)))
    return answers


def judged(samples: list[Sample], answers: list[str]) -> dict:
    """Exact, accepted at the tolerance in force, and the share of characters."""
    pairs = list(zip(samples, answers))
    right = sum(a == b for sample, answer in pairs for a, b in zip(sample.answer.upper(), answer))
    accepted = sum(matches(sample, answer, True) for sample, answer in pairs)
    return {
        "trials": len(samples),
        "exact": sum(matches(sample, answer, False) for sample, answer in pairs),
        "accepted": accepted,
        "interval": wilson(accepted, len(samples)),
        "characters": right / max(1, sum(len(sample.answer) for sample in samples)),
    }


def moved(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shifted by a few px, all pictures of a batch alike: cheap variety."""
    return np.roll(images, random.integers(-2, 3, 2), (1, 2))


def train(images, labels, minutes: float, seed: int, check) -> dict:
    """Weights after `minutes` of wall time; the rate falls to nothing by then."""
    positions = labels.shape[1]
    random = np.random.default_rng(seed)
    weights = start(jax.random.key(seed), positions, images.shape[-1])
    zeros = partial(jax.tree.map, jnp.zeros_like)
    moments = {"count": 0, "first": zeros(weights), "second": zeros(weights)}
    began, checked, seen, loss = time.monotonic(), 0.0, 0, float("nan")
    while (spent := (time.monotonic() - began) / 60) < minutes:
        order = random.permutation(len(images))
        for at in range(0, len(order) - BATCH + 1, BATCH):
            spent = (time.monotonic() - began) / 60
            if spent >= minutes:
                break
            rows = order[at : at + BATCH]
            share = spent / minutes
            rate = RATE * min(1.0, seen / 3000 + 0.05) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
            weights, moments, loss = _step(
                weights, moments, moved(images[rows], random), labels[rows], rate,
                jax.random.key(seen + 1), positions,
            )
            seen += BATCH
            if spent - checked >= max(0.5, minutes / 10):
                checked = spent
                check(weights, spent, seen, float(loss))
    check(weights, minutes, seen, float(loss))
    return weights


def main() -> None:
    arguments = _arguments()
    pictures = [sample for folder in arguments.train for sample in read_labels(folder)]
    pictures = [s for s in pictures if s.mode == "typed" and s.kind in ("text", "number")]
    if arguments.number and len(pictures) > arguments.number:
        # The same number whatever the number of styles, an equal share of each.
        pictures = [pictures[i] for i in np.linspace(0, len(pictures) - 1, arguments.number).astype(int)]
    positions = max(len(sample.answer) for sample in pictures)
    began = time.monotonic()
    images, labels = load(pictures, positions)
    tasks = {sample.variant for sample in pictures}
    tests = {
        name: [sample for sample in read_labels(Path(folder)) if sample.variant in tasks]
        for name, folder in (test.split("=", 1) for test in arguments.test)
    }
    loaded = {name: load(samples, positions)[0] for name, samples in tests.items()}
    print(f"{len(images)} pictures loaded in {time.monotonic() - began:.0f} s", flush=True)
    first = next(iter(tests))
    curve = []

    def check(weights, spent, seen, loss):
        part = judged(tests[first][:500], read(weights, loaded[first][:500], positions))
        cpu = sum(os.times()[:2]) / 60
        curve.append({"minutes": round(spent, 2), "cpu_minutes": round(cpu, 2), "seen": seen, "loss": loss, **part})
        print(
            f"{spent:5.1f} min ({cpu:.1f} of processor), {seen} seen, loss {loss:.3f}: "
            f"characters {100 * part['characters']:.1f} %, exact {part['exact']}/{part['trials']}, "
            f"accepted {part['accepted']}", flush=True,
        )

    weights = train(images, labels, arguments.minutes, arguments.seed, check)
    size = sum(int(np.prod(w.shape)) for w in weights.values())
    record = {
        "pictures": len(images), "styles": len(arguments.train), "minutes": arguments.minutes,
        "seed": arguments.seed, "weights": size, "curve": curve, "tests": {},
    }
    for name, samples in tests.items():
        began = time.perf_counter()
        answers = read(weights, loaded[name], positions)
        ms = (time.perf_counter() - began) / len(samples) * 1e3
        record["tests"][name] = {**judged(samples, answers), "ms": ms}
        r = record["tests"][name]
        low, high = r["interval"]
        print(
            f"{name}: exact {r['exact']}/{r['trials']}, accepted {r['accepted']}/{r['trials']} "
            f"({100 * low:.1f} to {100 * high:.1f} %), characters {100 * r['characters']:.1f} %, {ms:.2f} ms"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with open(arguments.out / "train.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="sets to learn from, one per style")
    parser.add_argument("--test", nargs="+", required=True, metavar="NAME=DIR", help="held-out sets")
    parser.add_argument("--minutes", type=float, default=8, help="wall time of training")
    parser.add_argument("--number", type=int, default=0, help="pictures to learn from, over all styles")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
