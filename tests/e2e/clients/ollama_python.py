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


def get_weather(city: str) -> str:
    """Get the weather of a city.

    Args:
        city: The name of the city
    """
    return f"It is 18 degrees in {city}."


# Described from its signature by the client; what comes back can be called as it is. The interface
# cannot demand a call, and the small model makes one only when it has seen how that goes.
talk = [{"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
        {"role": "tool", "tool_name": "get_weather", "content": "It is 20 degrees in Paris."},
        {"role": "user", "content": "What is the weather in Rome?"}]
called = c.chat(model=MODEL, messages=talk, tools=[get_weather]).message
call, = called.tool_calls
assert (call.function.name, dict(call.function.arguments)) == ("get_weather", {"city": "Rome"})
streamed = [p.message for p in c.chat(model=MODEL, messages=talk, tools=[get_weather], stream=True)]
assert [t for m in streamed for t in m.tool_calls or []] == [call], streamed
talk += [called, {"role": "tool", "tool_name": call.function.name,
                  "content": get_weather(**call.function.arguments)}]
said = c.chat(model=MODEL, messages=talk).message
assert said.content and not said.content.startswith("{") and not said.tool_calls, said
assert "tools" in shown.capabilities

refused(404, "model", lambda: c.chat(model="no-such-model", messages=FRANCE))
refused(400, "8192", lambda: c.chat(model=MODEL, messages=[
    {"role": "user", "content": "word " * 9000}]))
refused(403, "bnctl", lambda: c.pull("x"))
refused(403, "bnctl", lambda: c.delete("x"))
refused(400, "embeddings", lambda: c.embed(model=MODEL, input="x"))
print("ok")
