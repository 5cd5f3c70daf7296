"""NudeNet's detector, a YOLOv8 whose answer has a column for each place it
looked at; here it is asked where the face is."""

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image

from served import LONG, MODELS_LONG, Reference, furthest, served

pytestmark = pytest.mark.skipif(not LONG, reason="fetches 40 MB: ./test --long")

MODEL = MODELS_LONG / "nudenet" / "320n.onnx"
PICTURES = MODELS_LONG / "skimage" / "data"
SIDE, SURE = 320, 0.25
FACES = {1, 12}


@pytest.fixture(scope="module")
def client():
    with served(MODEL, "detector") as url:
        yield triton.InferenceServerClient(url, network_timeout=120)


def seen(name: str) -> tuple[np.ndarray, float]:
    """A picture as the model takes it, and the pixels of the original for one of these."""
    picture = Image.open(PICTURES / name).convert("RGB")
    side = max(picture.size)
    square = Image.new("RGB", (side, side))
    square.paste(picture)
    shown = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) / 255
    return np.ascontiguousarray(shown.transpose(2, 0, 1)[None]), side / SIDE


def detect(client, images: np.ndarray) -> np.ndarray:
    tensor = triton.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    return client.infer("detector", [tensor]).as_numpy("output0")


def best(answer: np.ndarray) -> tuple[int, float, np.ndarray]:
    """The surest find of one picture: class, score, box (left, top, right, bottom)."""
    scores = answer[4:]
    which, where = np.unravel_index(scores.argmax(), scores.shape)
    x, y, width, height = answer[:4, where]
    return int(which), float(scores[which, where]), np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def test_a_face_is_found_where_it_is(client):
    image, scale = seen("astronaut.png")
    which, score, box = best(detect(client, image)[0])
    assert which in FACES and score > 0.5
    # Around eyes and mouth, and within the head with its hair.
    left, top, right, bottom = box * scale
    assert 150 < left < 200 and 40 < top < 100 and 250 < right < 290 and 160 < bottom < 220


def test_pictures_of_nobody_have_no_face(client):
    for name in ("coffee.png", "chelsea.png", "rocket.jpg"):
        scores = detect(client, seen(name)[0])[0, 4:]
        assert scores[list(FACES)].max() < SURE, name


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """In boxes, to a thousandth of a pixel, and in scores."""
    return furthest(one[:, :4], other[:, :4]) < 1e-3 and furthest(one[:, 4:], other[:, 4:]) < 1e-5


def test_boxes_and_scores_are_those_of_onnxruntime(client):
    images = np.concatenate([seen(name)[0] for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")])
    said = detect(client, images)
    assert same(said, Reference(MODEL)(images=images)[0])
    assert same(said, np.concatenate([detect(client, image[None]) for image in images]))


def test_a_face_is_found_without_onnxruntime():
    image = np.ascontiguousarray(seen("astronaut.png")[0][:, :, ::2, ::2])
    with served(MODEL, "detector", "rten") as url:
        said = detect(triton.InferenceServerClient(url, network_timeout=120), image)
    assert best(said[0])[0] in FACES
    assert same(said, Reference(MODEL)(images=image)[0])
