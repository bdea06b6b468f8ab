"""Preprocessing: from a picture to the images that an engine is given.

A chain may give several images (both polarities of a map); the reading that looks most like an
answer is taken, without knowing the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from . import maps
from .pictures import Picture

Images = list[np.ndarray]


@dataclass(frozen=True)
class Chain:
    """A named way from a picture to images. `group` is `ocr` for what is done to any picture and
    `informed` for what is written against a carrier."""

    name: str
    carriers: tuple[str, ...]
    run: Callable[[Picture], Images]
    group: str = "ocr"


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def from_ground(image: np.ndarray) -> np.ndarray:
    """Dark text on white, whatever the colours: how far each pixel is from the commonest colour."""
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.float32)
    distance = np.linalg.norm(lab - np.median(lab.reshape(-1, 3), 0), axis=2)
    top = np.percentile(distance, 97)
    return (255 - distance / (top + 1e-6) * 255).clip(0, 255).astype(np.uint8)


def dark_on_light(image: np.ndarray) -> np.ndarray:
    """Turned over where the ground is dark."""
    return image if np.median(grey(image)) > 127 else 255 - image


def saturated(image: np.ndarray) -> np.ndarray:
    """Coloured foreground: how saturated each pixel is, dark where it is most."""
    saturation = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 1].astype(np.float32)
    value = grey(image).astype(np.float32)
    chroma = saturation * (value if np.median(value) < 127 else 255.0) / 255
    return 255 - maps.to_grey8(chroma)


def strokes(image: np.ndarray, size: int) -> np.ndarray:
    """Only what is at least `size` px thick: thin curves and dots go, letters stay."""
    ink = 255 - from_ground(image)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return 255 - cv2.morphologyEx(ink, cv2.MORPH_OPEN, kernel)


def regrown(image: np.ndarray, size: int) -> np.ndarray:
    """As `strokes`, then the letters' thin parts back: what is near a thick stroke and has ink."""
    ink = 255 - from_ground(image)
    thick = cv2.morphologyEx(ink, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    near = cv2.dilate(thick, np.ones((5, 5), np.uint8))
    return 255 - np.minimum(ink, near)


def clustered(image: np.ndarray, colours: int = 8) -> np.ndarray:
    """Colours by k-means; of each cluster the large, thick pieces; all of them as one mask."""
    pixels = cv2.medianBlur(image, 3).reshape(-1, 3).astype(np.float32)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 1.0)
    cv2.setRNGSeed(7)
    _, labels, centres = cv2.kmeans(pixels, colours, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    labels = labels.reshape(image.shape[:2])
    ground = np.median(pixels, 0)
    mask = np.zeros(image.shape[:2], np.uint8)
    for index, centre in enumerate(centres):
        if np.linalg.norm(centre - ground) < 45:
            continue
        cluster = (labels == index).astype(np.uint8)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(cluster, connectivity=8)
        depth = cv2.distanceTransform(cluster, cv2.DIST_L2, 3)
        for piece in range(1, count):
            inside = pieces == piece
            if stats[piece, cv2.CC_STAT_AREA] >= 60 and depth[inside].max() >= 1.8:
                mask[inside] = 255
    return 255 - cv2.medianBlur(mask, 3)


def cropped(image: np.ndarray, margin: int = 6) -> np.ndarray:
    """The box of the thick ink, and a margin."""
    ink = (255 - strokes(image, 4)) > 110
    ys, xs = np.nonzero(ink)
    if len(ys) < 50:
        return image
    top, bottom = np.percentile(ys, (0.5, 99.5)).astype(int)
    left, right = np.percentile(xs, (0.2, 99.8)).astype(int)
    return image[
        max(0, top - margin) : bottom + margin + 1, max(0, left - margin) : right + margin + 1
    ]


def enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def median(image: np.ndarray, size: int) -> np.ndarray:
    return cv2.medianBlur(image, size)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def both(image: np.ndarray) -> Images:
    return [image, 255 - image]


def _still(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Chain:
    return Chain(name, ("ink", "swirl"), lambda picture: [function(picture.still)])


STILL = [
    _still("none", lambda i: i),
    _still("invert dark", dark_on_light),
    _still("median 3", lambda i: median(dark_on_light(i), 3)),
    _still("median 5", lambda i: median(dark_on_light(i), 5)),
    _still("blur 1.2", lambda i: blurred(dark_on_light(i), 1.2)),
    _still("opening 3", lambda i: cv2.morphologyEx(dark_on_light(i), cv2.MORPH_CLOSE, np.ones((3, 3)))),
    _still("saturation", saturated),
    _still("ground", from_ground),
    _still("ground, median 3", lambda i: median(from_ground(i), 3)),
    _still("ground, crop", lambda i: from_ground(cropped(i))),
    _still("crop", lambda i: dark_on_light(cropped(i))),
    _still("strokes 3", lambda i: strokes(i, 3)),
    _still("strokes 4", lambda i: strokes(i, 4)),
    _still("strokes 4, crop", lambda i: strokes(cropped(i), 4)),
    _still("regrown 4", lambda i: regrown(i, 4)),
    _still("regrown 5, crop", lambda i: regrown(cropped(i), 5)),
    _still("k-means", clustered),
    _still("k-means, blur", lambda i: blurred(clustered(i), 1.0)),
    _still("x2", lambda i: enlarged(dark_on_light(i), 2)),
    _still("strokes 3, x2", lambda i: enlarged(strokes(i, 3), 2)),
    _still("x3, median 5", lambda i: median(enlarged(dark_on_light(i), 3), 5)),
]


def _cells(values: np.ndarray, factor: float = 3, smooth: float = 0.0) -> np.ndarray:
    values = blurred(values.astype(np.float32), smooth) if smooth else values
    return enlarged(maps.to_grey8(values), factor)


def _moving(name: str, function: Callable[[np.ndarray], np.ndarray], group: str = "ocr") -> Chain:
    return Chain(name, ("motion",), lambda picture: both(function(picture.frames)), group)


MOVING = [
    Chain("default image", ("motion",), lambda p: [p.still]),
    Chain("default image, opening, x3", ("motion",), lambda p: [
        enlarged(cv2.morphologyEx(grey(p.still), cv2.MORPH_CLOSE, np.ones((2, 2), np.uint8)), 3)
    ]),
    Chain("default image, x3", ("motion",), lambda p: [enlarged(grey(p.still), 3)]),
    Chain("default image, median 3, x3", ("motion",), lambda p: [enlarged(median(grey(p.still), 3), 3)]),
    _moving("first frame", lambda f: _cells(f[0])),
    _moving("first frame, blur", lambda f: _cells(f[0], smooth=1.5)),
    _moving("mean of frames", lambda f: _cells(f.mean(0), smooth=1.2)),
    _moving("difference of two", lambda f: _cells(np.abs(f[1] - f[0]), smooth=1.5)),
    _moving("mean difference", lambda f: _cells(np.abs(np.diff(f, axis=0)).mean(0), smooth=1.2)),
    _moving("variance", lambda f: _cells(f.var(0), smooth=1.2)),
]

INFORMED = [
    Chain(f"structure tensor {outer}", ("swirl",), lambda p, outer=outer: both(
        enlarged(maps.to_grey8(maps.structure_tensor(grey(p.still), outer=outer)), 1.5)
    ), "informed")
    for outer in (3.0, 4.0, 5.5)
] + [
    Chain(f"doubled angle {outer}/{field}", ("swirl",), lambda p, outer=outer, field=field: both(
        enlarged(maps.to_grey8(maps.doubled_angle_field(grey(p.still), outer=outer, field=field)), 1.5)
    ), "informed")
    for outer, field in ((2.5, 9.0), (3.2, 9.0), (4.0, 12.0), (4.0, 18.0))
] + [
    _moving("flow, DIS", lambda f: _cells(maps.optical_flow(f, "dis")), "informed"),
    _moving("flow, Farneback", lambda f: _cells(maps.optical_flow(f, "farneback")), "informed"),
    _moving("correlator 1.2", lambda f: _cells(maps.motion_correlator(f, 1.2)), "informed"),
    _moving("correlator 1.6", lambda f: _cells(maps.motion_correlator(f, 1.6)), "informed"),
    _moving("likelihood 1.4", lambda f: _cells(maps.motion_likelihood(f, 1.4)), "informed"),
]


def chains_for(carrier: str, group: str) -> list[Chain]:
    """The chains that are tried; an unknown carrier is treated as a still picture."""
    known = carrier if carrier in ("ink", "swirl", "motion") else "ink"
    return [c for c in STILL + MOVING + INFORMED if known in c.carriers and c.group == group]
