"""That an informed attack finds a shape which its carrier hides, on pictures made here."""

import numpy as np

from fortify_lab import maps
from fortify_lab.maps import AXES


def square(height, width):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : -height // 4, width // 3 : -width // 3] = True
    return mask


def apart(found, mask):
    """Distance of the means inside and outside, in units of the spread."""
    inside, outside = found[mask], found[~mask]
    return abs(inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2 + 1e-12)


def dots(mask, random, coherence=0.6, frames=16):
    fields = [random.random(mask.shape) < 0.5 for _ in range(2)]
    played = []
    for index in range(frames):
        played.append(np.where(mask, *fields).astype(np.float32))
        if index % 3 == 0:
            axis, sign = AXES[random.integers(4)], random.choice([-1, 1])
        for which, way in enumerate((sign, -sign)):
            field = np.roll(fields[which], (way * axis[1], way * axis[0]), (0, 1))
            redrawn = random.random(mask.shape) > coherence
            fields[which] = np.where(redrawn, random.random(mask.shape) < 0.5, field)
    return np.stack(played)


def test_the_correlator_finds_what_moves_and_the_mean_does_not():
    mask = square(44, 120)
    frames = dots(mask, np.random.default_rng(1))
    assert apart(maps.motion_correlator(frames), mask) > 3
    assert apart(maps.motion_likelihood(frames), mask) > 3
    assert apart(frames.mean(0), mask) < 0.5


def test_orientation_of_stripes_is_found_where_brightness_says_nothing():
    mask = square(100, 300)
    ys, xs = np.mgrid[0:100, 0:300]
    stripes = np.where(mask, np.sin(2 * np.pi * xs / 6), np.sin(2 * np.pi * ys / 6))
    grey = (128 + 90 * stripes).astype(np.uint8)
    assert apart(grey.astype(float), mask) < 0.1
    assert apart(maps.structure_tensor(grey), mask) > 3
    assert apart(maps.doubled_angle_field(grey, field=18.0), mask) > 3
