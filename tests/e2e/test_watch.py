"""What the daemon says of itself while it works: bnctl ps, top and monitor."""

import glob
import json
import os
import pty
import select
import signal
import subprocess
import time
import unittest

from harness import BNCTL, SMOL, STATE, DaemonCase, UnixConnection, running

CANARY = "zanzibar"
STORY = {"messages": [{"role": "user", "content": "Write a long story of " + CANARY}],
         "max_tokens": 4000, "response_format": {"type": "json_schema", "json_schema": {
             "name": "long", "schema": {"type": "string", "minLength": 100000}}}}


def spawn(d, *args, **kw):
    return subprocess.Popen([BNCTL, *args], env=dict(os.environ, BITNETD_SOCKET=d.socket),
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            **{"stdout": subprocess.PIPE, **kw})


def end(p):
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    return p.returncode, out, err


def read_until(p, enough):
    """Lines of a program that goes on, until `enough` says so of them."""
    said = ""
    deadline = time.monotonic() + 60
    while not enough(said):
        if not select.select([p.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            raise AssertionError("waited for a minute after " + said)
        said += os.read(p.stdout.fileno(), 65536).decode()
    return said


class Case(DaemonCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        assert cls.d.bnctl("ask", "-n", "1", "Hi").returncode == 0

    def json(self, *args):
        r = self.d.bnctl(*args)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return json.loads(r.stdout)


class Memory(Case):
    def anonymous(self):
        pid, = self.d.workers()
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Anonymous:"))

    def test_ps_shows_memory_apart(self):
        deadline = time.monotonic() + 60
        while True:  # a worker tells of its memory twice a second
            worker, = self.json("ps", "--workers", "--json")
            anonymous = self.anonymous()
            if worker["private_bytes"] > anonymous / 4 or time.monotonic() > deadline:
                break
        self.assertEqual((worker["model"], worker["models"]), (SMOL, 1))
        packed = [os.path.getsize(f) for f in glob.glob(os.path.join(STATE, "*.packed"))]
        self.assertIn(worker["weights_bytes"], packed)
        self.assertGreaterEqual(worker["private_bytes"], worker["kv_bytes"])
        # Pages that are large, and scratch that steps do not fill, are not counted exactly.
        self.assertLess(worker["private_bytes"], 2 * anonymous + (8 << 20))
        self.assertGreater(worker["private_bytes"], anonymous / 4)
        table = self.d.bnctl("ps").stdout
        self.assertRegex(table, r"UID +WORKER +MODEL +PRIVATE +KV +SHARED")
        self.assertIn(SMOL, table)


class Watch(Case):
    def wait_for_state(self, generating):
        deadline = time.monotonic() + 60
        while generating != any(j["state"] == "generating" for j in self.json("ps", "--json")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def generating(self):
        """A job that goes on: a string has that many characters at least."""
        c = UnixConnection(self.d.socket)
        c.request("POST", "/v1/chat/completions", json.dumps(STORY),
                  {"Content-Type": "application/json"})
        self.addCleanup(self.wait_for_state, False)  # after it was ended
        self.addCleanup(c.close)
        self.wait_for_state(True)

    def test_top(self):
        self.generating()
        v = self.json("top", "--once", "--json")
        self.assertEqual((v["running"], v["waiting"]), (1, 0))
        self.assertGreater(v["tokens_per_second"], 0)
        self.assertGreater(v["cpus"], 0)
        self.assertGreater(v["jobs"][0]["tokens_per_second"], 0)
        self.assertEqual(len(v["workers"]), 1)
        r = self.d.bnctl("top", "--once")
        self.assertRegex(r.stdout, r"jobs 1 running, 0 waiting +tokens/s [0-9.]+ +CPUs [0-9.]+")
        self.assertIn("generating", r.stdout)
        self.assertNotIn("\x1b", r.stdout)
        self.assertNotIn(CANARY, r.stdout)
        piped = spawn(self.d, "top")
        read_until(piped, lambda out: out.count("tokens/s") == 2)
        status, _, err = end(piped)
        self.assertEqual((status, err), (0, ""))

    def test_top_leaves_the_terminal_as_it_was(self):
        master, slave = pty.openpty()
        p = spawn(self.d, "top", stdout=slave)
        os.close(slave)
        data = b""
        deadline = time.monotonic() + 60
        while data.count(b"tokens/s") < 2:
            self.assertLess(time.monotonic(), deadline)
            if select.select([master], [], [], 1)[0]:
                data += os.read(master, 65536)
        self.assertEqual(end(p)[0], 0)
        os.close(master)
        self.assertIn(b"\x1b[H\x1b[J", data)
        self.assertNotIn(b"\x1b[?", data, "no mode of the terminal is changed")

    def test_monitor(self):
        self.generating()  # what a monitor tells of first, so that one sees that it looks
        p = spawn(self.d, "monitor", "--json")
        plain = spawn(self.d, "monitor")
        out, text = (read_until(m, lambda said: "started" in said) for m in (p, plain))
        self.assertEqual(self.d.bnctl("ask", "-n", "3", "Say " + CANARY).returncode, 0)
        out += read_until(p, lambda said: "ended" in said)
        text += read_until(plain, lambda said: "ended" in said)
        status, rest, err = end(p)
        self.assertEqual((status, err), (0, ""))
        events = [json.loads(line) for line in (out + rest).splitlines()]
        job = next(e["job"] for e in events if e["event"] == "ended")
        ours = [e for e in events if e["job"] == job]
        self.assertEqual([e["event"] for e in ours][-2:], ["started", "ended"])
        self.assertEqual((ours[-1]["state"], ours[-1]["tokens_out"], ours[-1]["verb"]),
                         ("done", 3, "chat"))
        status, rest, err = end(plain)
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(text + rest, rf"(?m)^\d\d:\d\d:\d\d ended +{job} +uid \d+ chat done, \d+ read, "
                              r"3 written$")
        self.assertNotIn(CANARY, out + text + rest)

    def test_daemon_that_goes(self):
        with running() as d:
            top, monitor = spawn(d, "top"), spawn(d, "monitor")
            time.sleep(0.5)
            d.process.send_signal(signal.SIGTERM)
            for p in (top, monitor):
                _, err = p.communicate(timeout=60)
                self.assertEqual(p.returncode, 69, err)
                self.assertIn("is it running", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
