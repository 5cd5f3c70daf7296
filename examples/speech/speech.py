"""Prints from when until when somebody speaks in a WAV file (16 kHz, mono, 16 bit)."""

import argparse
import os
import wave

import numpy as np
import tritonclient.http as triton

RATE = 16_000
CHUNK = 512  # samples that the model takes at a time: 32 ms
CONTEXT = 64  # and those before them that it wants to see again
SPEECH = 0.5
PAUSE = 0.1  # seconds; a shorter one ends nothing


def tensor(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


class Listener:
    """One stream. The server keeps nothing of it: the model's state comes back
    with each answer and goes along with the next request."""

    def __init__(self, client: triton.InferenceServerClient, model: str) -> None:
        self.client, self.model = client, model
        self.state = np.zeros((2, 1, 128), np.float32)
        self.before = np.zeros(CONTEXT, np.float32)

    def __call__(self, chunk: np.ndarray) -> float:
        """How likely it is that somebody speaks in the chunk, from 0 to 1."""
        inputs = [
            tensor("input", np.concatenate([self.before, chunk])[None], "FP32"),
            tensor("state", self.state, "FP32"),
            tensor("sr", np.array(RATE), "INT64"),
        ]
        token = os.environ.get("MUONIC_TOKEN")
        answer = self.client.infer(self.model, inputs, headers={"authorization": f"Bearer {token}"} if token else None)
        self.state, self.before = answer.as_numpy("stateN"), chunk[-CONTEXT:]
        return float(answer.as_numpy("output")[0, 0])


def read(path: str) -> np.ndarray:
    """Samples from -1 to 1."""
    with wave.open(path) as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if form != (RATE, 1, 2):
            raise SystemExit(f"{path}: {form[0]} Hz, {form[1]} channels, {8 * form[2]} bits; wanted are 16000, 1 and 16")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def chunks(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, CHUNK)


def spans(likely: list[float]) -> list[tuple[float, float]]:
    """Where there is speech, in seconds, from what was said of each chunk."""
    found: list[list[float]] = []
    for at in np.flatnonzero(np.array(likely) >= SPEECH):
        start, end = at * CHUNK / RATE, (at + 1) * CHUNK / RATE
        if found and start - found[-1][1] <= PAUSE:
            found[-1][1] = end
        else:
            found.append([start, end])
    return [(start, end) for start, end in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--url", default="127.0.0.1:8080", help="host, port and, behind a gateway, the endpoint's path")
    parser.add_argument("--model", default="speech")
    asked = parser.parse_args()
    listen = Listener(triton.InferenceServerClient(asked.url), asked.model)
    for start, end in spans([listen(chunk) for chunk in chunks(read(asked.file))]):
        print(f"{start:7.2f} {end:7.2f}")


if __name__ == "__main__":
    main()
