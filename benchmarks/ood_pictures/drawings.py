"""OOD pictures by rule: noise, patterns, shapes on black, fruit, radiographs, blank frames."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.ood_pictures.pictures import Drawn, oval, random_of
from ml.evaluation.ood.variation import Grey, Random, to_bytes

SIDE = 256  # px
_VARIANTS = 4


def drawings() -> Iterator[Drawn]:
    """Every rule several times, each time with other random numbers."""
    for kind, rules in _RULES.items():
        for rule in rules:
            source = f"drawn {rule.__name__.strip('_').replace('_', ' ')}"
            random = random_of(source)
            for _ in range(_VARIANTS):
                yield Drawn(kind, source, rule(random))


def _white_noise(random: Random) -> Grey:
    return random.integers(0, 256, (SIDE, SIDE), np.uint8)


def _gaussian_noise(random: Random) -> Grey:
    return to_bytes(random.normal(size=(SIDE, SIDE)))


def _salt(random: Random) -> Grey:
    share = random.uniform(0.002, 0.2)
    return np.asarray((random.random((SIDE, SIDE)) < share) * 255, np.uint8)


def _smooth_noise(random: Random) -> Grey:
    return to_bytes(_smooth(random, float(random.uniform(2, 24))))


def _pink_noise(random: Random) -> Grey:
    return to_bytes(_pink(random))


def _smooth_noise_in_an_oval(random: Random) -> Grey:
    field = to_bytes(_smooth(random, float(random.uniform(2, 14))))
    return np.where(_random_oval(random), field // 2 + 100, 0).astype(np.uint8)


def _pink_noise_in_an_oval(random: Random) -> Grey:
    return np.where(_random_oval(random), to_bytes(_pink(random)), 0).astype(np.uint8)


def _white_noise_in_an_oval(random: Random) -> Grey:
    return np.where(_random_oval(random), _white_noise(random), 0).astype(np.uint8)


def _gradient(random: Random) -> Grey:
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    return to_bytes(np.cos(angle) * rows + np.sin(angle) * columns)


def _radial_gradient(random: Random) -> Grey:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    row, column = random.uniform(0.35 * SIDE, 0.65 * SIDE, 2)
    return to_bytes(-(np.hypot(rows - row, columns - column) ** random.uniform(0.6, 2)))


def _checkerboard(random: Random) -> Grey:
    cell = int(random.integers(4, 40))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] // cell
    return np.asarray(((rows + columns) % 2) * 255, np.uint8)


def _checkerboard_on_black(random: Random) -> Grey:
    return _on_black(_checkerboard(random), random)


def _stripes_on_black(random: Random) -> Grey:
    angle, period = random.uniform(0, np.pi), random.uniform(6, 40)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    wave = np.sin((np.cos(angle) * rows + np.sin(angle) * columns) * 2 * np.pi / period)
    return _on_black(to_bytes(wave), random)


def _rings(random: Random) -> Grey:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
    radius = np.hypot(rows, columns * random.uniform(0.8, 1.3))
    rings = 0.5 + 0.5 * np.cos(radius * 2 * np.pi / random.uniform(8, 50))
    return np.where(radius < 0.45 * SIDE, rings * 255, 0).astype(np.uint8)


def _zone_plate(random: Random) -> Grey:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
    return to_bytes(np.cos((rows**2 + columns**2) * random.uniform(0.002, 0.02)))


def _one_oval(random: Random) -> Grey:
    return np.where(_random_oval(random), int(random.integers(90, 256)), 0).astype(np.uint8)


def _shaded_ball(random: Random) -> Grey:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
    radius = random.uniform(0.3, 0.45) * SIDE
    height = np.sqrt(np.clip(1 - (rows**2 + columns**2) / radius**2, 0, None))
    light = height - (random.uniform(-1, 1) * rows + random.uniform(-1, 1) * columns) / radius / 2
    return np.asarray(np.clip(light, 0, 1) * 255, np.uint8)


def _several_ovals(random: Random) -> Grey:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(int(random.integers(3, 12))):
        _ellipse(canvas, random, float(random.uniform(0.04, 0.16)))
    return canvas


def _polygons(random: Random) -> Grey:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(int(random.integers(1, 5))):
        corners = random.integers(30, SIDE - 30, (int(random.integers(3, 9)), 1, 2))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], int(random.integers(80, 256)))
    return canvas


def _scribble(random: Random) -> Grey:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    points = random.integers(20, SIDE - 20, (int(random.integers(6, 30)), 1, 2))
    cv2.polylines(canvas, [points.astype(np.int32)], False, 255, int(random.integers(1, 6)))
    return canvas


def _citrus(random: Random) -> Grey:
    """A slice of an orange: rind, pith, segments."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    centre, radius = (SIDE // 2, SIDE // 2), int(random.uniform(0.36, 0.46) * SIDE)
    cv2.circle(canvas, centre, radius, 150, -1)
    cv2.circle(canvas, centre, int(radius * 0.93), 230, -1)
    parts = int(random.integers(7, 13))
    for part in range(parts):
        start, end = 360 * part / parts + 3, 360 * (part + 1) / parts - 3
        axes = (int(radius * 0.85), int(radius * 0.85))
        cv2.ellipse(canvas, centre, axes, 0, start, end, int(random.integers(110, 170)), -1)
    return _grainy(canvas, random)


def _kiwi(random: Random) -> Grey:
    """A slice of a kiwi: flesh, pale core, a wreath of dark seeds."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    centre = (SIDE // 2, SIDE // 2)
    wide, high = (int(value * SIDE) for value in random.uniform(0.33, 0.46, 2))
    cv2.ellipse(canvas, centre, (wide, high), 0, 0, 360, 130, -1)
    cv2.ellipse(canvas, centre, (wide // 4, high // 4), 0, 0, 360, 220, -1)
    for angle in random.uniform(0, 2 * np.pi, 50):
        out = random.uniform(0.35, 0.6)
        place = (
            int(centre[0] + out * wide * np.cos(angle)),
            int(centre[1] + out * high * np.sin(angle)),
        )
        cv2.circle(canvas, place, int(random.integers(2, 4)), 25, -1)
    return _grainy(canvas, random)


def _potato(random: Random) -> Grey:
    """A lump with a wavy outline and spots."""
    angles = np.linspace(0, 2 * np.pi, 200)
    radius = 0.38 * SIDE * np.ones_like(angles)
    for wave in range(2, 6):
        radius += random.normal() * 0.02 * SIDE * np.sin(wave * angles + random.uniform(0, 6))
    outline = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], 1) + SIDE / 2
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(canvas, [outline.astype(np.int32)], 150)
    inside = canvas > 0
    for _ in range(12):
        _ellipse(canvas, random, 0.02)
    return _grainy(np.where(inside, canvas, 0).astype(np.uint8), random)


def _chest_radiograph(random: Random) -> Grey:
    """Two dark lungs, ribs, a bright spine and heart."""
    canvas = np.full((SIDE, SIDE), 150, np.uint8)
    for side in (-1, 1):
        centre = (int(SIDE / 2 + side * random.uniform(0.18, 0.22) * SIDE), int(0.5 * SIDE))
        axes = (int(random.uniform(0.13, 0.17) * SIDE), int(random.uniform(0.28, 0.36) * SIDE))
        cv2.ellipse(canvas, centre, axes, side * 6, 0, 360, 50, -1)
        for rib in range(7):
            place = (centre[0], int((0.25 + 0.08 * rib) * SIDE))
            cv2.ellipse(canvas, place, (axes[0], 18), side * 20, 180, 360, 95, 4)
    cv2.rectangle(canvas, (SIDE // 2 - 10, 0), (SIDE // 2 + 10, SIDE), 190, -1)
    cv2.ellipse(canvas, (int(0.56 * SIDE), int(0.62 * SIDE)), (36, 48), 30, 0, 360, 190, -1)
    return np.asarray(
        cv2.GaussianBlur(_grainy(canvas, random), (0, 0), float(random.uniform(1.5, 4))), np.uint8
    )


def _hand_radiograph(random: Random) -> Grey:
    """Five rows of bright bones in soft tissue on black."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    palm = np.array([SIDE // 2, int(0.72 * SIDE)])
    spread = np.linspace(-0.75, 0.75, 5) + random.normal(size=5) * 0.05
    lines = [(palm, palm + 160 * np.array([np.sin(a), -np.cos(a)])) for a in spread]
    for start, end in lines:
        cv2.line(canvas, start.astype(int).tolist(), end.astype(int).tolist(), 80, 24)
    cv2.circle(canvas, palm.tolist(), 48, 80, -1)
    for start, end in lines:
        for near, far in ((0.2, 0.5), (0.55, 0.72), (0.77, 0.9)):
            ends = [(start + part * (end - start)).astype(int).tolist() for part in (near, far)]
            cv2.line(canvas, ends[0], ends[1], 210, 9)
    return np.asarray(cv2.GaussianBlur(_grainy(canvas, random), (0, 0), 2), np.uint8)


def _one_spot(random: Random) -> Grey:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    canvas[tuple(random.integers(0, SIDE, 2))] = 255
    return canvas


def _faint_noise(random: Random) -> Grey:
    return random.integers(0, 4, (SIDE, SIDE), np.uint8) + np.uint8(random.integers(0, 200))


def _one_line(random: Random) -> Grey:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    start, end = random.integers(0, SIDE, (2, 2)).tolist()
    cv2.line(canvas, start, end, 255, 2)
    return canvas


def _half_black(random: Random) -> Grey:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    canvas[int(random.integers(60, 200)) :] = int(random.integers(60, 256))
    return np.ascontiguousarray(np.rot90(canvas, int(random.integers(4))))


Rule = Callable[[Random], Grey]
_RULES: dict[str, tuple[Rule, ...]] = {
    "noise": (_white_noise, _gaussian_noise, _salt, _smooth_noise, _pink_noise),
    "noise in an oval": (
        _smooth_noise_in_an_oval,
        _pink_noise_in_an_oval,
        _white_noise_in_an_oval,
    ),
    "pattern": (_gradient, _radial_gradient, _checkerboard, _zone_plate),
    "pattern on black": (_checkerboard_on_black, _stripes_on_black, _rings),
    "shapes on black": (_one_oval, _shaded_ball, _several_ovals, _polygons, _scribble),
    "fruit": (_citrus, _kiwi, _potato),
    "radiograph": (_chest_radiograph, _hand_radiograph),
    "nearly blank": (_one_spot, _faint_noise, _one_line, _half_black),
}


def _smooth(random: Random, sigma: float) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(random.normal(size=(SIDE, SIDE)), (0, 0), sigma))


def _pink(random: Random) -> npt.NDArray[np.float64]:
    """Noise whose spectrum falls as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None])
    spectrum = np.fft.fft2(random.normal(size=(SIDE, SIDE)))
    falling = spectrum / np.maximum(frequency, 1 / SIDE) ** random.uniform(0.8, 1.6)
    return np.asarray(np.fft.ifft2(falling).real)


def _random_oval(random: Random) -> npt.NDArray[np.bool_]:
    high, wide = random.uniform(0.65, 0.92, 2)
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return np.asarray((rows / high) ** 2 + (columns / wide) ** 2 <= 1)


def _on_black(pattern: Grey, random: Random) -> Grey:
    if random.random() < 0.5:
        return np.where(oval(SIDE, SIDE, share=0.85), pattern, 0).astype(np.uint8)
    margin = int(random.integers(20, 60))
    framed = np.zeros_like(pattern)
    inside = np.s_[margin:-margin, margin:-margin]
    framed[inside] = pattern[inside]
    return framed


def _ellipse(canvas: Grey, random: Random, size: float) -> None:
    centre = random.integers(int(0.2 * SIDE), int(0.8 * SIDE), 2).tolist()
    axes = [max(2, int(size * SIDE * factor)) for factor in random.uniform(0.7, 1.4, 2)]
    turn = float(random.uniform(0, 180))
    cv2.ellipse(canvas, centre, axes, turn, 0, 360, int(random.integers(60, 256)), -1)


def _grainy(canvas: Grey, random: Random) -> Grey:
    """Grain inside what was drawn, as a camera would add it."""
    grain = cv2.GaussianBlur(random.normal(size=canvas.shape), (0, 0), 1.2) * 25
    return np.asarray(np.clip(canvas + grain * (canvas > 0), 0, 255), np.uint8)
