"""The ollama package, unmodified, over the socket argv[1], with model argv[2]."""

import sys

import httpx
import ollama

SOCKET, MODEL = sys.argv[1:3]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
c = ollama.Client(host="http://localhost", transport=httpx.HTTPTransport(uds=SOCKET))


def refused(status, word, call):
    try:
        call()
    except ollama.ResponseError as e:
        assert e.status_code == status and word in e.error, e
        return
    raise AssertionError("no ResponseError")


assert MODEL in [m.model for m in c.list().models]
shown = c.show(MODEL)
assert "completion" in shown.capabilities
assert shown.modelinfo[shown.modelinfo["general.architecture"] + ".context_length"] == 8192

answer = c.chat(model=MODEL, messages=FRANCE)
assert "Paris" in answer.message.content
assert answer.done_reason == "stop" and answer.eval_count > 0 and answer.total_duration > 0
parts = list(c.chat(model=MODEL + ":latest", messages=FRANCE, stream=True))
assert "".join(p.message.content for p in parts) == answer.message.content
assert parts[-1].done and parts[-1].eval_count == answer.eval_count
cut = c.generate(model=MODEL, prompt="Tell a story.", options={"num_predict": 3, "seed": 1})
assert (cut.done_reason, cut.eval_count) == ("length", 3)
assert [m.model for m in c.ps().models] == [MODEL]

refused(404, "model", lambda: c.chat(model="no-such-model", messages=FRANCE))
refused(400, "8192", lambda: c.chat(model=MODEL, messages=[
    {"role": "user", "content": "word " * 9000}]))
refused(403, "bnctl", lambda: c.pull("x"))
refused(403, "bnctl", lambda: c.delete("x"))
refused(400, "embeddings", lambda: c.embed(model=MODEL, input="x"))
print("ok")
