"""Fifty questions of general knowledge: the daemon's default answers must be right at least as often
as the same weights in float32 (tests/eval/float32.py made float32-answers.jsonl)."""

import json
import os
import re
import unittest

from harness import SOURCE, running

EVAL = os.path.join(SOURCE, "tests/eval")


def is_right(answer, keywords):
    return any(re.search(rf"(?<![\w.]){re.escape(k)}(?![\w.]*\d)", answer) for k in keywords)


class Knowledge(unittest.TestCase):
    def test_no_worse_than_float32(self):
        with open(os.path.join(EVAL, "questions.json"), encoding="utf-8") as f:
            questions = json.load(f)
        with open(os.path.join(EVAL, "float32-answers.jsonl"), encoding="utf-8") as f:
            float32 = {a["question"]: a["answer"] for a in map(json.loads, f)}
        reference = sum(is_right(float32[q], keys) for q, keys in questions)
        self.assertGreater(reference, 25)
        wrong = []
        with running() as d:
            for question, keys in questions:
                _, reply = d.chat(question, max_tokens=32)
                answer = reply["choices"][0]["message"]["content"]
                if not is_right(answer, keys):
                    wrong.append((question, answer))
        right = len(questions) - len(wrong)
        print(f"right: {right} of {len(questions)}; the same weights in float32: {reference}")
        self.assertGreaterEqual(right, reference, wrong)


if __name__ == "__main__":
    unittest.main(verbosity=2)
