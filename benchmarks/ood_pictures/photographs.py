"""OOD pictures from the photographs that scikit-image and scikit-learn ship in their wheels.

Nothing is downloaded. Black surroundings and missing colour are what the plainest rules rest on,
so each photograph is also shown grey, in a black frame and in a black oval, as a head would be.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.ood_pictures.pictures import Drawn, oval, random_of
from ml.errors import SulcusMLError
from ml.evaluation.ood.variation import Grey, Random, to_bytes
from ml.imaging.pictures import Pixels
from ml.preprocess import FloatImage

# All files of skimage/data in the wheel except the phantom of a head and the smallest ones.
_SKIMAGE = [
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
]
_LONGEST_SIDE = 512  # px
_FACES = 10
_DIGITS = 10


def photographs() -> Iterator[Drawn]:
    """Each photograph in several dresses, then small faces and digits.

    Raises:
        SulcusMLError: scikit-image or scikit-learn's pictures are missing.
    """
    for source, picture in _originals():
        if picture.ndim == 3 and _is_coloured(picture):
            yield Drawn("colour photograph", source, picture)
        yield from _dressed(source, _grey(picture))
    yield from _faces()
    yield from _digits()


def _originals() -> Iterator[tuple[str, Pixels]]:
    try:
        import skimage.data
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise SulcusMLError(
            "OOD pictures need scikit-image and scikit-learn (requirements/train.txt)."
        ) from error
    folder = Path(skimage.data.__file__).parent
    for name in _SKIMAGE:
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise SulcusMLError(f"scikit-image lacks its picture {name}.")
        yield f"skimage {name}", _limited(np.asarray(picture, np.uint8))
    samples = load_sample_images()
    for path, image in zip(samples.filenames, samples.images, strict=True):
        yield f"sklearn {Path(path).name}", _limited(np.asarray(image, np.uint8))


def _dressed(source: str, grey: Grey) -> Iterator[Drawn]:
    random = random_of(source)
    yield Drawn("grey photograph", source, grey)
    yield Drawn("grey photograph in a black frame", source, _framed(grey, random))
    for _ in range(2):
        cut = _cut(grey, random)
        share = float(random.uniform(0.7, 0.95))
        inside = oval(*cut.shape, share=share)
        yield Drawn("grey photograph in a black oval", source, np.where(inside, cut, 0))
    light = oval(*grey.shape, share=0.8).astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(light, (0, 0), 25), np.float32)
    yield Drawn("grey photograph, darker to the edge", source, _dimmed(grey, soft))
    close = _cut(grey, random, share=0.3)
    yield Drawn("close crop of a photograph in a black frame", source, _framed(close, random))


def _faces() -> Iterator[Drawn]:
    import skimage.data

    # Labelled Faces in the Wild, 25 px: the first hundred are faces.
    faces = np.load(Path(skimage.data.__file__).parent / "lfw_subset.npy")[:100]
    for number in range(0, 100, 100 // _FACES):
        source = f"skimage lfw_subset {number}"
        face = cv2.resize(to_bytes(faces[number]), (200, 200), interpolation=cv2.INTER_CUBIC)
        yield Drawn("face in a black oval", source, np.where(oval(200, 200), face, 0))


def _digits() -> Iterator[Drawn]:
    from sklearn.datasets import load_digits

    images = load_digits().images
    for number in range(_DIGITS):
        digit = cv2.resize(to_bytes(images[number * 7]), (192, 192), interpolation=cv2.INTER_CUBIC)
        framed = cv2.copyMakeBorder(digit, 32, 32, 32, 32, cv2.BORDER_CONSTANT, value=0)
        yield Drawn("digit on black", f"sklearn digit {number * 7}", np.asarray(framed, np.uint8))


def _limited(picture: Pixels) -> Pixels:
    scale = _LONGEST_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    smaller = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8)


def _is_coloured(picture: Pixels) -> bool:
    return bool(np.ptp(picture.astype(np.int16), axis=2).mean() > 3)


def _grey(picture: Pixels) -> Grey:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _framed(grey: Grey, random: Random) -> Grey:
    margin = round(float(random.uniform(0.08, 0.25)) * max(grey.shape))
    framed = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(framed, np.uint8)


def _cut(grey: Grey, random: Random, *, share: float = 0.7) -> Grey:
    """A square part of the picture, ``share`` of its shorter side."""
    side = round(share * min(grey.shape))
    top = int(random.integers(0, grey.shape[0] - side + 1))
    left = int(random.integers(0, grey.shape[1] - side + 1))
    return grey[top : top + side, left : left + side]


def _dimmed(grey: Grey, light: FloatImage) -> Grey:
    return np.asarray(grey * (light / light.max()), np.uint8)
