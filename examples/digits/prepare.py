"""Writes scikit-learn's bundled handwritten digits as files: train/ and test/.

    python prepare.py --out data --seed 7

Each folder holds images.npy (n x 64, unsigned bytes from 0 to 16: images of
8 x 8 pixels, row by row) and labels.npy (n, the digit that was written). The
split is by example and stratified: every digit is as frequent in both. The
same seed writes the same bytes.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the handwritten digits as train/ and test/ folders.")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=7, help="seed of the split")
    parser.add_argument("--test-fraction", type=float, default=0.25, help="part of the examples held out")
    args = parser.parse_args()

    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.data.astype(np.uint8),
        digits.target.astype(np.int64),
        test_size=args.test_fraction,
        random_state=args.seed,
        stratify=digits.target,
    )
    for name, images, labels in [("train", train_images, train_labels), ("test", test_images, test_labels)]:
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)
        print(f"{folder}: {len(labels)} images")


if __name__ == "__main__":
    main()
