"""Quotas as clients see them: curl, bnctl and the configuration files, with a real worker."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from harness import BNCTL, BUILD, MODELS, TINY, running
from test_metrics import scrape

STATE = os.path.join(BUILD, "e2e-state-quota")


def setUpModule():
    global FOLDER
    FOLDER = tempfile.mkdtemp(prefix="bitnetd-models-")
    os.chmod(FOLDER, 0o755)
    shutil.copy(os.path.join(MODELS, TINY + ".gguf"), FOLDER)


def tearDownModule():
    shutil.rmtree(FOLDER)


class Case(unittest.TestCase):
    def start(self, config, fresh=True):
        if fresh:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(STATE, "quota"))
        return running(config=config, model_dir=FOLDER, state=STATE)

    def complete(self, d, n=8, **fields):
        """(status, headers, error or usage)"""
        status, headers, data = d.request("POST", "/v1/completions",
                                          {"prompt": "Once upon a time", "max_tokens": n, **fields}
                                          if n else {"prompt": "Once upon a time", **fields})
        answer = json.loads(data)
        headers = {k.lower(): v for k, v in headers.items()}
        return status, headers, answer.get("error") or answer["usage"]


class Rates(Case):
    def test_curl_and_bnctl(self):
        with self.start("[Default]\nRequestsPerMinute = 3\n") as d:
            for left in ("2", "1", "0"):
                status, headers, _ = self.complete(d)
                self.assertEqual(status, 200)
                self.assertEqual(headers["x-ratelimit-limit-requests"], "3")
                self.assertEqual(headers["x-ratelimit-remaining-requests"], left)
                self.assertEqual(headers["ratelimit-policy"], '"requests";q=3;w=60')
                self.assertRegex(headers["ratelimit"], rf'^"requests";r={left};t=\d+$')
            r = subprocess.run(
                ["curl", "-sS", "-i", "--unix-socket", d.socket, "-d", '{"prompt": "a"}', "-H",
                 "Content-Type: application/json", "http://localhost/v1/completions"],
                capture_output=True, text=True, timeout=60, check=True)
            head, body = r.stdout.replace("\r", "").split("\n\n", 1)
            self.assertIn("HTTP/1.1 429 ", head)
            for line in (r"Retry-After: (1\d|20)", r"retry-after-ms: 1\d{4}",
                         "x-should-retry: true", "x-ratelimit-remaining-requests: 0",
                         r"x-ratelimit-reset-requests: (1m0s|\d+s)"):
                self.assertRegex(head, "(?m)^" + line + "$")
            error = json.loads(body)["error"]
            self.assertEqual(error["code"], "rate_limit_exceeded")
            self.assertEqual(error["type"], "rate_limit_error")
            self.assertRegex(error["message"], r"value 4, limit 3 requests; try again in \d+ s")
            r = d.bnctl("ask", "-n", "4", "Hello")
            self.assertEqual(r.returncode, 75, r.stderr)
            self.assertIn("try again in", r.stderr)

    def test_tokens(self):
        with self.start("[Default]\nTokensPerMinute = 600\nRequestsPerMinute = 2\n") as d:
            status, headers, usage = self.complete(d, 50, seed=1, temperature=1)
            self.assertEqual(status, 200)
            reserved = usage["prompt_tokens"] + 4 * 50
            self.assertEqual(headers["x-ratelimit-limit-tokens"], "600")
            left = int(headers["x-ratelimit-remaining-tokens"])
            self.assertGreaterEqual(left, 600 - reserved)
            self.assertLess(left, 600 - reserved + 50)  # what has come back meanwhile
            status, headers, error = self.complete(d, 140)
            self.assertEqual(status, 429)
            self.assertEqual(error["code"], "rate_limit_exceeded")
            self.assertIn("tokens", error["message"])
            self.assertEqual(self.complete(d, 4)[0], 200)
            self.assertEqual(self.complete(d, 4)[0], 429)  # now the requests
            self.assertEqual([line for line in scrape(d)[1].splitlines() if "{code=" in line],
                             ['bitnetd_refusals_total{code="rate_limit_exceeded",by="broker"} 2'])


class Budgets(Case):
    def test_tokens_of_the_day_survive_a_restart(self):
        config = "[Default]\nTokensPerDay = 300\n"
        with self.start(config) as d:
            self.assertEqual(self.complete(d, 60)[0], 200)
            status, headers, error = self.complete(d, 60)
            self.assertEqual(status, 429)
            self.assertEqual(error["code"], "insufficient_quota")
            self.assertEqual(headers["x-should-retry"], "false")
            self.assertGreater(int(headers["retry-after"]), 0)
        with self.start(config, fresh=False) as d:
            self.assertEqual(self.complete(d, 60)[0], 429)
            self.assertEqual(self.complete(d, 1)[0], 200)
            r = d.bnctl("ask", "-n", "60", "Hello")
            self.assertEqual(r.returncode, 75, r.stderr)
            self.assertIn("tokens of the day", r.stderr)

    def test_cpu_time_of_the_day(self):
        with self.start("[Default]\nCPUTimePerDay = 1s\nRequestsPerMinute = infinity\n") as d:
            deadline = time.monotonic() + 60
            status = 200
            while status == 200 and time.monotonic() < deadline:
                status, _, error = self.complete(d, 200)
            self.assertEqual(status, 429)
            self.assertEqual(error["code"], "insufficient_quota")
            self.assertRegex(error["message"], r"CPU time .*limit 1 seconds")


class Files(Case):
    def test_reload_keeps_the_old_one_on_a_mistake(self):
        with self.start("[Default]\nMaxOutputTokens = 5\n") as d:
            def length():
                status, _, error = self.complete(d, 30)
                self.assertEqual((status, error["param"]), (400, "max_tokens"))
                self.assertRegex(error["message"], r"value 30, limit \d\b")
                return self.complete(d, None)[2]["completion_tokens"]

            def reload(text, said):
                with open(os.path.join(d.dir, "bitnetd.conf.d", "50-x.conf"), "w",
                          encoding="utf-8") as f:
                    f.write(text)
                d.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 60
                while said not in d.read_log():
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.02)

            self.assertEqual(length(), 5)
            os.mkdir(os.path.join(d.dir, "bitnetd.conf.d"))
            reload(f"[User {os.geteuid()}]\nMaxOutputTokens = 7\n",
                   "configuration reloaded")
            self.assertEqual(length(), 7)
            reload("[Default]\nMaxOutputTokens = 9\nMaxOutputToken = 9\n",
                   "bitnetd.conf.d/50-x.conf:3: unknown key")
            self.assertEqual(length(), 7)

    def test_models_and_verbs(self):
        with self.start("[Default]\nAllowVerbs = chat\nAllowModels = tiny*\n") as d:
            status, _, error = self.complete(d)
            self.assertEqual((status, error["code"]), (403, "not_authorized"))
            self.assertEqual(d.chat("Hi", model=TINY, max_tokens=4)[0], 200)
        with self.start("[Default]\nAllowModels = other\n") as d:
            self.assertEqual(d.bnctl("ask", "-n", "4", "Hello").returncode, 77)


class Bnctl(Case):
    def run_ok(self, d, *args):
        r = d.bnctl(*args)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def test_show_set_explain(self):
        me = os.geteuid()
        with self.start("[Default]\nMaxQueuedJobs = 5\nTokensPerDay = 10K\n") as d:
            self.complete(d, 10)
            q = json.loads(self.run_ok(d, "quota", "--json"))
            self.assertEqual((q["uid"], q["limits"]["MaxQueuedJobs"]), (me, 5))
            self.assertIsNone(q["limits"]["TokensPerMinute"])
            self.assertEqual(q["limits"]["AllowVerbs"], "chat complete summarize embed "
                                                        "rewrite proofread extract classify")
            self.assertEqual(q["used"]["RequestsPerMinute"], 1)
            self.assertGreater(q["used"]["TokensPerDay"], 40)
            self.assertLess(q["used"]["TokensPerDay"], 60)
            self.assertGreater(q["used"]["CPUTimePerDay"], 0)
            self.assertRegex(self.run_ok(d, "quota", "show"), r"TokensPerDay +10240 +\d\d\n")

            self.run_ok(d, "quota", "set", "MaxQueuedJobs=7", "AllowVerbs=chat complete")
            self.run_ok(d, "quota", "set", "--persistent", "Weight=500", "CPUTimePerDay=2h")
            text = self.run_ok(d, "quota", "explain")
            for line in (rf"MaxQueuedJobs +7 +\[User {me}\] set until the next start:\d",
                         r"TokensPerDay +10240 +\[Default\] .*/bitnetd.conf:3",
                         rf"Weight +500 +\[User {me}\] .*bitnetd.conf.d/90-quota-{me}.conf:\d",
                         r"CPUTimePerDay +2h +\[User .*", "MaxObjects +256 +built in"):
                self.assertRegex(text, "(?m)^" + line + "$")
            e = json.loads(self.run_ok(d, "quota", "explain", "--json"))
            self.assertEqual(e["Weight"]["value"], 500)
            self.assertEqual(e["MaxObjects"]["file"], "")
            self.run_ok(d, "quota", "set", "--persistent", "Weight=")
            self.assertRegex(self.run_ok(d, "quota"), "Weight +100 ")

            for bad in (["set"], ["set", "Weight"], ["set", "Colour=red"], ["set", "Weight=0"],
                        ["show", "more"], ["sing"], ["show", "--uid", "x"]):
                r = d.bnctl("quota", *bad)
                self.assertEqual(r.returncode, 2, bad)
                self.assertRegex(r.stderr, "^bnctl: .")

    def test_reload(self):
        with self.start("[Default]\nMaxQueuedJobs = 5\n") as d:
            self.run_ok(d, "reload")
            with open(os.path.join(d.dir, "bitnetd.conf"), "a", encoding="utf-8") as f:
                f.write("MaxQueuedJobs = lots\n")
            r = d.bnctl("reload")
            self.assertEqual(r.returncode, 78)
            self.assertIn("bitnetd.conf:3: not a number", r.stderr)
            self.assertIn('"MaxQueuedJobs": 5', self.run_ok(d, "quota", "--json"))

    @unittest.skipIf(os.geteuid() != 0, "to be another user")
    def test_others(self):
        with running("--socket-mode", "0666", config="", model_dir=FOLDER, state=STATE) as d:
            def as_user(*args):
                return subprocess.run(
                    ["setpriv", "--reuid=40001", "--regid=40001", "--clear-groups", BNCTL, *args],
                    env=dict(os.environ, BITNETD_SOCKET=d.socket), capture_output=True, text=True,
                    timeout=30, check=False)

            self.assertEqual(json.loads(as_user("quota", "--json").stdout)["uid"], 40001)
            self.assertEqual(as_user("quota", "explain").returncode, 0)
            self.assertEqual(as_user("quota", "show", "--uid", "0").returncode, 77)
            self.assertEqual(as_user("quota", "set", "Weight=10000").returncode, 77)
            self.assertEqual(as_user("reload").returncode, 77)
            self.run_ok(d, "quota", "set", "--uid", "40001", "Weight=3")
            self.assertEqual(json.loads(as_user("quota", "--json").stdout)["limits"]["Weight"], 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
