"""The same request gives the same bytes: alone or among seven others, with one thread or two, on
every instruction set this machine has."""

import concurrent.futures
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
    config = "[Limits]\nMaxConcurrentJobs=8\n"
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
