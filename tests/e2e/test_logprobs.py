"""How likely tokens were: next to the text in every shape, the same by every way there."""

import json
import math
import unittest

from harness import SMOL, TINY, DaemonCase, events, running

FRANCE = "What is the capital of France?"


def text_of(content):
    return b"".join(bytes(t["bytes"]) for t in content).decode()


class Logprobs(DaemonCase):
    def post(self, path, **fields):
        status, _, data = self.d.request("POST", path, {"model": SMOL, **fields})
        self.assertEqual(status, 200, data)
        return data

    def chat(self, text=FRANCE, **fields):
        return self.post("/v1/chat/completions", logprobs=True, **fields,
                         messages=[{"role": "user", "content": text}])

    def complete(self, prompt, **fields):
        return json.loads(self.post("/v1/completions", prompt=prompt, **fields))["choices"][0]

    def test_chat(self):
        answer = json.loads(self.chat(top_logprobs=20, dry_multiplier=0))
        choice = answer["choices"][0]
        content = choice["logprobs"]["content"]
        self.assertEqual(text_of(content), choice["message"]["content"])
        self.assertEqual("".join(t["token"] for t in content), choice["message"]["content"])
        self.assertEqual(len(content), answer["usage"]["completion_tokens"])
        for t in content:
            top = t["top_logprobs"]
            self.assertEqual(len(top), 20)
            self.assertEqual(top[0], {k: t[k] for k in ("token", "logprob", "bytes")})
            odds = [o["logprob"] for o in top]
            self.assertEqual(odds, sorted(odds, reverse=True))
            self.assertLessEqual(sum(map(math.exp, odds)), 1.000001)
            self.assertGreater(sum(map(math.exp, odds)), 0.2)

    def test_not_asked_for(self):
        choice = self.d.chat(FRANCE)[1]["choices"][0]
        self.assertIsNone(choice["logprobs"])
        plain = json.loads(self.chat())["choices"][0]
        self.assertEqual(plain["message"], choice["message"])
        self.assertTrue(all(t["top_logprobs"] == [] for t in plain["logprobs"]["content"]))

    def test_stream(self):
        fields = {"top_logprobs": 2, "temperature": 1, "seed": 4, "max_tokens": 60,
                  "text": "Tell a story with words like café, naïve and 漢字."}
        whole = json.loads(self.chat(**fields))["choices"][0]
        content, text = [], ""
        for chunk in events(self.chat(stream=True, **fields))[:-1]:
            choice = json.loads(chunk)["choices"][0]
            text += choice["delta"].get("content", "")
            content += (choice["logprobs"] or {"content": []})["content"]
        self.assertEqual(content, whole["logprobs"]["content"])
        self.assertEqual(text, whole["message"]["content"])

    def test_stop_string(self):
        for stream in (False, True):
            data = self.chat(stop=["Paris"], stream=stream)
            choices = [json.loads(p)["choices"][0] for p in events(data)[:-1]] if stream else [
                json.loads(data)["choices"][0]]
            content = [t for c in choices for t in (c["logprobs"] or {"content": []})["content"]]
            text = "".join(c.get("message", c.get("delta")).get("content", "") for c in choices)
            self.assertIn("France", text)
            self.assertTrue(text_of(content).startswith(text), (content, text))
            self.assertLess(len(text_of(content[:-1])), len(text))

    def test_completion(self):
        choice = self.complete("Once upon a time", max_tokens=12, logprobs=3, dry_multiplier=0)
        odds = choice["logprobs"]
        self.assertEqual("".join(odds["tokens"]), choice["text"])
        at = 0
        for token, logprob, top, offset in zip(odds["tokens"], odds["token_logprobs"],
                                               odds["top_logprobs"], odds["text_offset"]):
            self.assertEqual(offset, at)
            self.assertEqual(len(top), 3)
            self.assertEqual(max(top.values()), logprob)
            self.assertEqual(top[token], logprob)
            at += len(token)
        # The numbers belong to their places: the prompt with the first token begins at the second.
        later = self.complete("Once upon a time" + odds["tokens"][0], max_tokens=1, logprobs=3)
        self.assertEqual(later["logprobs"]["top_logprobs"][0], odds["top_logprobs"][1])

    def test_before_penalties_and_masks(self):
        free = json.loads(self.chat(top_logprobs=1, max_tokens=1))["choices"][0]["logprobs"]
        bound = json.loads(self.chat(top_logprobs=1, max_tokens=1, response_format={
            "type": "json_object"}))["choices"][0]["logprobs"]
        self.assertEqual(bound["content"][0]["top_logprobs"], free["content"][0]["top_logprobs"])
        self.assertLess(bound["content"][0]["logprob"], free["content"][0]["logprob"])

    def test_ollama(self):
        fields = {"logprobs": True, "top_logprobs": 1, "messages": [
            {"role": "user", "content": FRANCE}]}
        whole = json.loads(self.post("/api/chat", stream=False, **fields))
        self.assertEqual(text_of(whole["logprobs"]), whole["message"]["content"])
        lines = [json.loads(p) for p in self.post("/api/chat", **fields).splitlines()]
        self.assertEqual([t for p in lines for t in p.get("logprobs", [])], whole["logprobs"])

    def test_calls_have_none(self):
        tool = {"type": "function", "function": {"name": "f"}}
        choice = json.loads(self.chat(tools=[tool], tool_choice="required"))["choices"][0]
        self.assertEqual(choice["finish_reason"], "tool_calls")
        self.assertIsNone(choice["logprobs"])


class Exact(unittest.TestCase):
    def test_threads_and_instruction_sets(self):
        seen = set()
        for options in (("--threads", "2"), ("--threads", "1", "--cpu", "avx2"),
                        ("--threads", "2", "--cpu", "c")):
            with running(*options) as d:
                status, answer = d.chat("Once upon a time", model=TINY, max_tokens=30,
                                        logprobs=True, top_logprobs=20)
            self.assertEqual(status, 200, answer)
            seen.add(json.dumps(answer["choices"]))
        self.assertEqual(len(seen), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
