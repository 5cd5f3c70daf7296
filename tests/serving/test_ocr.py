"""PP-OCRv4, as RapidOCR packs it, by the example's client: a photographed page
of print, and one that is drawn here."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from served import LONG, MODELS_LONG, ROOT, Reference, furthest, served

sys.path.insert(0, str(ROOT / "examples" / "ocr"))
import ocr  # noqa: E402 (it lies with the examples)

pytestmark = pytest.mark.skipif(not LONG, reason="fetches 40 MB: ./test --long")

FOLDER = MODELS_LONG / "rapidocr_onnxruntime" / "models"
DETECT, RECOGNISE = (FOLDER / f"ch_PP-OCRv4_{part}_infer.onnx" for part in ("det", "rec"))
# Below these the page has a line of code, cut off by the edge, which is read
# with errors.
PRINTED = [
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background. These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
]
DRAWN = [
    "The quick brown fox jumps over the lazy dog.",
    "Invoice 2026-1142, due 15 December",
    "Total: 1,284.50 EUR",
    "Ask for the blue door at number 7",
]


class Compared:
    """A model asked twice: by way of the server, and in this process."""

    def __init__(self, url: str, name: str, file) -> None:
        self.model, self.reference, self.off = ocr.Model(url, name), Reference(file), []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        said = self.model(x)
        self.off.append(furthest(said, self.reference(x=x)[0]))
        return said


@pytest.fixture(scope="module")
def read():
    with served(DETECT, "detect") as one, served(RECOGNISE, "recognise") as other:
        detect, recognise = Compared(one, "detect", DETECT), Compared(other, "recognise", RECOGNISE)
        letters = ocr.alphabet(str(RECOGNISE))
        assert len(letters) == 6625

        def read(picture: Image.Image) -> list[str]:
            found = ocr.text(picture, detect, recognise, letters)
            assert len(detect.off) >= 1 and len(recognise.off) >= len(found)
            assert max(detect.off + recognise.off) < 1e-5
            return found

        yield read


def drawn(lines: list[str]) -> Image.Image:
    page = Image.new("RGB", (900, 80 + 85 * len(lines)), "white")
    font = ImageFont.load_default(34)
    for n, line in enumerate(lines):
        ImageDraw.Draw(page).text((40, 40 + 85 * n), line, "black", font=font)
    return page


def letters_only(lines: list[str]) -> list[str]:
    """The model, made for Chinese, leaves out spaces here and there."""
    return [line.replace(" ", "") for line in lines]


def test_a_photographed_page_is_read(read):
    found = read(Image.open(MODELS_LONG / "skimage" / "data" / "page.png"))
    assert letters_only(found[: len(PRINTED)]) == letters_only(PRINTED)


def test_a_drawn_page_is_read(read):
    assert letters_only(read(drawn(DRAWN))) == letters_only(DRAWN)


def test_a_page_without_text_has_none(read):
    assert read(Image.new("RGB", (400, 300), "white")) == []


def test_a_line_is_read_without_onnxruntime():
    line = drawn(["Total: 120 EUR"]).crop((30, 35, 310, 85))
    with served(RECOGNISE, "recognise", "rten") as url:
        recognise = Compared(url, "recognise", RECOGNISE)
        found = ocr.read(line, recognise, ocr.alphabet(str(RECOGNISE)))
    assert letters_only([found]) == ["Total:120EUR"]
    assert max(recognise.off) < 1e-4
