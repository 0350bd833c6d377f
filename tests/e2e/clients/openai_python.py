"""The openai package, unmodified, over the socket argv[1], with model argv[2]."""

import json
import sys

import httpx
import openai

SOCKET, MODEL = sys.argv[1:3]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


def client(**options):
    transport = httpx.HTTPTransport(uds=SOCKET)
    return openai.OpenAI(base_url="http://localhost/v1", api_key="none",
                         http_client=httpx.Client(transport=transport), **options)


def refused(kind, word, **fields):
    try:
        client(max_retries=0).chat.completions.create(**{"model": MODEL, "messages": FRANCE,
                                                         **fields})
    except kind as e:
        assert word in str(e), e
        return e
    raise AssertionError(f"no {kind.__name__}")


c = client()
whole = c.chat.completions.create(model=MODEL, messages=FRANCE)
answer = whole.choices[0].message.content
assert "Paris" in answer, answer
assert whole.choices[0].finish_reason == "stop"
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole._request_id, "no x-request-id"

text, usage, finish = "", None, None
for chunk in c.chat.completions.create(model=MODEL, messages=FRANCE, stream=True,
                                       stream_options={"include_usage": True}):
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    usage = chunk.usage or usage
assert text == answer, (text, answer)
assert finish == "stop"
assert usage.completion_tokens == whole.usage.completion_tokens

short = c.chat.completions.create(model=MODEL, messages=FRANCE, max_completion_tokens=2)
assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 2)
stopped = c.chat.completions.create(model=MODEL, messages=FRANCE, stop=["Paris"])
assert "Paris" not in stopped.choices[0].message.content
drawn = [c.chat.completions.create(model=MODEL, messages=FRANCE, temperature=1, seed=7,
                                   max_tokens=12).choices[0].message.content for _ in range(2)]
assert drawn[0] == drawn[1], drawn

assert c.completions.create(model=MODEL, prompt="The capital of France is",
                            max_tokens=8).choices[0].text
assert MODEL in [m.id for m in c.models.list()]
assert c.models.retrieve(MODEL).id == MODEL

refused(openai.NotFoundError, "model", model="no-such-model")
e = refused(openai.BadRequestError, "context",
            messages=[{"role": "user", "content": "word " * 9000}])
assert e.code == "context_length_exceeded" and e.body["n_ctx"] == 8192, e.body
assert refused(openai.BadRequestError, "0 to 2", temperature=9).param == "temperature"
assert refused(openai.BadRequestError, "", n=2).param == "n"

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"], "additionalProperties": False}}}
ROME = [{"role": "user", "content": "What is the weather in Rome?"}]
called = c.chat.completions.create(model=MODEL, messages=ROME, tools=[WEATHER],
                                   tool_choice="required").choices[0]
assert called.finish_reason == "tool_calls", called
call, = called.message.tool_calls
assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
pieces = ""
for chunk in c.chat.completions.create(model=MODEL, messages=ROME, tools=[WEATHER], stream=True,
                                       tool_choice="required"):
    for piece in chunk.choices[0].delta.tool_calls or []:
        pieces += piece.function.arguments or ""
assert pieces == call.function.arguments, pieces
assert "18" in c.chat.completions.create(model=MODEL, tools=[WEATHER], tool_choice="none", messages=[
    *ROME, called.message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"},
]).choices[0].message.content
schema = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"],
          "additionalProperties": False}
bound = c.chat.completions.create(model=MODEL, messages=FRANCE, response_format={
    "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}})
assert list(json.loads(bound.choices[0].message.content)) == ["capital"], bound

odds = c.chat.completions.create(model=MODEL, messages=FRANCE, logprobs=True, top_logprobs=2)
told = odds.choices[0].logprobs.content
assert "".join(t.token for t in told) == answer, told
assert all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in told)
told = c.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=3,
                            logprobs=2).choices[0].logprobs
assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == 3, told

# A stream that is left ends its job: the next request is served at once.
stream = client().chat.completions.create(
    model=MODEL, stream=True, max_tokens=4000, temperature=1, seed=1,
    messages=[{"role": "user", "content": "Write a long story."}])
next(iter(stream))
stream.close()
assert "Paris" in c.chat.completions.create(model=MODEL, messages=FRANCE,
                                            timeout=20).choices[0].message.content
print("ok")
