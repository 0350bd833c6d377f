"""The session bus: a GLib program gets a summary by descriptor, standard tools introspect, and the
interface carries no text."""

import json
import os
import re
import subprocess
import sys
import unittest

from harness import SOURCE, running, session_bus

CLIENT = os.path.join(SOURCE, "tests/e2e/bus_client.py")
JOBS = os.path.join(SOURCE, "tests/e2e/bus_jobs.py")
SYSTEM_PYTHON = "/usr/bin/python3"
TEXT = ("The town of Marel built a new bridge over the river last year. It took eight months and "
        "cost four million. Before the bridge, people had to take a ferry that ran twice a day. "
        "Now farmers reach the market in ten minutes, and the ferry has become a restaurant. ")

# Every string argument of the interface, and what it may hold: names and words, never text.
WORDS = {"model", "use_case", "reason", "message", "result", "state", "verb", "name", "priority",
         "default_model", "id", "error"}


class Bus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        address = cls.enterClassContext(session_bus())
        cls.env = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address)
        cls.d = cls.enterClassContext(running(env={"DBUS_SESSION_BUS_ADDRESS": address}))

    def tool(self, *args, **kw):
        r = subprocess.run(args, env=self.env, capture_output=True, text=True, timeout=180,
                           check=False, **kw)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def test_summarize_by_descriptor(self):
        out = self.tool(SYSTEM_PYTHON, CLIENT, "session", "Summarize", input=TEXT)
        self.assertIn("result: done", out)
        self.assertIn("bridge", out.split("result:")[0].lower())

    def test_generate_by_descriptor(self):
        out = self.tool(SYSTEM_PYTHON, CLIENT, "session", "Generate",
                        input="What is the capital of France?")
        self.assertIn("Paris", out)
        self.assertIn("result: done", out)

    def events(self, method, request, *options):
        out = self.tool(SYSTEM_PYTHON, CLIENT, "session", method, "output=events",
                        "input-format=request-json", *options, input=json.dumps(request))
        lines = [json.loads(line) for line in out.split("\nresult:")[0].split("\n") if line]
        self.assertEqual((lines[-1]["done"], lines[-1]["error"]), (True, None))
        self.assertIn("result: done", out)
        return lines

    def test_verbs(self):
        lines = self.events("Rewrite", {"text": TEXT}, "tone=more-formal")
        self.assertGreater(len("".join(v.get("text", "") for v in lines)), 50)
        self.assertEqual(lines[-1]["coverage"]["bytes"], len(TEXT))
        faulty = "The the committee have decided to postpone there decision untill next week."
        lines = self.events("Proofread", {"text": faulty})
        text = "".join(v.get("text", "") for v in lines)
        at, out = 0, ""
        for c in (v["correction"] for v in lines if "correction" in v):
            out += faulty[at:c["start"]] + c["correction"]
            at = c["end"]
        self.assertEqual(out + faulty[at:], text)
        self.assertGreater(at, 0)
        schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                  "required": ["city"], "additionalProperties": False}
        lines = self.events("Extract", {"text": TEXT, "schema": schema})
        self.assertEqual(list(json.loads("".join(v.get("text", "") for v in lines))), ["city"])
        lines = self.events("Classify", {"text": TEXT, "labels": ["good", "bad"]})
        scores = next(v for v in lines if "scores" in v)["scores"]
        self.assertAlmostEqual(sum(s["score"] for s in scores), 1, places=9)
        out = self.tool(SYSTEM_PYTHON, CLIENT, "session", "Classify", input=TEXT)
        self.assertIn("result: failed", out) # labels go in the input
        out = self.tool(SYSTEM_PYTHON, CLIENT, "session", "Embed", input=TEXT)
        self.assertIn("org.bitnetd.Bitnetd1.Error.Unsupported", out)
        r = subprocess.run([SYSTEM_PYTHON, CLIENT, "session", "Rewrite", "type=tldr"], input=TEXT,
                           env=self.env, capture_output=True, text=True, check=False)
        self.assertIn("Error.InvalidInput", r.stderr)

    def test_receipt(self):
        lines = self.events("Generate", {"seed": 3, "messages": [
            {"role": "user", "content": "Hello!"}]}, "receipt=true")
        _, r = self.d.chat("Hello!", seed=3, max_tokens=60, bn={"receipt": True})
        self.assertEqual(lines[-1]["bn"], r["bn"])
        self.assertEqual([v for v in lines[:-1] if "bn" in v], [])
        self.assertIn("receipt", self.events("Summarize", {"text": TEXT}, "receipt=true")[-1]["bn"])
        drawn = [self.events("Summarize", {"text": TEXT, "temperature": 0.5, "seed": seed},
                             "receipt=true")[-1]["bn"]["receipt"] for seed in (1, 2)]
        self.assertEqual([r["parameters"]["seed"] for r in drawn], [1, 2])
        self.assertEqual(drawn[0]["parameters"]["temperature"], 0.5)
        # Text has no place for it, nor are dimensions of other faces' rules.
        for method, request in (("Summarize", {"text": TEXT, "bn": {"receipt": True}}),
                                ("Embed", {"input": "x", "dimensions": 0})):
            out = self.tool(SYSTEM_PYTHON, CLIENT, "session", method, "input-format=request-json",
                            input=json.dumps(request))
            self.assertIn("result: failed", out)
            self.assertIn("Unsupported" if method == "Summarize" else "InvalidInput", out)
        for method, options in (("Generate", []), ("Rewrite", ["output=events"])):
            r = subprocess.run([SYSTEM_PYTHON, CLIENT, "session", method, "receipt=true", *options],
                               input=TEXT, env=self.env, capture_output=True, text=True,
                               check=False)
            self.assertIn("Error.InvalidInput", r.stderr)

    def test_left_and_come_back_to(self):
        out = json.loads(self.tool(SYSTEM_PYTHON, JOBS, self.env["DBUS_SESSION_BUS_ADDRESS"]))
        self.assertEqual((out["result"], out["tokens"]), ("done", 300))
        self.assertGreater(len(out["text"]), 300)
        self.assertTrue(out["known"])  # the path, before the call
        self.assertEqual((out["paths"], out["others"]), ([], 0))  # signals: its own, to it alone
        self.assertGreater(len(out["progressed"]), 0)
        self.assertLessEqual(len(out["progressed"]), out["seconds"] * 4 + 1)
        written = [details["tokens-out"] for _, details in out["progressed"]]
        self.assertEqual(written, sorted(written))

    def introspect(self):
        return self.tool("gdbus", "introspect", "--session", "--dest", "org.bitnetd.Bitnetd1",
                         "--object-path", "/org/bitnetd/Bitnetd1", "--xml")

    def test_no_text_on_the_bus(self):
        xml = self.introspect()
        manager = xml.split('interface name="org.bitnetd.Bitnetd1.Manager"')[1]
        manager = manager.split("</interface>")[0]
        self.assertIn('method name="Summarize"', manager)
        for method in re.findall(r"<method .*?</method>", manager, re.S):
            for tag in re.findall(r"<arg [^>]*>", method):
                kind = re.search(r'type="([^"]*)"', tag).group(1)
                name = re.search(r'name="([^"]*)"', tag)
                self.assertIsNotNone(name, f"unnamed argument in {method}")
                if kind == "s":
                    self.assertIn(name.group(1), WORDS)
                self.assertNotIn("ay", kind)

    def test_busctl(self):
        out = self.tool("busctl", "--address=" + self.env["DBUS_SESSION_BUS_ADDRESS"],
                        "introspect", "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1",
                        "org.bitnetd.Bitnetd1.Manager")
        for member in (".Generate", ".Summarize", ".ListJobs", ".CancelAll", ".GetAvailability"):
            self.assertIn(member, out)


if __name__ == "__main__":
    if subprocess.run([SYSTEM_PYTHON, "-c", "import gi"], check=False).returncode != 0:
        print("skipped: python3-gi is not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
