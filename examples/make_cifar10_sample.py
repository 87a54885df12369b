"""Make the small CIFAR-10 sample set that tapc carries: the first images of every class, without loss.

    python examples/make_cifar10_sample.py cifar10-original-subset.npz tapc/zoo/samples/cifar10-sample.zip

Training images become train/CLASS/NNNN.png (for calibration), test images test/CLASS/NNNN.png, NNNN being the image's
place in the archive. Classes in alphabetical order have CIFAR-10's numbers.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="npz with train_x, train_y, test_x, test_y; images N x 3 x 32 x 32")
    parser.add_argument("output", type=Path)
    parser.add_argument("--train", type=int, default=25, help="images of each class for calibration")
    parser.add_argument("--test", type=int, default=30, help="images of each class for tests")
    given = parser.parse_args()
    with np.load(given.source) as archive, zipfile.ZipFile(given.output, "w", zipfile.ZIP_STORED) as output:
        for part, count in (("train", given.train), ("test", given.test)):
            images, labels = archive[f"{part}_x"], archive[f"{part}_y"]
            for number, name in enumerate(CLASSES):
                for index in np.flatnonzero(labels == number)[:count]:
                    stream = io.BytesIO()
                    Image.fromarray(images[index].transpose(1, 2, 0)).save(stream, "PNG", optimize=True)
                    # A fixed date: the same images give the same archive.
                    output.writestr(zipfile.ZipInfo(f"{part}/{name}/{index:04}.png"), stream.getvalue())


if __name__ == "__main__":
    main()
