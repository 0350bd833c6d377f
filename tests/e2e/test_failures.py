"""Everything that can go wrong has a message a person can act on, and the next request works."""

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import unittest

from harness import BUILD, MODELS, SMOL, TINY, Daemon, DaemonCase, UnixConnection, running

LONG = {"model": SMOL, "stream": True, "max_tokens": 3000, "temperature": 1.0, "seed": 1,
        "messages": [{"role": "user", "content": "Write a very long story about a farm."}]}


def start_stream(daemon, body=None):
    """A streaming request that has produced its first bytes."""
    c = UnixConnection(daemon.socket)
    c.request("POST", "/v1/chat/completions", json.dumps(body or LONG),
              {"Content-Type": "application/json"})
    r = c.getresponse()
    r.read1(64)
    return c, r


def jobs(daemon):
    r = daemon.bnctl("ps", "--json")
    if r.returncode != 0:
        raise AssertionError(r.stderr)
    return [j for j in json.loads(r.stdout)
            if j["state"] not in ("done", "cancelled", "failed")]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Failures(DaemonCase):
    daemon = dict(config="[Default]\nMaxConcurrentJobs=2\nMaxQueuedJobs=3\n")

    def tearDown(self):
        self.assertTrue(wait_for(lambda: not jobs(self.d)), "jobs left")
        r = self.d.bnctl("ask", "-n", "8", "Hello")
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_unknown_model(self):
        status, answer = self.d.chat("Hi", model="no-such-model")
        self.assertEqual(status, 404)
        self.assertEqual(answer["error"]["code"], "model_not_found")
        r = self.d.bnctl("ask", "-m", "no-such-model", "Hi")
        self.assertEqual(r.returncode, 69)
        self.assertIn("model", r.stderr)

    def test_prompt_longer_than_the_context(self):
        status, answer = self.d.chat("word " * 9000)
        self.assertEqual(status, 400)
        self.assertEqual(answer["error"]["code"], "context_length_exceeded")
        self.assertEqual(answer["error"]["n_ctx"], 8192)
        self.assertGreater(answer["error"]["n_prompt_tokens"], 8192)
        r = self.d.bnctl("ask", "What is this?", stdin="word " * 9000)
        self.assertEqual(r.returncode, 65)
        self.assertIn("8192", r.stderr)
        self.assertNotIn("word word", r.stderr)

    def test_bad_json_names_the_field(self):
        status, _, data = self.d.request("POST", "/v1/chat/completions", {"messages": "hello"})
        self.assertEqual(status, 400)
        self.assertEqual(json.loads(data)["error"]["param"], "messages")
        status, _, data = self.d.request("POST", "/v1/chat/completions", "{")
        self.assertEqual(status, 400)

    def test_not_text(self):
        status, _, data = self.d.request("POST", "/v1/summarize", b"good \xff\xfe bad",
                                         {"Content-Type": "text/plain"})
        self.assertEqual(status, 400)
        self.assertEqual(json.loads(data)["error"]["type"], "invalid_request_error")

    def test_unknown_path_and_method(self):
        self.assertEqual(self.d.request("GET", "/v1/nothing")[0], 404)
        self.assertEqual(self.d.request("GET", "/v1/chat/completions")[0], 405)

    def test_full_queue(self):
        streams = [start_stream(self.d) for _ in range(2)]
        for _, r in streams:
            self.addCleanup(r.close)
        waiting = []
        for _ in range(3):
            c = UnixConnection(self.d.socket)
            c.request("POST", "/v1/chat/completions", json.dumps(LONG),
                      {"Content-Type": "application/json"})
            waiting.append(c)
        self.assertTrue(wait_for(lambda: len(jobs(self.d)) == 5))
        status, answer = self.d.chat("One too many")
        self.assertEqual(status, 429)
        self.assertEqual(answer["error"]["code"], "queue_full")
        self.assertRegex(answer["error"]["message"], r"value \d, limit \d jobs")
        r = self.d.bnctl("ask", "One too many")
        self.assertEqual(r.returncode, 75)
        for c in [s[0] for s in streams] + waiting:
            c.close()

    def test_vanished_client(self):
        c, r = start_stream(self.d)
        self.assertEqual(len(jobs(self.d)), 1)
        r.close()
        c.close()
        self.assertTrue(wait_for(lambda: not jobs(self.d), 3), "the job outlived its client")

    def test_cancel(self):
        c, r = start_stream(self.d)
        job = jobs(self.d)[0]["job"]
        self.assertEqual(job, r.getheader("x-request-id"))
        self.assertEqual(self.d.bnctl("cancel", str(job)).returncode, 0)
        self.assertTrue(wait_for(lambda: not jobs(self.d), 3))
        self.assertNotIn(b"[DONE]", r.read())
        c.close()
        self.assertNotEqual(self.d.bnctl("cancel", "12345").returncode, 0)

    def test_killed_worker(self):
        c, r = start_stream(self.d)
        before = self.d.workers()
        self.assertEqual(len(before), 1)
        os.kill(before[0], signal.SIGKILL)
        rest = b""
        try:
            rest = r.read()
        except (OSError, ValueError, Exception) as e:  # an IncompleteRead is what we want
            rest = getattr(e, "partial", b"")
        self.assertNotIn(b"[DONE]", rest)
        c.close()
        self.assertTrue(wait_for(lambda: not jobs(self.d)))
        status, answer = self.d.chat("What is the capital of France?")
        self.assertEqual(status, 200)
        self.assertIn("Paris", answer["choices"][0]["message"]["content"])
        self.assertNotEqual(self.d.workers(), before)

    def test_killed_worker_in_bnctl(self):
        results = []
        t = threading.Thread(target=lambda: results.append(
            self.d.bnctl("ask", "-n", "3000", "--temperature=1", "--seed=1",
                         "Write a very long story.")))
        t.start()
        self.assertTrue(wait_for(lambda: any(j["state"] == "generating" for j in jobs(self.d))))
        for pid in self.d.workers():
            os.kill(pid, signal.SIGKILL)
        t.join(30)
        self.assertEqual(results[0].returncode, 70, results[0].stderr)
        self.assertRegex(results[0].stderr, "bnctl: .+")

    def test_half_closed_client_gets_its_answer(self):
        body = json.dumps({"model": SMOL, "max_tokens": 8,
                           "messages": [{"role": "user", "content": "Hi"}]}).encode()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.d.socket)
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Type: application/json\r\nContent-Length: "
                      + str(len(body)).encode() + b"\r\n\r\n" + body)
            s.shutdown(socket.SHUT_WR)
            s.settimeout(60)
            data = b""
            while chunk := s.recv(65536):
                data += chunk
        self.assertIn(b" 200 ", data.split(b"\r\n")[0])
        self.assertIn(b"chat.completion", data)

    def test_no_daemon(self):
        r = self.d.bnctl("ask", "--socket", "/no/such/socket", "Hi")
        self.assertEqual(r.returncode, 69)
        self.assertIn("is it running", r.stderr)


class BadModels(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="bitnetd-models-")
        os.chmod(self.dir, 0o755)
        shutil.copy(os.path.join(MODELS, TINY + ".gguf"), self.dir)
        with open(os.path.join(MODELS, TINY + ".gguf"), "rb") as f:
            good = f.read()
        with open(os.path.join(self.dir, "truncated.gguf"), "wb") as f:
            f.write(good[:len(good) // 2])
        with open(os.path.join(self.dir, "not-a-model.gguf"), "wb") as f:
            f.write(b"hello, world\n" * 100)
        os.mkdir(os.path.join(self.dir, "unreadable.gguf"))

    def tearDown(self):
        shutil.rmtree(self.dir)

    def test_each_says_why(self):
        state = os.path.join(BUILD, "e2e-state-bad")
        with running(model_dir=self.dir, state=state) as d:
            r = d.bnctl("ask", "-m", TINY, "-n", "8", "Once")
            self.assertEqual(r.returncode, 0, r.stderr)
            for name in ("truncated", "not-a-model"):
                status, answer = d.chat("Hi", model=name)
                self.assertGreaterEqual(status, 500, answer)
                r = d.bnctl("ask", "-m", name, "Hi")
                self.assertEqual(r.returncode, 70, r.stderr)
                self.assertRegex(r.stderr, "model")
                self.assertIn("not a GGUF file" if name == "not-a-model" else "outside the file",
                              r.stderr)
            status, _ = d.chat("Hi", model="unreadable")
            self.assertIn(status, (404, 500))

    def test_i2s_layout_is_the_readers_choice(self):
        """The file does not say how its weights lie; read the wrong way it still loads."""
        state = os.path.join(BUILD, "e2e-state-bad")
        answers = []
        for layout in ("128/32", "64/16", "1x4"):
            with running("--i2s-layout", layout, model_dir=self.dir, state=state) as d:
                status, answer = d.chat("Once upon a time", model=TINY, max_tokens=24)
                self.assertEqual(status, 200, answer)
                answers.append(answer["choices"][0]["message"]["content"])
        self.assertEqual(len(set(answers)), 3)
        with self.assertRaisesRegex(RuntimeError, "128/32, 64/16 or 1x4"):
            Daemon("--i2s-layout", "32/8")

    def test_packing_changes_nothing(self):
        """2 or 1.6 bits a weight, or what was measured: the same answer."""
        state = os.path.join(BUILD, "e2e-state-bad")
        answers = []
        for packing in ("2", "1.6", "auto"):
            with running("--packing", packing, model_dir=self.dir, state=state) as d:
                status, answer = d.chat("Once upon a time", model=TINY, max_tokens=24)
                self.assertEqual(status, 200, answer)
                answers.append(answer["choices"][0]["message"]["content"])
        self.assertEqual(len(set(answers)), 1)
        with self.assertRaisesRegex(RuntimeError, "auto, 2 or 1.6"):
            Daemon("--packing", "3")

    def test_kv_type(self):
        """Keys and values in other forms: another rounding, so some answer differs; the same again."""
        state = os.path.join(BUILD, "e2e-state-bad")
        answers = {}
        for n, kv in enumerate(("s16", "s8", "s8", "f16")):
            with running("--kv", kv, model_dir=self.dir, state=state) as d:
                answers[n] = []
                for prompt in ("Once upon a time", "The little dog", "One day a girl"):
                    status, answer = d.chat(prompt, model=TINY, max_tokens=200)
                    self.assertEqual(status, 200, answer)
                    answers[n].append(answer["choices"][0]["message"]["content"])
        self.assertEqual(answers[1], answers[2])
        self.assertNotEqual(answers[0], answers[1])
        self.assertNotEqual(answers[3], answers[1])
        with self.assertRaisesRegex(RuntimeError, "s16, f16 or s8"):
            Daemon("--kv", "f32")


if __name__ == "__main__":
    unittest.main(verbosity=2)
