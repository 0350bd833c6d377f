"""The openai and ollama packages, unmodified, over the socket argv[1], with the model for embeddings
argv[2]."""

import math
import sys

import httpx
import ollama
import openai

SOCKET, MODEL = sys.argv[1:3]
TEXTS = ["A cat sat on the mat.", "Tax law of 1911", "naïve café"]
transport = httpx.HTTPTransport(uds=SOCKET)
c = openai.OpenAI(base_url="http://localhost/v1", api_key="none", max_retries=0,
                  http_client=httpx.Client(transport=transport))

coded = c.embeddings.create(model=MODEL, input=TEXTS)  # asks for base64 by itself
plain = c.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
assert len(coded.data) == len(TEXTS) and coded.usage.total_tokens > len(TEXTS)
for a, b in zip(coded.data, plain.data):
    assert all(math.isclose(x, y, abs_tol=1e-7) for x, y in zip(a.embedding, b.embedding))
    assert math.isclose(math.hypot(*a.embedding), 1, abs_tol=1e-6)
try:
    c.embeddings.create(model=MODEL, input=TEXTS, dimensions=3)
    raise AssertionError("no BadRequestError")
except openai.BadRequestError as e:
    assert e.param == "dimensions", e

o = ollama.Client(host="http://localhost", transport=httpx.HTTPTransport(uds=SOCKET))
many = o.embed(model=MODEL, input=TEXTS)
assert [list(v) for v in many.embeddings] == [v.embedding for v in plain.data]
assert many.prompt_eval_count == plain.usage.prompt_tokens
assert list(o.embeddings(model=MODEL, prompt=TEXTS[0]).embedding) == plain.data[0].embedding
assert o.show(MODEL).capabilities == ["embedding"]
print("ok")
