"""What a person does first: ask, summarise, look around, with bnctl and with curl."""

import json
import subprocess
import unittest

from harness import SMOL, TINY, DaemonCase, events

DOCUMENT = "\n\n".join(
    f"Paragraph {i}. The committee met on day {i} and talked about the new harbour. The engineers "
    f"said that wall number {i} needs {i * 3 + 1} tons of concrete, and the mayor agreed to pay."
    for i in range(170))


class FirstUse(DaemonCase):
    def test_ask(self):
        r = self.d.bnctl("ask", "What is the capital of France?")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("Paris", r.stdout)
        self.assertTrue(r.stdout.endswith("\n"))

    def test_ask_about_material(self):
        r = self.d.bnctl("ask", "What color is the car in this text?",
                         stdin="The old house stands by the sea. In front of it is a red car.")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("red", r.stdout.lower())

    def test_ask_json(self):
        r = self.d.bnctl("ask", "-j", "What is the capital of Italy?")
        answer = json.loads(r.stdout)
        self.assertIn("Rome", answer["text"])
        self.assertEqual(answer["model"], SMOL)
        self.assertGreater(answer["usage"]["prompt_tokens"], 20)

    def test_usage_errors(self):
        self.assertEqual(self.d.bnctl("ask").returncode, 2)
        self.assertEqual(self.d.bnctl("ask", "--temperature=hot", "x").returncode, 2)
        self.assertEqual(self.d.bnctl("nonsense").returncode, 2)
        self.assertEqual(self.d.bnctl("summarize", "/no/such/file").returncode, 66)

    def test_models(self):
        r = self.d.bnctl("models")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertRegex(r.stdout, SMOL + r".*ready, default")
        self.assertIn(TINY, r.stdout)

    def test_second_model(self):
        r = self.d.bnctl("ask", "-m", TINY, "-n", "40", "Once upon a time")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertGreater(len(r.stdout), 40)

    def test_chat_keeps_the_conversation(self):
        r = self.d.bnctl("chat", stdin="My name is Anna.\nWhat is my name?\n")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("Anna", r.stdout)

    def test_summarize_long_text(self):
        r = self.d.bnctl("summarize", "--json", stdin=DOCUMENT, timeout=500)
        self.assertEqual(r.returncode, 0, r.stderr)
        answer = json.loads(r.stdout)
        c = answer["coverage"]
        self.assertEqual(c["bytes"], len(DOCUMENT.encode()))
        self.assertEqual(c["dropped"], 0)
        self.assertEqual(c["tokens"], c["tokens_used"])
        self.assertGreater(c["pieces"], 1)
        self.assertGreater(len(answer["summary"]), 20)

    def test_curl_streams(self):
        body = json.dumps({"model": "", "stream": True, "max_tokens": 24,
                           "stream_options": {"include_usage": True},
                           "messages": [{"role": "user", "content": "Count from one to five."}]})
        r = subprocess.run(["curl", "-sS", "-N", "-i", "--unix-socket", self.d.socket,
                            "http://localhost/v1/chat/completions", "-H",
                            "Content-Type: application/json", "-d", body],
                           capture_output=True, check=True, timeout=120)
        head, _, data = r.stdout.partition(b"\r\n\r\n")
        self.assertIn(b"text/event-stream", head)
        self.assertIn(b"x-request-id", head.lower())
        parts = events(data)
        self.assertEqual(parts[-1].strip(), "[DONE]")
        chunks = [json.loads(p) for p in parts[:-1]]
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertIsNone(chunks[0]["choices"][0]["finish_reason"])
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertGreater(chunks[-1]["usage"]["completion_tokens"], 2)
        self.assertIn(chunks[-2]["choices"][0]["finish_reason"], ("stop", "length"))
        self.assertEqual(len({c["id"] for c in chunks}), 1)

    def test_a_cut_summary_says_so(self):
        r = self.d.bnctl("summarize", "--type=teaser", "--length=long", "-n", "6",
                         stdin=DOCUMENT[:1500])
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("cut at its length limit", r.stderr)
        r = self.d.bnctl("summarize", "-n", "many", stdin=DOCUMENT[:1500])
        self.assertEqual(r.returncode, 65, r.stderr)
        self.assertIn("16777216", r.stderr)
        r = self.d.bnctl("summarize", "--length=short", stdin=DOCUMENT[:1500])
        self.assertNotIn("cut at its length limit", r.stderr)

    def test_summarize_with_curl(self):
        r = subprocess.run(["curl", "-sS", "--unix-socket", self.d.socket, "-H",
                            "Accept: text/plain", "--data-binary", DOCUMENT[:1500],
                            "http://localhost/v1/summarize?length=short"],
                           capture_output=True, check=True, timeout=120, text=True)
        self.assertGreater(len(r.stdout), 10)
        self.assertFalse(r.stdout.startswith("{"))

    def test_status_and_jobs(self):
        r = self.d.bnctl("status")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("0.1.0", r.stdout)
        r = self.d.bnctl("ps")
        self.assertEqual(r.returncode, 0, r.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
