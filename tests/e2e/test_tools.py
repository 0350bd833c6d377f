"""Functions that a request offers: called when they must be, never malformed, in every shape."""

import json
import unittest

from harness import SMOL, TINY, DaemonCase, events

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Get the weather of a city",
    "parameters": {"type": "object", "required": ["city"],
                   "properties": {"city": {"type": "string"},
                                  "unit": {"enum": ["celsius", "fahrenheit"]}}}}}
CLOCK = {"type": "function", "function": {"name": "get_time", "description": "What time it is"}}
ROME = "What is the weather in Rome?"


class Tools(DaemonCase):
    def choice(self, text, **fields):
        status, r = self.d.chat(text, **fields)
        self.assertEqual(status, 200, r)
        return r["choices"][0]

    def call(self, choice):
        self.assertEqual(choice["finish_reason"], "tool_calls")
        self.assertIsNone(choice["message"]["content"])
        one, = choice["message"]["tool_calls"]
        self.assertEqual(one["type"], "function")
        self.assertTrue(one["id"].startswith("call_"))
        return one["function"]["name"], json.loads(one["function"]["arguments"])

    def test_required(self):
        name, arguments = self.call(self.choice(ROME, tools=[WEATHER, CLOCK],
                                                tool_choice="required"))
        self.assertEqual(name, "get_weather")
        self.assertEqual(arguments["city"], "Rome")

    def test_named(self):
        named = {"type": "function", "function": {"name": "get_time"}}
        self.assertEqual(self.call(self.choice(ROME, tools=[WEATHER, CLOCK], tool_choice=named)),
                         ("get_time", {}))

    def test_heat_does_not_matter(self):
        weather = json.loads(json.dumps(WEATHER))
        weather["function"]["parameters"]["properties"]["city"]["maxLength"] = 12
        for seed in range(5):
            name, arguments = self.call(self.choice(
                "Go on.", tools=[weather, CLOCK], tool_choice="required", temperature=2, seed=seed))
            if name == "get_time":
                self.assertEqual(arguments, {})
            else:
                self.assertLessEqual(set(arguments), {"city", "unit"})
                self.assertLessEqual(len(arguments["city"]), 12)
                self.assertIn(arguments.get("unit", "celsius"), ("celsius", "fahrenheit"))

    def test_auto_is_text_or_a_whole_call(self):
        for seed in range(5):
            choice = self.choice(ROME, tools=[WEATHER], temperature=1, seed=seed, max_tokens=400)
            if choice["finish_reason"] == "tool_calls":
                self.call(choice)
            else:
                self.assertFalse(choice["message"]["content"].lstrip().startswith("{"))
        self.assertIn("Paris", self.choice("What is the capital of France?", tools=[WEATHER])[
            "message"]["content"])

    def test_none(self):
        plain = self.choice(ROME)
        self.assertEqual(self.choice(ROME, tools=[WEATHER], tool_choice="none"), plain)

    def test_stream(self):
        body = {"model": SMOL, "stream": True, "tools": [WEATHER], "tool_choice": "required",
                "messages": [{"role": "user", "content": ROME}]}
        _, _, data = self.d.request("POST", "/v1/chat/completions", body)
        chunks = [json.loads(p)["choices"][0] for p in events(data)[:-1]]
        self.assertEqual(chunks[-1]["finish_reason"], "tool_calls")
        calls = [c["delta"]["tool_calls"][0] for c in chunks if "tool_calls" in c["delta"]]
        self.assertEqual(calls[0]["function"], {"name": "get_weather", "arguments": ""})
        self.assertEqual((calls[0]["index"], calls[0]["type"]), (0, "function"))
        self.assertTrue(all(set(c) == {"index", "function"} for c in calls[1:]))
        whole = self.call(self.choice(ROME, tools=[WEATHER], tool_choice="required"))[1]
        self.assertEqual(json.loads("".join(c["function"]["arguments"] for c in calls)), whole)

    def test_cut(self):
        choice = self.choice(ROME, tools=[WEATHER], tool_choice="required", max_tokens=3)
        self.assertEqual(choice["finish_reason"], "length")

    def test_conversation(self):
        messages = [{"role": "user", "content": ROME},
                    {"role": "assistant", "content": None, "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {
                            "name": "get_weather", "arguments": '{"city": "Rome"}'}}]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "It is 18 degrees."}]
        # Left to itself the model repeats the call that it sees: none must forbid it.
        for fields in ({"tools": [WEATHER], "tool_choice": "none"}, {}):
            status, _, data = self.d.request("POST", "/v1/chat/completions", {
                "model": SMOL, "messages": messages, **fields})
            self.assertEqual(status, 200, data)
            self.assertIn("18", json.loads(data)["choices"][0]["message"]["content"])

    def test_another_vocabulary(self):
        choice = self.choice("Once upon a time", model=TINY, tools=[CLOCK], tool_choice="required")
        self.assertEqual(self.call(choice), ("get_time", {}))

    def test_ollama(self):
        for stream in (False, True):
            status, _, data = self.d.request("POST", "/api/chat", {
                "model": SMOL, "stream": stream, "tools": [WEATHER],
                "messages": [{"role": "user", "content": ROME}]})
            self.assertEqual(status, 200, data)
            first = json.loads(data.split(b"\n")[0])
            self.assertEqual(first["message"]["role"], "assistant")
        for model, expected in ((SMOL, ["completion", "tools"]), (TINY, ["completion"])):
            _, _, data = self.d.request("POST", "/api/show", {"model": model})
            self.assertEqual(json.loads(data)["capabilities"], expected)

    def test_refusals(self):
        bad = {"type": "function", "function": {"name": "f", "parameters": {"not": {"enum": []}}}}
        for fields, param in (({"tools": [bad]}, "tools[0].function.parameters/not"),
                              ({"tool_choice": "required"}, "tool_choice"),
                              ({"tools": [CLOCK], "tool_choice": {"type": "function", "function": {
                                  "name": "x"}}}, "tool_choice"),
                              ({"tools": [CLOCK], "response_format": {"type": "json_object"}},
                               "response_format")):
            status, r = self.d.chat("x", **fields)
            self.assertEqual((status, r["error"]["param"]), (400, param))
        status, _, data = self.d.request("POST", "/v1/completions", {
            "model": SMOL, "prompt": "x", "tools": [CLOCK]})
        self.assertEqual((status, json.loads(data)["error"]["param"]), (400, "tools"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
