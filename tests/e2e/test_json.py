"""Answers bound to a schema, over curl, HTTP, and the bus: they parse, they are what was asked for,
alone, streamed, in company, and cut."""

import json
import subprocess
import threading
import unittest

from harness import SMOL, TINY, DaemonCase, events

PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "city"],
          "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0},
                         "city": {"type": "string"}}}
ANNA = "Anna Smith is 30 years old and lives in Paris. Write down her name, age and city."


def bound(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True,
                                                   "schema": schema}}


class Json(DaemonCase):
    def ask(self, text, schema, **fields):
        status, r = self.d.chat(text, response_format=bound(schema), **fields)
        self.assertEqual(status, 200, r)
        return r["choices"][0]["message"]["content"], r["choices"][0]["finish_reason"]

    def test_extraction(self):
        text, finish = self.ask(ANNA, PERSON)
        self.assertEqual(finish, "stop")
        self.assertEqual(json.loads(text), {"name": "Anna Smith", "age": 30, "city": "Paris"})

    def test_choice(self):
        text, _ = self.ask("Is Paris the capital of France?", {"enum": ["yes", "no"]})
        self.assertEqual(text, '"yes"')

    def test_any_object(self):
        status, r = self.d.chat("Describe a cat in JSON.", max_tokens=300,
                                response_format={"type": "json_object"})
        self.assertEqual(status, 200, r)
        self.assertEqual(r["choices"][0]["finish_reason"], "stop")
        self.assertIsInstance(json.loads(r["choices"][0]["message"]["content"]), dict)

    def test_heat_does_not_matter(self):
        schema = {"type": "array", "minItems": 2, "maxItems": 3,
                  "items": {"type": "object", "required": ["kind", "weight"],
                            "additionalProperties": False,
                            "properties": {"kind": {"enum": ["a", "b"]},
                                           "weight": {"type": "number", "minimum": 0,
                                                      "maximum": 1}}}}
        for seed in range(6):
            text, finish = self.ask("Go on.", schema, temperature=2, seed=seed, top_p=0.99,
                                    presence_penalty=2, max_tokens=400)
            self.assertEqual(finish, "stop", text)
            v = json.loads(text)
            self.assertIn(len(v), (2, 3))
            for one in v:
                self.assertEqual(list(one), ["kind", "weight"])
                self.assertTrue(one["kind"] in "ab" and 0 <= one["weight"] <= 1, one)

    def test_cut(self):
        text, finish = self.ask(ANNA, PERSON, max_tokens=5)
        self.assertEqual(finish, "length")
        self.assertTrue(text.startswith("{"))
        with self.assertRaises(ValueError):
            json.loads(text)

    def test_stop_string(self):
        text, finish = self.ask(ANNA, PERSON, stop=["Smith"])
        self.assertEqual(finish, "stop")
        self.assertTrue(text.endswith("Anna "), text)

    def test_curl_streams(self):
        body = {"model": SMOL, "stream": True, "response_format": bound(PERSON),
                "messages": [{"role": "user", "content": ANNA}]}
        r = subprocess.run(["curl", "-sS", "-N", "--unix-socket", self.d.socket,
                            "http://localhost/v1/chat/completions", "-d", json.dumps(body)],
                           capture_output=True, check=True, timeout=120)
        chunks = [json.loads(p) for p in events(r.stdout) if not p.startswith("[DONE]")]
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        self.assertEqual(text, self.ask(ANNA, PERSON)[0])
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "stop")
        self.assertGreater(len(chunks), 4)

    def test_company(self):
        alone = {n: self.ask(f"Tell me about number {n}.", PERSON)[0] for n in range(4)}
        free = self.d.chat("What is the capital of France?")[1]["choices"][0]["message"]["content"]
        got = {}

        def one(n):
            got[n] = self.ask(f"Tell me about number {n}.", PERSON)[0]

        def other():
            got["free"] = self.d.chat("What is the capital of France?")[1]["choices"][0]["message"][
                "content"]

        threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
        threads.append(threading.Thread(target=other))
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(got, {**alone, "free": free})

    def test_completion_and_another_vocabulary(self):
        body = {"model": TINY, "prompt": "Once upon a time", "max_tokens": 200,
                "json_schema": {"type": "array", "items": {"type": "string", "maxLength": 20},
                                "minItems": 2, "maxItems": 2}}
        status, _, data = self.d.request("POST", "/v1/completions", body)
        self.assertEqual(status, 200, data)
        choice = json.loads(data)["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop")
        self.assertEqual(len(json.loads(choice["text"])), 2)

    def test_ollama(self):
        body = {"model": SMOL, "messages": [{"role": "user", "content": ANNA}], "stream": False,
                "format": PERSON}
        status, _, data = self.d.request("POST", "/api/chat", body)
        self.assertEqual(status, 200, data)
        self.assertEqual(json.loads(json.loads(data)["message"]["content"])["age"], 30)
        status, _, data = self.d.request("POST", "/api/generate", {
            "model": SMOL, "prompt": "Describe a cat in JSON.", "stream": False, "format": "json",
            "options": {"num_predict": 300}})
        self.assertIsInstance(json.loads(json.loads(data)["response"]), dict)

    def test_refusals(self):
        for schema, param in (({"items": {"uniqueItems": True}}, "/items/uniqueItems"),
                              ({"properties": {"a": {}, "b": {"if": {}, "then": {}}}},
                               "/properties/#1/if"),
                              ({"type": "string", "pattern": "(?=a)"}, "/pattern")):
            status, r = self.d.chat("x", response_format=bound(schema))
            self.assertEqual(status, 400)
            self.assertEqual(r["error"]["param"], "response_format.json_schema.schema" + param)
            self.assertEqual(r["error"]["code"], "unsupported")
        status, r = self.d.chat("x", response_format=bound({"type": "string", "minLength": 2,
                                                            "maxLength": 1}))
        self.assertEqual((status, r["error"]["code"]), (400, "invalid_input"))

    def test_schemas_that_explode_cost_little(self):
        wide = {"allOf": [{"anyOf": [{"minLength": i}, {"maximum": i}]} for i in range(30)]}
        for schema in (wide, {"pattern": "^(a|b)*a(a|b){18}$"}):
            status, r = self.d.chat("x", response_format=bound(schema))
            self.assertEqual(status, 400)
            self.assertGreater(r["error"]["value"], r["error"]["limit"])
        self.assertEqual(self.ask("Is Paris the capital of France?", {"const": "yes"})[0], '"yes"')


if __name__ == "__main__":
    unittest.main(verbosity=2)
