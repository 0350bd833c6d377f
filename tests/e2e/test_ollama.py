"""Ollama's interface over the socket: shapes that its clients read, and its errors."""

import json
import unittest

from harness import SMOL, DaemonCase

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


class Ollama(DaemonCase):
    def post(self, path, body):
        status, headers, data = self.d.request("POST", path, body)
        return status, headers, [json.loads(line) for line in data.splitlines()]

    def one(self, path, body):
        status, _, lines = self.post(path, body)
        self.assertEqual(len(lines), 1)
        return status, lines[0]

    def test_chat_streams_lines_by_default(self):
        status, headers, lines = self.post("/api/chat", {"model": SMOL, "messages": FRANCE})
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "application/x-ndjson")
        text = "".join(line["message"]["content"] for line in lines)
        self.assertIn("Paris", text)
        self.assertGreater(len(lines), 3)
        self.assertTrue(all(not line["done"] for line in lines[:-1]))
        last = lines[-1]
        self.assertTrue(last["done"])
        self.assertEqual(last["done_reason"], "stop")
        for name in DURATIONS:
            self.assertIsInstance(last[name], int)
        self.assertGreaterEqual(last["total_duration"],
                                last["prompt_eval_duration"] + last["eval_duration"])
        # the same answer as OpenAI's route gives, with the same counts
        _, openai = self.d.chat(FRANCE[0]["content"])
        self.assertEqual(text, openai["choices"][0]["message"]["content"])
        self.assertEqual(last["prompt_eval_count"], openai["usage"]["prompt_tokens"])
        self.assertEqual(last["eval_count"], openai["usage"]["completion_tokens"])

    def test_options(self):
        status, v = self.one("/api/chat", {"model": SMOL + ":latest", "messages": FRANCE,
                                           "stream": False, "options": {"num_predict": 2,
                                                                        "num_ctx": 4096}})
        self.assertEqual(status, 200)
        self.assertEqual((v["done_reason"], v["eval_count"]), ("length", 2))
        status, v = self.one("/api/chat", {"model": SMOL, "messages": FRANCE, "stream": False,
                                           "options": {"temperature": 9}})
        self.assertEqual(status, 400)
        self.assertIn("0 to 2", v["error"])

    def test_generate(self):
        status, v = self.one("/api/generate", {"model": SMOL, "stream": False,
                                               "system": "Answer in one word.",
                                               "prompt": "What is the capital of France?"})
        self.assertEqual(status, 200)
        self.assertIn("Paris", v["response"])
        status, raw = self.one("/api/generate", {"model": SMOL, "prompt": "The capital of France is",
                                                 "raw": True, "stream": False,
                                                 "options": {"num_predict": 4}})
        self.assertEqual(status, 200)
        self.assertEqual(raw["prompt_eval_count"], 5)
        status, v = self.one("/api/generate", {"model": SMOL, "prompt": "", "keep_alive": 0})
        self.assertEqual((status, v["done"], v["done_reason"]), (200, True, "unload"))

    def test_listing(self):
        _, _, data = self.d.request("GET", "/api/tags")
        names = [m["name"] for m in json.loads(data)["models"]]
        self.assertIn(SMOL, names)
        status, v = self.one("/api/show", {"model": SMOL})
        self.assertEqual(status, 200)
        self.assertIn("completion", v["capabilities"])
        arch = v["model_info"]["general.architecture"]
        self.assertEqual(v["model_info"][arch + ".context_length"], 8192)
        self.assertEqual(v["details"]["parameter_size"], "134.5M")
        _, _, data = self.d.request("GET", "/api/ps")
        self.assertEqual([m["name"] for m in json.loads(data)["models"]], [SMOL])
        for method in ("GET", "HEAD"):
            self.assertEqual(self.d.request(method, "/api/version")[0], 200)
            self.assertEqual(self.d.request(method, "/")[0], 200)

    def test_errors_are_one_string(self):
        long = [{"role": "user", "content": "word " * 9000}]
        cases = [
            ("POST", "/api/chat", {"model": "nope", "messages": FRANCE}, 404, "model"),
            ("POST", "/api/show", {"model": "nope"}, 404, "model"),
            ("POST", "/api/chat", {"model": SMOL, "messages": long}, 400, "8192"),
            ("POST", "/api/chat", {"model": SMOL, "messages": FRANCE, "think": True}, 400,
             "thinking"),
            ("POST", "/api/chat", {"model": SMOL, "messages": [dict(FRANCE[0], images=["aGk="])]},
             400, "images"),
            ("POST", "/api/chat", {"model": SMOL, "messages": FRANCE, "format": "xml"}, 400,
             "schema"),
            ("POST", "/api/embed", {"model": SMOL, "input": "x"}, 400, "embeddings"),
            ("POST", "/api/pull", {"model": "x"}, 403, "bnctl"),
            ("DELETE", "/api/delete", {"model": "x"}, 403, "bnctl"),
            ("GET", "/api/chat", None, 405, ""),
            ("GET", "/api/nothing", None, 404, "path"),
        ]
        ids = set()
        for method, path, body, wanted, word in cases:
            with self.subTest(path=path, wanted=wanted):
                status, headers, data = self.d.request(method, path, body)
                ids.add(headers["x-request-id"])
                v = json.loads(data)
                self.assertEqual(status, wanted)
                self.assertEqual(list(v), ["error"])
                self.assertIn(word, v["error"])
        self.assertEqual(len(ids), len(cases))


if __name__ == "__main__":
    unittest.main()
