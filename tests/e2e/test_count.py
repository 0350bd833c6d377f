"""Counting tokens says what a real request would read: on the bus, over HTTP and with bnctl."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from harness import SMOL, SOURCE, running

CLIENT = os.path.join(SOURCE, "tests/e2e/bus_count.py")
SYSTEM_PYTHON = "/usr/bin/python3"
MESSAGES = [{"role": "system", "content": "You are a guide."},
            {"role": "user", "content": "How tall is the lighthouse? — In metres, please."}]
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather of a place",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}},
                   "required": ["place"], "additionalProperties": False}}}]


class Count(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="bitnetd-count-")
        cls.address = "unix:path=" + os.path.join(cls.dir, "bus")
        cls.bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile",
                                    "--address=" + cls.address])
        while not os.path.exists(os.path.join(cls.dir, "bus")):
            time.sleep(0.02)
        cls.context = running(env={"DBUS_SESSION_BUS_ADDRESS": cls.address})
        cls.d = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)
        cls.bus.terminate()
        cls.bus.wait()
        shutil.rmtree(cls.dir, ignore_errors=True)

    def post(self, path, body, status=200):
        got, headers, data = self.d.request("POST", path, body)
        self.assertEqual(got, status, data)
        return json.loads(data), headers

    def counted(self, **fields):
        body = {"model": SMOL, "messages": MESSAGES, "max_tokens": 1, **fields}
        v, headers = self.post("/v1/chat/completions/input_tokens", body)
        self.assertEqual(v["object"], "response.input_tokens")
        self.assertIn("x-ratelimit-limit-requests", {k.lower() for k in headers})
        self.assertGreater(v["context_length"], v["input_tokens"])
        answer, _ = self.post("/v1/chat/completions", {**body, "stream": False})
        self.assertEqual(v["input_tokens"], answer["usage"]["prompt_tokens"])

    def test_http(self):
        self.counted()
        self.counted(stream=True)
        self.counted(tools=TOOLS)
        self.counted(response_format={"type": "json_schema", "json_schema": {
            "name": "n", "schema": {"type": "integer"}}})
        self.counted(messages=MESSAGES[1:] + [{"role": "assistant", "content": "38 metres."},
                                              {"role": "user", "content": "And wide?"}])

    def test_http_errors(self):
        path = "/v1/chat/completions/input_tokens"
        v, _ = self.post(path, {"model": "none", "messages": MESSAGES}, 404)
        self.assertEqual(v["error"]["code"], "model_not_found")
        self.post(path, {"model": SMOL, "messages": [{"role": "cat", "content": "x"}]}, 400)
        long = [{"role": "user", "content": "far " * 20000}]
        v, _ = self.post(path, {"model": SMOL, "messages": long}) # does not fit, and is counted
        self.assertGreater(v["input_tokens"], v["context_length"])
        refused, _ = self.post("/v1/chat/completions", {"model": SMOL, "messages": long}, 400)
        self.assertEqual(refused["error"]["n_prompt_tokens"], v["input_tokens"])
        endless = [{"role": "user", "content": "far " * 500000}]
        v, _ = self.post(path, {"model": SMOL, "messages": endless}, 400)
        self.assertEqual(v["error"]["code"], "context_length_exceeded")
        self.assertEqual(self.d.request("GET", path)[0], 405)

    def test_costs_a_request_and_no_tokens(self):
        with running(config="[Default]\nRequestsPerMinute = 2\nTokensPerDay = 1\n") as d:
            body = {"model": SMOL, "messages": MESSAGES}
            path = "/v1/chat/completions/input_tokens"
            status = [d.request("POST", path, body)[0] for _ in range(3)]
            self.assertEqual(status, [200, 200, 429])

    @unittest.skipUnless(subprocess.run([SYSTEM_PYTHON, "-c", "import gi"], check=False,
                                        capture_output=True).returncode == 0,
                         "python3-gi is not installed")
    def test_bus(self):
        chat = json.dumps({"messages": MESSAGES})
        request = json.dumps({"messages": MESSAGES, "tools": TOOLS, "stop": ["x"]})
        good = [["", "What is the capital of France?", {}],
                ["", "Once upon a time", {"mode": "complete"}],
                [SMOL, chat, {"input-format": "chat-json"}],
                ["", request, {"input-format": "request-json"}],
                ["", json.dumps({"prompt": "Once"}), {"input-format": "request-json",
                                                      "mode": "complete"}]]
        bad = [["", "", {}, "InvalidInput"], ["none", "x", {}, "ModelNotFound"],
               ["", "no JSON", {"input-format": "chat-json"}, "InvalidInput"],
               ["", "far " * 500000, {}, "ContextTooLong"], ["", "stall", {}, "DeadlineExceeded"]]
        begin = time.monotonic()
        r = subprocess.run([SYSTEM_PYTHON, CLIENT, self.address],
                           input=json.dumps([b[:3] for b in good + bad]), capture_output=True,
                           text=True, timeout=120, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertGreater(time.monotonic() - begin, 10) # the stalled pipe
        found = json.loads(r.stdout)
        for (counted, really), case in zip(found, good):
            self.assertEqual(counted[0], really, case)
            self.assertGreater(counted[1], counted[0])
        for (error, _), case in zip(found[len(good):], bad):
            self.assertEqual(error, "org.bitnetd.Bitnetd1.Error." + case[3], case)

    def test_bnctl(self):
        short, long = (os.path.join(self.dir, n) for n in ("short.txt", "long.txt"))
        with open(short, "w", encoding="utf-8") as f:
            f.write("Name three rivers.")
        with open(long, "w", encoding="utf-8") as f:
            f.write("far " * 20000)
        r = self.d.bnctl("count", short)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertRegex(r.stdout, r"\n +\d+ +8192  yes   .*short\.txt\n$")
        r = self.d.bnctl("count", "--json", short, long, "-s", "You are a guide.")
        self.assertEqual(r.returncode, 65, r.stderr)
        a, b = json.loads(r.stdout)
        self.assertEqual((a["fits"], b["fits"]), (True, False))
        usage = json.loads(self.d.bnctl("ask", "--json", "-n", "1", "-s", "You are a guide.",
                                        stdin="Name three rivers.").stdout)["usage"]
        self.assertEqual(a["tokens"], usage["prompt_tokens"])
        r = self.d.bnctl("count", "-q", stdin="Name three rivers.")
        self.assertRegex(r.stdout, r"^ +\d+ +8192  yes   -\n$")
        self.assertEqual(self.d.bnctl("count", os.path.join(self.dir, "none")).returncode, 66)
        self.assertEqual(self.d.bnctl("count", "-m", "none", short).returncode, 69)
        self.assertEqual(self.d.bnctl("count").returncode, 2)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
