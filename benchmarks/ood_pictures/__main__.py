"""Draw pictures that are no MRI of a brain, for ``python -m ml ood --pictures``.

They are made from what scikit-image, scikit-learn and pydicom ship, and by rule; nothing is
downloaded. Writes a PNG each and ``pictures.csv``, and prints its path.

    .venv/bin/python -m benchmarks.ood_pictures --out FOLDER
"""

import argparse
from pathlib import Path

from benchmarks.ood_pictures.collection import drawn_pictures, write_pictures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ood_pictures", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    print(write_pictures(drawn_pictures(), options.out))


if __name__ == "__main__":
    main()
