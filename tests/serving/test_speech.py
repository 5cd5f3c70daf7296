"""Silero VAD, which finds speech and whose state travels with its requests, by
the example's client: half a minute of a conversation, and who spoke when by
the notes that come with it."""

import concurrent.futures
import sys

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from served import MODELS, ROOT, Reference, furthest, served

sys.path.insert(0, str(ROOT / "examples" / "speech"))
import speech  # noqa: E402 (it lies with the examples)

MODEL = MODELS / "silero_vad" / "data" / "silero_vad.onnx"
TALK = MODELS / "pyannote" / "audio" / "sample" / "sample.wav"


@pytest.fixture(scope="module")
def url():
    with served(MODEL, "speech") as url:
        yield url


def likely(url: str, samples: np.ndarray) -> np.ndarray:
    listen = speech.Listener(triton.InferenceServerClient(url), "speech")
    return np.array([listen(chunk) for chunk in speech.chunks(samples)], np.float32)


def expected(samples: np.ndarray) -> np.ndarray:
    reference, said = Reference(MODEL), []
    state, before = np.zeros((2, 1, 128), np.float32), np.zeros(speech.CONTEXT, np.float32)
    for chunk in speech.chunks(samples):
        output, state = reference(input=np.concatenate([before, chunk])[None], state=state, sr=np.array(speech.RATE))
        before = chunk[-speech.CONTEXT :]
        said.append(output[0, 0])
    return np.array(said)


def noted(times: np.ndarray) -> np.ndarray:
    """Whether somebody speaks at each time, from the turns noted in RTTM."""
    turns = [line.split()[3:5] for line in TALK.with_suffix(".rttm").read_text().splitlines()]
    return np.any([(float(start) <= times) & (times < float(start) + float(long)) for start, long in turns], axis=0)


def test_speech_is_found_where_it_is_noted(url):
    samples = speech.read(str(TALK))
    said = likely(url, samples)
    assert furthest(said, expected(samples)) < 1e-5

    middles = (np.arange(len(said)) + 0.5) * speech.CHUNK / speech.RATE
    assert ((said >= speech.SPEECH) == noted(middles)).mean() > 0.96
    (first, _), *_, (_, last) = speech.spans(list(said))
    assert (first, last) == (pytest.approx(6.8, abs=0.2), pytest.approx(30.0, abs=0.2))


def test_silence_noise_and_tones_are_no_speech(url):
    rng, times = np.random.default_rng(1), np.arange(2 * speech.RATE) / speech.RATE
    for samples in [np.zeros_like(times), 0.03 * rng.standard_normal(len(times)), 0.3 * np.sin(2764.6 * times)]:
        assert likely(url, samples.astype(np.float32)).max() < 0.3


def test_streams_at_once_keep_their_own_state(url):
    whole = speech.read(str(TALK))
    streams = [whole[at * speech.RATE :][: 3 * speech.RATE] for at in (0, 6, 10, 18, 22, 26)]
    with concurrent.futures.ThreadPoolExecutor(len(streams)) as pool:
        for said, samples in zip(pool.map(lambda stream: likely(url, stream), streams), streams, strict=True):
            assert furthest(said, expected(samples)) < 1e-5


def test_a_state_of_another_form_is_refused_by_name(url):
    listen = speech.Listener(triton.InferenceServerClient(url), "speech")
    listen.state = np.zeros((1, 1, 128), np.float32)
    with pytest.raises(InferenceServerException, match="state"):
        listen(np.zeros(speech.CHUNK, np.float32))


def test_a_second_is_heard_without_onnxruntime():
    samples = speech.read(str(TALK))[6 * speech.RATE : 7 * speech.RATE]
    with served(MODEL, "speech", "rten") as url:
        said = likely(url, samples)
    assert said.min() < 0.1 < speech.SPEECH < said.max()
    assert furthest(said, expected(samples)) < 1e-5
