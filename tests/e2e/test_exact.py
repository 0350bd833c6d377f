"""The same request gives the same bytes: alone or among seven others, with one thread or two, on
every instruction set this machine has."""

import concurrent.futures
import json
import unittest

from harness import SMOL, TINY, running

PROMPTS = ["Tell me a story about a dog.", "What is a river?", "Name three colors.",
           "Why is the sky blue?", "Write a short poem.", "What do bees make?",
           "How do I boil an egg?", "Say hello."]


def ask(d, i, model, n):
    fields = {"model": model, "max_tokens": n, "temperature": 0.8, "seed": 11 + i, "top_p": 0.95}
    status, answer = d.chat(PROMPTS[i], **fields)
    if status != 200:
        raise AssertionError(answer)
    return answer["choices"][0]["message"]["content"]


def alone_and_together(options, model, n):
    config = "[Default]\nMaxConcurrentJobs=8\n"
    with running(*options, config=config) as d:
        alone = [ask(d, i, model, n) for i in range(2)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda i: ask(d, i, model, n), range(8)))
    return alone, together


class Exact(unittest.TestCase):
    def check(self, settings, model, n):
        answers = [alone_and_together(options, model, n) for options in settings]
        reference = answers[0][1]
        self.assertGreater(len("".join(reference)), 100)
        for options, (alone, together) in zip(settings, answers):
            self.assertEqual(together, reference, options)
            self.assertEqual(alone, reference[:2], options)

    def test_embedded_model(self):
        self.check([("--threads", "2"), ("--threads", "1"), ("--threads", "2", "--cpu", "avx2")],
                   SMOL, 32)

    def test_small_model_down_to_plain_c(self):
        self.check([("--threads", "2"), ("--threads", "1", "--cpu", "avx512vl"),
                    ("--threads", "2", "--cpu", "avx2"), ("--threads", "2", "--cpu", "c")],
                   TINY, 48)


def answer(d, messages, **fields):
    """(text, prompt tokens, of them not computed again)"""
    body = {"model": SMOL, "max_tokens": 40, "messages": messages, **fields}
    status, _, data = d.request("POST", "/v1/chat/completions", body)
    if status != 200:
        raise AssertionError(data)
    v = json.loads(data)
    return (v["choices"][0]["message"]["content"], v["usage"]["prompt_tokens"],
            v["usage"]["prompt_tokens_details"]["cached_tokens"])


class Reuse(unittest.TestCase):
    """What is kept of earlier requests of a user makes answers quicker, never different."""

    def test_chat_that_is_sent_again_with_every_turn(self):
        fields = {"temperature": 0.8, "seed": 5}
        messages = [{"role": "user", "content": "Tell me about the sea. " * 12}]
        with running() as d:
            first, prompt, cached = answer(d, messages, **fields)
            self.assertEqual(cached, 0)
            again, prompt, cached = answer(d, messages, **fields)
            self.assertEqual(again, first)
            self.assertEqual(cached, (prompt - 1) // 32 * 32)
            messages += [{"role": "assistant", "content": first},
                         {"role": "user", "content": "And about rivers?"}]
            second, _, cached = answer(d, messages, **fields)
            self.assertGreaterEqual(cached, prompt // 32 * 32)
            greedy = answer(d, messages)[0]
        with running() as d:
            self.assertEqual(answer(d, messages, **fields)[::2], (second, 0))
        with running() as d:
            self.assertEqual(answer(d, messages)[::2], (greedy, 0))

    def test_summary_of_a_document_read_before(self):
        text = "\n\n".join("The harbour of town %d has %d boats and a lighthouse." % (i, 3 * i)
                           for i in range(200))
        with running() as d:
            answers = [json.loads(d.request("POST", f"/v1/summarize?model={SMOL}&length=short", text,
                                            {"Content-Type": "text/plain"})[2]) for _ in "12"]
        self.assertGreater(answers[0]["coverage"]["pieces"], 1)
        self.assertEqual(answers[0]["summary"], answers[1]["summary"])
        cached = [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers]
        self.assertGreater(cached[0], 0, "the head that all pieces share")
        self.assertGreater(cached[1], 0.9 * answers[1]["usage"]["prompt_tokens"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
