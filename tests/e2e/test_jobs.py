"""Jobs that are left and come back to, wait in the queue, or run out of time: the real daemon, bnctl
and HTTP."""

import json
import time
import unittest

from harness import SMOL, DaemonCase, UnixConnection, running

QUESTION = "What is the capital of France?"
DOCUMENT = ("The town of Marel built a new bridge over the river last year. It took eight months and "
            "cost four million. Before the bridge, people had to take a ferry twice a day. ") * 30


class Detached(DaemonCase):
    def bnctl(self, *args, status=0, **kw):
        r = self.d.bnctl(*args, **kw)
        self.assertEqual(r.returncode, status, (args, r.stdout, r.stderr))
        return r.stdout

    def job(self, name):
        return [j for j in json.loads(self.bnctl("ps", "--json")) if j["job"] == name][0]

    def test_ask(self):
        answer = self.bnctl("ask", QUESTION)
        job = self.bnctl("ask", "--detach", QUESTION).strip()
        self.assertRegex(job, r"^[0-9]+$")
        self.assertEqual(self.bnctl("wait", job), "")
        self.assertEqual(self.job(job)["state"], "done")
        self.assertTrue(self.job(job)["detached"])
        self.assertEqual(self.bnctl("output", job), answer)
        self.assertEqual(self.bnctl("output", job), answer)
        self.bnctl("cancel", job)
        self.bnctl("output", job, status=1)

    def test_output_of_one_that_runs(self):
        args = ("-n", "80", "--temperature=1", "--seed=5", "Tell me a story about a fox.")
        answer = self.bnctl("ask", *args)
        job = self.bnctl("ask", "--detach", *args).strip()
        self.assertEqual(self.bnctl("output", job), answer)

    def test_summarize(self):
        options = ("--type=key-points", "--length=short", "--context=the bridge")
        answer = self.bnctl("summarize", *options, stdin=DOCUMENT)
        job = json.loads(self.bnctl("summarize", "--detach", "--json", *options, stdin=DOCUMENT))
        self.assertEqual(self.bnctl("output", job["job"]), answer)

    def test_cancel(self):
        job = self.bnctl("ask", "--detach", "-n", "1500", "--background",
                         "Count to a thousand.").strip()
        self.assertEqual(self.job(job)["priority"], "background")
        self.bnctl("cancel", job)
        self.bnctl("wait", job, status=130)
        self.bnctl("output", job, status=1)

    def test_deadline(self):
        long = ("-n", "1500", "Write a very long story.")
        self.bnctl("ask", "--deadline=0.05", *long, status=124)
        self.bnctl("summarize", "--deadline=0.05", stdin=DOCUMENT, status=124)
        job = self.bnctl("ask", "--detach", "--deadline=0.05", *long).strip()
        self.bnctl("wait", job, status=124)
        self.bnctl("output", job, status=124)

    def test_usage(self):
        self.bnctl("ask", "--keep=10", QUESTION, status=2)
        self.bnctl("ask", "--detach", "--keep=0", QUESTION, status=2)
        self.bnctl("ask", "--deadline=soon", QUESTION, status=2)
        self.bnctl("wait", status=2)
        self.bnctl("output", "../x", status=2)
        self.bnctl("wait", "1", status=1)
        self.bnctl("summarize", "--detach", "--max-tokens=many", stdin=DOCUMENT)


class Queue(unittest.TestCase):
    def test_deadline_in_the_queue(self):
        schema = {"type": "json_schema", "json_schema": {
            "name": "long", "schema": {"type": "string", "minLength": 100000}}}
        body = {"model": SMOL, "stream": True, "max_tokens": 1800, "response_format": schema,
                "messages": [{"role": "user", "content": "Tell me everything."}]}
        with running(config="[Default]\nMaxConcurrentJobs = 1\n") as d:
            c = UnixConnection(d.socket)
            c.request("POST", "/v1/chat/completions", json.dumps(body))
            response = c.getresponse()
            response.read(100)
            waiting = d.bnctl("ask", "--detach", QUESTION).stdout.strip()
            end = time.monotonic() + 30
            while True:
                jobs = {j["job"]: j for j in json.loads(d.bnctl("ps", "--json").stdout)}
                if jobs[waiting]["queue_position"] == 1 and jobs[waiting]["tokens_in"] > 0:
                    break
                self.assertLess(time.monotonic(), end, jobs)
            status, _, data = d.request("POST", "/v1/chat/completions", {
                "messages": [{"role": "user", "content": QUESTION}], "bn": {"deadline_ms": 300}})
            self.assertEqual((status, json.loads(data)["error"]["code"]),
                             (408, "deadline_exceeded"))
            late = d.bnctl("ask", "--detach", "--deadline=0.3", QUESTION).stdout.strip()
            self.assertEqual(d.bnctl("wait", late).returncode, 124)
            states = {j["state"] for j in json.loads(d.bnctl("ps", "--json").stdout)
                      if j["job"] == waiting}
            self.assertEqual(states, {"queued"})
            c.sock.close()  # the first one goes, the next one comes
            response.close()
            self.assertEqual(d.bnctl("wait", waiting).returncode, 0)
            self.assertIn("Paris", d.bnctl("output", waiting).stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
