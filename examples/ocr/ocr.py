"""Prints the text of a picture: one model finds its lines, another reads each."""

import argparse
import os

import numpy as np
import onnx
import tritonclient.http as triton
from PIL import Image
from scipy import ndimage

FOUND = 0.3  # of a pixel: how likely it is text
CERTAIN = 0.5  # of a line: what its pixels say in the mean
GROW = 1.6  # the model marks the middle of a line only
SHORT_SIDE = 736  # pixels of the picture that the model is shown
HEIGHT = 48  # of a line when it is read


class Model:
    """A model with one input and one output, wherever it is served."""

    def __init__(self, url: str, name: str) -> None:
        self.client, self.name = triton.InferenceServerClient(url, network_timeout=120), name

    def __call__(self, x: np.ndarray) -> np.ndarray:
        tensor = triton.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        token = os.environ.get("MUONIC_TOKEN")
        answer = self.client.infer(self.name, [tensor], headers={"authorization": f"Bearer {token}"} if token else None)
        return answer.as_numpy(answer.get_response()["outputs"][0]["name"])


def pixels(picture: Image.Image, width: int, height: int) -> np.ndarray:
    """As both models take them: blue first, from -1 to 1, channels before rows."""
    shown = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray((shown[:, :, ::-1] / 127.5 - 1).transpose(2, 0, 1)[None])


def lines(picture: Image.Image, detect) -> list[tuple[int, int, int, int]]:
    """Boxes of lines (left, top, right, bottom), from top to bottom."""
    scale = max(1, SHORT_SIDE / min(picture.size))
    width, height = (round(side * scale / 32) * 32 for side in picture.size)
    likely = detect(pixels(picture, width, height))[0, 0]
    marked, _ = ndimage.label(ndimage.binary_dilation(likely > FOUND, np.ones((2, 2))))
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(marked), 1):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if min(high, wide) < 3 or likely[marked == number].mean() < CERTAIN:
            continue
        more = GROW * high * wide / (2 * (high + wide))
        left, right = ((at * picture.width / width) for at in (columns.start - more, columns.stop + more))
        top, bottom = ((at * picture.height / height) for at in (rows.start - more, rows.stop + more))
        right, bottom = min(picture.width, round(right)), min(picture.height, round(bottom))
        boxes.append((max(0, round(left)), max(0, round(top)), right, bottom))
    return sorted(boxes, key=lambda box: (box[1] + box[3], box[0]))


def alphabet(model: str) -> list[str]:
    """What the reading model's numbers mean; 0 is: no letter here."""
    known = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return ["", *known["character"].splitlines(), " "]


def read(line: Image.Image, recognise, letters: list[str]) -> str:
    says = recognise(pixels(line, max(HEIGHT, round(HEIGHT * line.width / line.height)), HEIGHT))[0].argmax(-1)
    fresh = np.diff(says, prepend=-1) != 0  # a letter is said as long as it is wide
    return "".join(letters[n] for n in says[fresh])


def text(picture: Image.Image, detect, recognise, letters: list[str]) -> list[str]:
    picture = picture.convert("RGB")
    return [read(picture.crop(box), recognise, letters) for box in lines(picture, detect)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture")
    parser.add_argument("letters", help="the .onnx file of the model that reads")
    where = "host, port and, behind a gateway, the endpoint's path"
    parser.add_argument("--detect", default="127.0.0.1:8081", help=where)
    parser.add_argument("--recognise", default="127.0.0.1:8082", help=where)
    asked = parser.parse_args()
    detect, recognise = Model(asked.detect, "detect"), Model(asked.recognise, "recognise")
    print("\n".join(text(Image.open(asked.picture), detect, recognise, alphabet(asked.letters))))


if __name__ == "__main__":
    main()
