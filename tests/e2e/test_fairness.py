"""Shares of the CPU, as the kernel counts them: a flood against single questions, background
against interactive. Shares, not speeds: nothing here depends on how fast the machine is. Needs
root, to be several users. `test_fairness.py --seconds 60` measures for longer."""

import json
import multiprocessing
import os
import sys
import time
import unittest

from harness import SMOL, UnixConnection, running
from load import User, at_once, cpu_seconds, exchange, wait_until

ALICE, BOB = 40001, 40002
FLOOD = 50
SECONDS = 15
CONFIG = """[Default]
MaxConnections = 64
MaxQueuedJobs = 64
RequestsPerMinute = infinity
"""


def chat(text, tokens, **fields):
    return {"model": SMOL, "max_tokens": tokens, "temperature": 0, **fields,
            "messages": [{"role": "user", "content": text}]}


def ask_until(path, over, body, at_a_time):
    """Ask again and again, so many at a time, until it is over; how many answers there were."""
    def ask(i):
        n = 0
        while not over.is_set():
            status, _, _ = exchange(path, "/v1/chat/completions", body)
            if status != 200:
                raise ValueError(status)
            n += 1
        return n
    return sum(at_once(at_a_time, ask))


class Stream:
    """A streamed answer, read as it comes."""

    def __init__(self, path, body):
        self.c = UnixConnection(path)
        self.c.request("POST", "/v1/chat/completions", body=json.dumps(dict(body, stream=True)),
                       headers={"Content-Type": "application/json"})
        self.r = self.c.getresponse()
        self.text = ""

    def read(self):
        """One more piece of text; False at the end."""
        while line := self.r.readline():
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"].get("content")
                if delta:
                    self.text += delta
                    return True
        return False

    def close(self):
        self.r.close()
        self.c.close()


class Fairness(unittest.TestCase):
    def worker_of(self, d, known):
        """The worker process that is new."""
        wait_until(lambda: len(d.workers()) > len(known))
        return next(pid for pid in d.workers() if pid not in known)

    def share(self, first, second):
        """Of the CPU time that two workers take from now on, the part of the second."""
        before = [cpu_seconds(pid) for pid in (first, second)]
        time.sleep(SECONDS)
        used = [cpu_seconds(pid) - b for pid, b in zip((first, second), before)]
        print(f"CPU seconds {used[0]:.2f} and {used[1]:.2f}: {used[1] / sum(used):.1%}")
        self.assertGreater(sum(used), 0.1 * SECONDS, "hardly anything was computed")
        return used[1] / sum(used)

    def test_a_flood_takes_half(self):
        over = multiprocessing.Event()
        flood, question = chat("Write a long story.", 60), chat("What is the capital of Peru?", 60)
        with running("--socket-mode", "0666", config=CONFIG) as d:
            alice = User(ALICE, ask_until, d.socket, over, flood, FLOOD)
            try:
                first = self.worker_of(d, [])
                wait_until(lambda: cpu_seconds(first) > 1)
                bob = User(BOB, ask_until, d.socket, over, question, 1)
                try:
                    second = self.worker_of(d, [first])
                    wait_until(lambda: cpu_seconds(second) > 0.5)
                    share = self.share(first, second)
                    over.set()
                    self.assertGreater(bob.report(), 1)
                finally:
                    bob.kill()
                self.assertGreaterEqual(share, 0.45)
                alice.report()
            finally:
                alice.kill()

    def test_background_of_one_user_against_another(self):
        over = multiprocessing.Event()
        slow = chat("Write a long story.", 60, bn={"priority": "background"})
        with running("--socket-mode", "0666", config=CONFIG) as d:
            alice = User(ALICE, ask_until, d.socket, over, slow, 4)
            try:
                first = self.worker_of(d, [])
                bob = User(BOB, ask_until, d.socket, over, chat("Tell me about Peru.", 60), 2)
                try:
                    second = self.worker_of(d, [first])
                    wait_until(lambda: cpu_seconds(second) > 0.5)
                    share = self.share(first, second)
                    over.set()
                    bob.report()
                finally:
                    bob.kill()
                self.assertGreaterEqual(share, 0.8)
                self.assertLessEqual(share, 0.98, "the background has nothing")
                alice.report()
            finally:
                alice.kill()

    def test_background_pauses_and_goes_on(self):
        body = chat("Write a long story about a fox.", 300)
        with running(config=CONFIG) as d:
            _, _, alone = exchange(d.socket, "/v1/chat/completions", body)
            alone = json.loads(alone)["choices"][0]["message"]["content"]
            d.request("POST", "/api/generate", {"model": SMOL, "keep_alive": 0})
            slow = Stream(d.socket, dict(body, bn={"priority": "background"}))
            for _ in range(10):
                self.assertTrue(slow.read())
            quick = Stream(d.socket, chat("Write a long story about a bear.", 600))
            begin = self.both(d, 0)
            later = self.both(d, begin["generating"] + 150)
            quick.close()
            gained = {state: later[state] - begin[state] for state in begin}
            # A row of it costs half of a step: about one step in five is its own.
            self.assertLess(gained["paused"], 0.5 * gained["generating"], gained)
            self.assertGreater(gained["paused"], 0, gained)
            while slow.read():
                pass
            self.assertEqual(slow.text, alone)
            slow.close()

    def both(self, d, tokens):
        """Tokens written by the job that pauses and the one that has written so many, by state."""
        found = {}

        def there():
            jobs = json.loads(d.bnctl("ps", "--json").stdout)
            found.update((j["state"], j["tokens_out"]) for j in jobs)
            return "paused" in found and found.get("generating", -1) >= max(tokens, 1)
        wait_until(there, 30)
        return {state: found[state] for state in ("paused", "generating")}


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: several users need root")
        sys.exit(77)
    if "--seconds" in sys.argv:
        at = sys.argv.index("--seconds")
        SECONDS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    unittest.main(verbosity=2)
