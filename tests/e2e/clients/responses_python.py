"""The Responses interface through the openai package and LangChain, unmodified, over the socket
argv[1], with model argv[2]."""

import importlib.util
import json
import sys

import httpx
import openai
from pydantic import BaseModel

SOCKET, MODEL = sys.argv[1:3]
FRANCE = "What is the capital of France?"
ROME = "What is the weather in Rome?"
WEATHER = {"type": "function", "name": "get_weather", "description": "The weather of a city",
           "strict": True,
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                          "required": ["city"], "additionalProperties": False}}


class Capital(BaseModel):
    capital: str


def http():
    return httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET))


def refused(kind, param, **fields):
    try:
        openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http(),
                      max_retries=0).responses.create(**{"model": MODEL, "input": FRANCE, **fields})
    except kind as e:
        assert e.param == param, (e.param, e)
        return e
    raise AssertionError(f"no {kind.__name__} about {param}")


c = openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http())
whole = c.responses.create(model=MODEL, input=FRANCE, metadata={"a": "b"}, store=True, user="me")
assert "Paris" in whole.output_text, whole
chat = c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": FRANCE}])
assert whole.output_text == chat.choices[0].message.content
assert (whole.object, whole.status, whole.error) == ("response", "completed", None), whole
assert whole.id.startswith("resp_") and whole._request_id and whole.model == MODEL
assert (whole.metadata, whole.store, whole.tools) == ({"a": "b"}, False, []), whole
assert (whole.tool_choice, whole.truncation) == ("auto", "disabled")
assert whole.usage.input_tokens == chat.usage.prompt_tokens
assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
assert whole.usage.input_tokens_details.cached_tokens >= 0
assert whole.usage.output_tokens_details.reasoning_tokens == 0
message, = whole.output
assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
assert message.content[0].annotations == []
type(whole).model_validate(whole.model_dump(mode="json"))

assert c.responses.input_tokens.count(
    model=MODEL, input=FRANCE).input_tokens == whole.usage.input_tokens

# The same as parts, as a conversation, and with what the last answer was.
parts = [{"role": "user", "content": [{"type": "input_text", "text": FRANCE}]}]
assert c.responses.create(model=MODEL, input=parts).output_text == whole.output_text
again = c.responses.create(model=MODEL, input=[*parts, *whole.output, {
    "type": "message", "role": "user", "content": "And of Italy?"}])
assert "Rome" in again.output_text, again.output_text
said = c.responses.create(model=MODEL, input=FRANCE, instructions="You are a pirate.")
as_chat = c.chat.completions.create(model=MODEL, messages=[
    {"role": "system", "content": "You are a pirate."}, {"role": "user", "content": FRANCE}])
assert said.output_text == as_chat.choices[0].message.content
assert said.instructions == "You are a pirate."

short = c.responses.create(model=MODEL, input=FRANCE, max_output_tokens=2)
assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
assert short.usage.output_tokens == 2 and short.output[0].status == "incomplete"
drawn = [c.responses.create(model=MODEL, input=FRANCE, temperature=1, top_p=0.9,
                            max_output_tokens=12, extra_body={"seed": 7}) for _ in range(2)]
assert drawn[0].output_text == drawn[1].output_text and drawn[0].temperature == 1

# The events of a stream, in order, numbered, and with the same text.
events = list(c.responses.create(model=MODEL, input=FRANCE, stream=True))
assert [e.sequence_number for e in events] == list(range(len(events)))
kinds = [e.type for e in events if e.type != "response.output_text.delta"]
assert kinds == ["response.created", "response.in_progress", "response.output_item.added",
                 "response.content_part.added", "response.output_text.done",
                 "response.content_part.done", "response.output_item.done",
                 "response.completed"], kinds
assert "".join(e.delta for e in events
               if e.type == "response.output_text.delta") == whole.output_text
assert events[-1].response.output_text == whole.output_text
assert events[-1].response.usage.output_tokens == whole.usage.output_tokens
assert len({e.response.id for e in events if hasattr(e, "response")}) == 1
cut = list(c.responses.create(model=MODEL, input=FRANCE, stream=True, max_output_tokens=2))
assert cut[-1].type == "response.incomplete" and cut[-1].response.status == "incomplete"
with c.responses.stream(model=MODEL, input=FRANCE) as stream:
    for event in stream:
        pass
    assert stream.get_final_response().output_text == whole.output_text

# A schema, by hand, by the SDK, and as a stream.
parsed = c.responses.parse(model=MODEL, input=FRANCE, text_format=Capital)
assert isinstance(parsed.output_parsed, Capital), parsed
assert parsed.text.format.type == "json_schema"
with c.responses.stream(model=MODEL, input=FRANCE, text_format=Capital) as stream:
    assert stream.get_final_response().output_parsed == parsed.output_parsed
anything = c.responses.create(model=MODEL, input=FRANCE, max_output_tokens=300,
                              text={"format": {"type": "json_object"}})
assert anything.status == "incomplete" or json.loads(anything.output_text) is not None

# Tools: a call, the same as a stream, and its answer.
called = c.responses.create(model=MODEL, input=ROME, tools=[WEATHER], tool_choice="required")
call, = called.output
assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed"), call
assert "city" in json.loads(call.arguments) and called.tools[0].name == "get_weather"
named = c.responses.create(model=MODEL, input=ROME, tools=[WEATHER],
                           tool_choice={"type": "function", "name": "get_weather"})
assert named.output[0].arguments == call.arguments
with c.responses.stream(model=MODEL, input=ROME, tools=[WEATHER],
                        tool_choice="required") as stream:
    events = list(stream)
    assert stream.get_final_response().output[0].arguments == call.arguments
assert [e.type for e in events if not e.type.endswith(".delta")] == [
    "response.created", "response.in_progress", "response.output_item.added",
    "response.function_call_arguments.done", "response.output_item.done", "response.completed"]
assert "".join(e.delta for e in events if e.type.endswith(".delta")) == call.arguments
told = c.responses.create(model=MODEL, tools=[WEATHER], tool_choice="none", input=[
    {"role": "user", "content": ROME}, *called.output,
    {"type": "function_call_output", "call_id": call.call_id, "output": "It is 18 degrees."}])
assert "18" in told.output_text, told.output_text

# How likely its tokens were.
odds = c.responses.create(model=MODEL, input=FRANCE, top_logprobs=2,
                          include=["message.output_text.logprobs"])
tokens = odds.output[0].content[0].logprobs
assert "".join(t.token for t in tokens) == whole.output_text
assert all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in tokens)
events = list(c.responses.create(model=MODEL, input=FRANCE, stream=True,
                                 include=["message.output_text.logprobs"]))
assert "".join(t.token for e in events if e.type == "response.output_text.delta"
               for t in e.logprobs) == whole.output_text
assert [t.token for t in events[-1].response.output[0].content[0].logprobs] == [
    t.token for t in tokens]

# What cannot be done is said, by the name of the field.
image = {"type": "input_image", "image_url": "data:image/png;base64,"}
for field, value, param in (
        ("previous_response_id", "resp_1", None), ("conversation", "conv_1", None),
        ("background", True, None), ("truncation", "auto", None), ("prompt", {"id": "p"}, None),
        ("temperature", 9, None), ("max_output_tokens", 0, None), ("metadata", {"a": "b" * 513}, None),
        ("input", [], None), ("input", 7, None), ("instructions", [{"role": "user"}], None),
        ("input", [{"role": "user", "content": [image]}], "input[0].content[0]"),
        ("input", [{"role": "user", "content": "a"}, {"role": "tool", "content": "a"}],
         "input[1].role"),
        ("input", [{"type": "item_reference", "id": "msg_1"}], "input[0].type"),
        ("input", [{"type": "function_call", "name": "f"}], "input[0]"),
        ("tools", [{"type": "web_search"}], "tools[0].type"),
        ("tools", [{"type": "function", "name": "a b"}], "tools[0].name"),
        ("tools", [{**WEATHER, "parameters": {"not": {"enum": []}}}], "tools[0].parameters/not"),
        ("tool_choice", "required", None), ("tool_choice", {"type": "file_search"}, None),
        ("text", {"format": {"type": "grammar"}}, "text.format.type"),
        ("text", {"format": {"type": "json_schema", "name": "a", "schema": {"type": "x"}}},
         "text.format.schema/type")):
    refused(openai.BadRequestError, param or field, **{field: value})
refused(openai.NotFoundError, "model", model="no-such-model")
assert refused(openai.BadRequestError, "input",
               input="word " * 9000).code == "context_length_exceeded"

# A stream that is left ends its job: the next request is served at once.
stream = c.responses.create(model=MODEL, stream=True, max_output_tokens=4000, temperature=1,
                            input="Write a long story.", extra_body={"seed": 1})
next(iter(stream))
stream.close()
assert "Paris" in c.responses.create(model=MODEL, input=FRANCE, timeout=20).output_text

# One that fails says so in the words of the interface.
events = list(c.responses.create(model=MODEL, stream=True, max_output_tokens=4000, temperature=1,
                                 input="Write a very long story.",
                                 extra_body={"seed": 1, "bn": {"deadline_ms": 400}}))
assert events[-1].type == "response.failed", events[-1]
assert events[-1].response.error.code and events[-1].response.status == "failed"

if importlib.util.find_spec("langchain_openai"):
    from langchain_openai import ChatOpenAI

    m = ChatOpenAI(model=MODEL, base_url="http://localhost/v1", api_key="none", temperature=0,
                   use_responses_api=True, http_client=http())
    answer = m.invoke(FRANCE)
    assert answer.text == whole.output_text, answer
    assert answer.usage_metadata["output_tokens"] == whole.usage.output_tokens
    assert "".join(str(part.text) for part in m.stream(FRANCE)) == whole.output_text
    assert m.bind_tools([WEATHER], tool_choice="required").invoke(ROME).tool_calls[0][
        "name"] == "get_weather"
    assert m.with_structured_output(Capital, method="json_schema").invoke(
        FRANCE) == parsed.output_parsed
print("ok")
