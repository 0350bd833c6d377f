"""500 connections of 20 users at once: every one gets exactly one answer, every job that was
accepted ends exactly once, nothing stays charged, and the broker's memory comes back to where it
was. Needs root, to be several users."""

import json
import os
import sys
import unittest

from harness import BNCTL, TINY, running
from load import User, at_once, exchange, wait_until
from test_metrics import scrape, value
from test_users import as_user, status_field

USERS = range(41001, 41021)
EACH = 25                # connections of a user: more than may run and wait
# Ended jobs stay readable, 1024 of them; from the fifth round on each one replaces another.
FILL, ROUNDS = 5, 8
CONFIG = """[Default]
MaxConnections = 25
MaxConcurrentJobs = 4
MaxQueuedJobs = 12
IdleTimeoutSec = 1
ModelIdleSec = 1
RequestsPerMinute = infinity
"""
MEMORY_KB = 128


def ask(path, i):
    """The status and the id of the one answer."""
    body = {"model": TINY, "prompt": "Once upon a time", "max_tokens": 8 + i, "stream": i % 2 == 0}
    if i % 5 == 0:
        body["bn"] = {"priority": "background"}
    status, headers, data = exchange(path, "/v1/completions", body)
    if status == 200 and body["stream"] and b"data: [DONE]" not in data:
        raise ValueError("a stream without its end")
    if status == 429 and json.loads(data)["error"]["code"] != "queue_full":
        raise ValueError(data)
    return status, headers.get("x-request-id")


def flood(path):
    return at_once(EACH, lambda i: ask(path, i))


class Load(unittest.TestCase):
    def test_500_connections(self):
        with running("--socket-mode", "0666", config=CONFIG) as d:
            kb = []
            wait_until(lambda: os.path.exists(os.path.join(d.dir, "admin.sock")))
            for r in range(ROUNDS):
                before = scrape(d)[1]
                answers = self.round(d)
                wait_until(lambda: value(scrape(d)[1], "bitnetd_workers") == 0)
                self.check_round(before, scrape(d)[1], answers)
                self.check_charges(d)
                kb.append(int(status_field(d.process.pid, "VmRSS")[0]))
            print("VmRSS after each round, kB:", kb)
            self.assertLess(kb[-1], kb[FILL - 1] + MEMORY_KB)

    def round(self, d):
        users = [User(uid, flood, d.socket) for uid in USERS]
        try:
            return [tuple(a) for u in users for a in u.report()]
        finally:
            for u in users:
                u.kill()

    def check_round(self, before, after, answers):
        done = [i for status, i in answers if status == 200]
        full = [i for status, i in answers if status == 429]

        def gained(name):
            return value(after, name) - value(before, name)
        self.assertEqual(len(answers), len(USERS) * EACH)
        self.assertEqual(len(done) + len(full), len(answers), "another status")
        self.assertGreaterEqual(len(done), len(USERS) * 16)
        ids = [i for i in done if i]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual(gained('bitnetd_jobs_total{verb="complete",result="done"}'), len(done))
        for result in ("cancelled", "failed"):
            self.assertEqual(gained(f'bitnetd_jobs_total{{verb="complete",result="{result}"}}'), 0)
        self.assertEqual(gained("bitnetd_connections_total"), len(answers))
        self.assertEqual(gained("bitnetd_workers_failed_total"), 0)
        for name in ("bitnetd_jobs_running", "bitnetd_jobs_waiting", "bitnetd_workers"):
            self.assertEqual(value(after, name), 0)

    def check_charges(self, d):
        for uid in USERS:
            p = as_user(uid, [BNCTL, "quota", "--json"], env=dict(os.environ,
                                                                  BITNETD_SOCKET=d.socket))
            out, err = p.communicate(timeout=20)
            self.assertEqual(p.returncode, 0, err)
            used = json.loads(out)["used"]
            for key in ("MaxConcurrentJobs", "MaxQueuedJobs", "MaxSessions"):
                self.assertEqual(used[key], 0, (uid, key))
            # The connection that asks is one.
            self.assertEqual(used["MaxConnections"], 1, uid)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: several users need root")
        sys.exit(77)
    unittest.main(verbosity=2)
