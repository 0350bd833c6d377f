"""Two users at once: two workers, two uids, one copy of the weights, and nobody sees the other's
jobs. Needs root, to be two users."""

import json
import os
import subprocess
import sys
import threading
import time
import unittest

from harness import BNCTL, SMOL, STATE, running

ALICE, BOB = 40001, 40002
BODY = json.dumps({"model": SMOL, "stream": True, "max_tokens": 400, "temperature": 1, "seed": 3,
                   "messages": [{"role": "user", "content": "Write a long story."}]})


def as_user(uid, command, **kw):
    return subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                             *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            stdin=subprocess.DEVNULL, **kw)


def status_field(pid, name):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(line.split()[1:] for line in f if line.startswith(name + ":"))


def shared_weights(pid):
    """PSS and size in kB of the mapping of the packed model."""
    pss = size = 0
    counting = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            if "-" in line.split(" ")[0]:
                counting = "/" in line and line.split()[-1].startswith(STATE)
            elif counting and line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif counting and line.startswith("Size:"):
                size += int(line.split()[1])
    return pss, size


class TwoUsers(unittest.TestCase):
    def test_two_workers_share_the_weights(self):
        with running("--socket-mode", "0666") as d:
            curl = ["curl", "-sS", "-N", "--unix-socket", d.socket, "-d", BODY, "-H",
                    "Content-Type: application/json", "http://localhost/v1/chat/completions"]
            streams = [as_user(uid, curl) for uid in (ALICE, BOB)]
            first = [p.stdout.readline() for p in streams]
            self.assertTrue(all(line.startswith(b"data: ") for line in first), first)
            # Both have computed a step once both have sent more than the role.
            second = [[p.stdout.readline() for _ in range(8)][-1] for p in streams]
            self.assertTrue(all(second))
            workers = d.workers()
            self.assertEqual(len(workers), 2)
            uids = [status_field(pid, "Uid") for pid in workers]
            self.assertNotEqual(uids[0], uids[1])
            for pid in workers:
                self.assertEqual(status_field(pid, "Seccomp"), ["2"])
                self.assertEqual(status_field(pid, "NoNewPrivs"), ["1"])
                self.assertEqual(status_field(pid, "CapEff"), ["0000000000000000"])
                self.assertNotIn("0", status_field(pid, "Uid"))
            sums = [shared_weights(pid) for pid in workers]
            size = sums[0][1]
            self.assertGreater(size, 80_000)
            self.assertLess(size, 160_000, "mapped more than once")
            self.assertLess(abs(sum(s[0] for s in sums) - size), 0.05 * size, sums)
            self.see_only_own_jobs(d)
            for p in streams:
                p.kill()
                p.communicate()

    def see_only_own_jobs(self, d):
        for uid in (ALICE, BOB):
            env = dict(os.environ, BITNETD_SOCKET=d.socket)
            p = as_user(uid, [BNCTL, "ps", "--json"], env=env)
            out, err = p.communicate(timeout=20)
            self.assertEqual(p.returncode, 0, err)
            found = [j for j in json.loads(out) if j["state"] not in ("done", "cancelled")]
            self.assertEqual([j["uid"] for j in found], [uid])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: two users need root")
        sys.exit(77)
    unittest.main(verbosity=2)
