"""The end of the daemon, and of a worker, as people see it: a sentence and a status, never a hang."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from harness import BNCTL, running

STORY = ["ask", "-n", "3000", "--temperature=1", "--seed=1", "Write a very long story."]


def generating(daemon):
    r = daemon.bnctl("ps", "--json")
    return r.returncode == 0 and any(j["state"] == "generating" for j in json.loads(r.stdout))


def start(daemon, *args):
    """bnctl in the background, and its job generates."""
    p = subprocess.Popen([BNCTL, *args], env=dict(os.environ, BITNETD_SOCKET=daemon.socket),
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True)
    deadline = time.monotonic() + 60
    while not generating(daemon):
        if time.monotonic() > deadline or p.poll() is not None:
            raise AssertionError("no job generates: " + p.communicate()[1])
        time.sleep(0.02)
    return p


class Stop(unittest.TestCase):
    def test_daemon_ends_under_a_job(self):
        with running() as d:
            p = start(d, *STORY)
            d.process.send_signal(signal.SIGTERM)
            _, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 75, err)
            self.assertIn("The service is being stopped", err)
            d.process.wait(60)
            r = d.bnctl("ask", "Hi")
            self.assertEqual(r.returncode, 69, r.stderr)
            self.assertIn("is it running", r.stderr)
            r = d.bnctl("status")
            self.assertEqual(r.returncode, 69, r.stderr)
            self.assertIn("is it running", r.stderr)

    def test_worker_dies_before_it_reads(self):
        with running() as d:
            self.assertEqual(d.bnctl("ask", "-n", "1", "Hi").returncode, 0)
            worker = d.workers()[0]
            os.kill(worker, signal.SIGSTOP)
            p = subprocess.Popen([BNCTL, "ask", "Hi"], stdin=subprocess.DEVNULL,
                                 env=dict(os.environ, BITNETD_SOCKET=d.socket),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(0.5)
            os.kill(worker, signal.SIGKILL)
            _, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 70, err)
            self.assertIn("The worker failed", err)
            self.assertIn("try again", err)
            self.assertEqual(d.bnctl("ask", "-n", "1", "Hi").returncode, 0)

    def test_interrupt(self):
        with running() as d:
            p = start(d, *STORY)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 130, err)
            self.assertGreater(len(out), 0)


class Notify(unittest.TestCase):
    def test_ready_watchdog_stopping(self):
        """What a service manager hears."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX,
                                                                    socket.SOCK_DGRAM) as s:
            s.bind(os.path.join(folder, "notify"))
            s.settimeout(60)
            heard = []
            with running(env={"NOTIFY_SOCKET": os.path.join(folder, "notify"),
                              "WATCHDOG_USEC": "400000"}):
                while heard.count("WATCHDOG=1") < 3:
                    heard += s.recv(4096).decode().split("\n")
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard += s.recv(4096).decode().split("\n")
            self.assertIn("READY=1", heard)
            self.assertIn("STOPPING=1", heard)


if __name__ == "__main__":
    unittest.main(verbosity=2)
