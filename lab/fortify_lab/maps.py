"""Informed attacks: from a picture to a map in which the text is lighter or darker than the rest.

Each is what someone writes in an hour who knows how the carrier works. They know no secret.
"""

import cv2
import numpy as np

AXES = ((1, 0), (0, 1), (1, 1), (1, -1))


def to_grey8(values: np.ndarray) -> np.ndarray:
    """0 to 255 between the first and the last percent of the values."""
    low, high = np.percentile(values, (1, 99))
    return ((values - low) / (high - low + 1e-9) * 255).clip(0, 255).astype(np.uint8)


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    if np.iscomplexobj(values):
        return _blur(values.real, sigma) + 1j * _blur(values.imag, sigma)
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma)


def _doubled_angles(grey: np.ndarray, inner: float) -> np.ndarray:
    smooth = _blur(grey, inner)
    gradient = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) + 1j * cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return gradient**2


def structure_tensor(grey: np.ndarray, inner: float = 1.2, outer: float = 4.0) -> np.ndarray:
    """Orientation of texture along the axis on which it varies most."""
    angles = _blur(_doubled_angles(grey, inner), outer)
    angles /= np.abs(angles) + 1e-6
    values = np.stack([angles.real.ravel(), angles.imag.ravel()], 1)
    values -= np.median(values, 0)
    axis = np.linalg.svd(values[::5], full_matrices=False)[2][0]
    return (values @ axis).reshape(grey.shape)


def doubled_angle_field(
    grey: np.ndarray, inner: float = 1.0, outer: float = 3.2, field: float = 9.0
) -> np.ndarray:
    """Orientation against the field around it: four times the angle does not know a turn by 90
    degrees, so its smoothed half is the field, and what stands against it is glyph."""
    angles = _blur(_doubled_angles(grey, inner), outer)
    angles /= np.abs(angles) + 1e-6
    fourfold = _blur(angles**2, field)
    phase = np.unwrap(np.unwrap(np.angle(fourfold), axis=1), axis=0) / 2
    return _blur((angles * np.exp(-1j * phase)).real, 1.5)


def optical_flow(frames: np.ndarray, method: str = "dis", scale: int = 3) -> np.ndarray:
    """Ready-made dense flow of each pair of frames; the first component of all of them over time."""
    enlarged = [
        _blur(cv2.resize((frame * 255).astype(np.uint8), None, fx=scale, fy=scale), 1.2).astype(np.uint8)
        for frame in frames
    ]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fields = []
    for before, after in zip(enlarged, enlarged[1:]):
        if method == "dis":
            flow = dis.calc(before, after, None)
        else:
            flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.1, 0)
        flow = cv2.GaussianBlur(flow, (0, 0), 3)
        flow -= np.median(flow.reshape(-1, 2), 0)
        small = (frames.shape[2], frames.shape[1])
        fields += [cv2.resize(flow[..., axis], small, interpolation=cv2.INTER_AREA) for axis in (0, 1)]
    values = np.array(fields).reshape(len(fields), -1)
    values = values - values.mean(1, keepdims=True)
    return np.linalg.svd(values, full_matrices=False)[2][0].reshape(frames.shape[1:])


def _shifted(frame: np.ndarray, axis: tuple[int, int], sign: int) -> np.ndarray:
    return np.roll(frame, (-sign * axis[1], -sign * axis[0]), (0, 1))


def motion_correlator(frames: np.ndarray, sigma: float = 1.6) -> np.ndarray:
    """For each pair of frames: the axis along which most dots moved either way, and where they moved
    one way rather than the other; the signs of all pairs aligned, and summed."""
    dots = frames.astype(np.float32) * 2 - 1
    moves = []
    for before, after in zip(dots, dots[1:]):
        pairs = [
            (before * _shifted(after, axis, 1), before * _shifted(after, axis, -1)) for axis in AXES
        ]
        one, other = max(pairs, key=lambda pair: pair[0].mean() + pair[1].mean())
        moves.append(_blur(one - other, sigma))
    # The ground is larger than the glyphs: it decides the sign of the mean.
    found = sum(move * np.sign(move.mean() or 1) for move in moves)
    for _ in range(3):
        found = sum(move * np.sign((move * (found - found.mean())).sum() or 1) for move in moves)
    return found / len(moves)


def motion_likelihood(frames: np.ndarray, sigma: float = 1.4) -> np.ndarray:
    """As the correlator, but with evidence over two frames where a direction is kept, weighted by how
    clear each pair is, and with edges kept: the attack of someone who stays for an afternoon."""
    dots = frames.astype(np.float32) * 2 - 1
    found = motion_correlator(frames, 1.6)
    glyphs = np.tanh((found - np.median(found)) / (found.std() + 1e-6))
    evidence = np.zeros_like(dots[0])
    for _ in range(4):
        evidence = np.zeros_like(dots[0])
        directions = []
        for before, after in zip(dots, dots[1:]):
            scores = []
            for axis in AXES:
                difference = before * _shifted(after, axis, 1) - before * _shifted(after, axis, -1)
                score = float((difference * (glyphs - glyphs.mean())).sum())
                scores.append((abs(score), np.sign(score) or 1.0, axis, difference))
            weight, sign, axis, difference = max(scores, key=lambda score: score[0])
            evidence += sign * difference
            directions.append((axis, sign))
        for index, (one, two) in enumerate(zip(directions, directions[1:])):
            if one == two:
                axis, sign = one
                double = (2 * axis[0], 2 * axis[1])
                before, after = dots[index], dots[index + 2]
                evidence += 0.5 * sign * (
                    before * _shifted(after, double, 1) - before * _shifted(after, double, -1)
                )
        smooth = _blur(evidence, sigma)
        glyphs = np.tanh((smooth - np.median(smooth)) / (smooth.std() + 1e-6))
    smooth = _blur(evidence, sigma)
    return cv2.bilateralFilter(to_grey8(smooth), 7, 60, 3).astype(np.float32)
