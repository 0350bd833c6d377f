"""Metrics: Prometheus text on the administrator's socket, counting what happened, naming nobody."""

import os
import re
import socket
import subprocess
import time
import unittest

from harness import running

CANARY = "zanzibar"


def scrape(d, request=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(os.path.join(os.path.dirname(d.socket), "admin.sock"))
        s.sendall(request)
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, body = data.decode().split("\r\n\r\n", 1)
    return head, body


def value(body, name):
    return float(re.search(r"^" + re.escape(name) + r" ([0-9.]+)$", body, re.M).group(1))


class Metrics(unittest.TestCase):
    def test_counts(self):
        with running() as d:
            _, body = scrape(d)
            done = 'bitnetd_jobs_total{verb="chat",result="done"}'
            self.assertEqual(value(body, done), 0)
            d.chat("Say the word " + CANARY, max_tokens=3)
            d.chat("Hello", model=CANARY)
            d.chat("Hello", max_tokens=3)
            refused = 'bitnetd_refusals_total{code="model_not_found",by="worker"}'
            deadline = time.monotonic() + 60
            while refused not in scrape(d)[1]:  # workers tell twice a second
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            head, body = scrape(d)
            self.assertEqual(value(body, refused), 1)
            self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"))
            self.assertIn("version=0.0.4", head)
            self.assertEqual(value(body, done), 2)
            self.assertEqual(value(body, "bitnetd_tokens_out_total"), 6)
            self.assertEqual(value(body, "bitnetd_connections_total"), 3)
            self.assertEqual(value(body, "bitnetd_workers"), 1)
            self.assertEqual(value(body, "bitnetd_jobs_running"), 0)
            self.assertEqual(value(body, 'bitnetd_jobs{verb="chat",state="queued"}'), 0)
            self.assertEqual(value(body, "bitnetd_memory_pressure_step"), 0)
            self.assertEqual(value(body, 'bitnetd_memory_reliefs_total{step="caches"}'), 0)
            self.assertGreater(value(body, "bitnetd_compute_seconds_total"), 0)
            self.assertNotIn(CANARY, body)
            self.check_names(body)
            for line in body.splitlines():
                self.assertRegex(line, r'^(# (HELP|TYPE) bitnetd_|bitnetd_[a-z_]+'
                                       r'(\{[^}]*\})? [0-9.]+$)')

    def check_names(self, body):
        """Prometheus's conventions: counters end in _total, each name is described once, before its
        values, and gauges do not look like counters."""
        types = re.findall(r"^# TYPE (\S+) (\S+)$", body, re.M)
        self.assertEqual(len(types), len(dict(types)))
        for name, kind in types:
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
        seen = None
        for line in body.splitlines():
            if line.startswith("# TYPE"):
                seen = line.split()[2]
            elif not line.startswith("#"):
                self.assertEqual(re.match(r"[a-z_]+", line).group(0), seen)

    def test_refused_sessions_count(self):
        with running(config="[Default]\nMaxSessions=0\n") as d:
            bus = os.path.join(os.path.dirname(d.socket), "bus.sock")
            r = subprocess.run(["busctl", "--address=unix:path=" + bus, "call",
                                "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1",
                                "org.bitnetd.Bitnetd1.Manager", "CreateSession", "sa{sv}", "", "0"],
                               capture_output=True, text=True, check=False)
            self.assertNotEqual(r.returncode, 0, r.stdout)
            _, body = scrape(d)
            refused = 'bitnetd_refusals_total{code="too_many_sessions",by="broker"}'
            self.assertEqual(value(body, refused), 1)
            self.assertRegex(d.read_log(), "refused uid=")

    def test_memory_of_workers(self):
        with running() as d:
            d.chat("Hello", max_tokens=3)
            deadline = time.monotonic() + 60
            while value(scrape(d)[1], "bitnetd_weights_mapped_bytes") == 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            _, body = scrape(d)
            self.assertGreater(value(body, "bitnetd_worker_private_bytes"),
                               value(body, "bitnetd_kv_kept_bytes"))

    def test_requests_are_not_read(self):
        with running() as d:
            for request in (b"\0" * 4000, b"POST / HTTP/1.1\r\n\r\n", b"x"):
                self.assertTrue(scrape(d, request)[0].startswith("HTTP/1.1 200 OK\r\n"))
            mode = os.stat(os.path.join(os.path.dirname(d.socket), "admin.sock")).st_mode
            self.assertEqual(mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
