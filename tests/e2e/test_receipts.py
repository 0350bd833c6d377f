"""Receipts: the same request again has the same digests, on every instruction set; another input,
seed or model has not; and nothing in them is a digest of the text alone."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import unittest

from harness import MODELS, SMOL, STATE, TINY, events, running

TEXT = ("The committee met on Tuesday to discuss the new library. Members agreed that the building "
        "needs a larger reading room. The mayor promised to find the money. ") * 8
DRAWN = ["--temperature=1", "--seed=7", "--max-tokens=24"]


class Receipts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = running()
        cls.d = cls.context.__enter__()
        cls.dir = tempfile.mkdtemp()
        cls.path = os.path.join(cls.dir, "receipt.json")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)
        cls.context.__exit__(None, None, None)

    def ok(self, *args, **kw):
        r = self.d.bnctl(*args, **kw)
        self.assertEqual((r.returncode, r.stderr), (0, ""), r.stdout)
        return r.stdout

    def read(self):
        with open(self.path, encoding="utf-8") as f:
            return json.load(f)

    def write(self, receipt):
        with open(self.path, "w", encoding="utf-8") as f:
            json.dump(receipt, f)

    def replay(self, *args, d=None, **kw):
        r = (d or self.d).bnctl("replay", "-q", self.path, *args, **kw)
        self.assertEqual(r.stderr, "")
        self.assertEqual(r.returncode, 0 if r.stdout == "equal\n" else 1, r.stdout)
        return r.stdout.strip()

    def test_ask(self):
        answer = self.ok("ask", "-q", "Tell me a story.", "--receipt", self.path, "-s", "Be odd.",
                         "--stop=zzzz", *DRAWN)
        receipt = self.read()
        self.assertEqual(receipt["parameters"]["seed"], 7)
        self.assertEqual(receipt["usage"]["tokens_out"], 24)
        self.assertEqual(receipt["model"]["name"], SMOL)
        same = ("Tell me a story.", "-s", "Be odd.", "--stop=zzzz")
        self.assertEqual(self.replay(*same), "equal")
        self.assertEqual(self.replay("Tell me a tale.", *same[1:]),
                         "not equal: the input is another one")
        self.assertEqual(self.replay(*same[:-1]), "not equal: the input is another one")
        self.assertEqual(self.replay(same[0], "--stop=zzzz"), "not equal: the input is another one")
        for key, value, why in (("seed", 8, "answer"), ("temperature", 0.0, "answer"),
                                ("max_tokens", 20, "answer")):
            self.write({**receipt, "parameters": {**receipt["parameters"], key: value}})
            self.assertEqual(self.replay(*same), f"not equal: the {why} is another one")
        self.write({**receipt, "model": {**receipt["model"], "name": TINY}})
        self.assertEqual(self.replay(*same), "not equal: the model is another one")
        # Neither the texts nor digests that everybody could make are in it.
        words = json.dumps(receipt)
        self.assertNotIn("story", words)
        for text in (answer, answer[:-1], same[0]):
            self.assertNotIn(hashlib.blake2b(text.encode(), digest_size=32).hexdigest(), words)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(STATE, "receipt-key")).st_mode), 0o600)

    def test_summarize(self):
        path = os.path.join(self.dir, "text")
        with open(path, "w", encoding="utf-8") as f:
            f.write(TEXT)
        self.ok("summarize", "-q", "--receipt", self.path, "--length=medium", path)
        receipt = self.read()
        self.assertEqual(self.replay(path), "equal")
        self.assertEqual(self.replay("-", stdin=TEXT), "equal")
        self.assertEqual(self.replay("-", stdin=TEXT + "x"), "not equal: the input is another one")
        self.write({**receipt, "parameters": {**receipt["parameters"], "type": "headline"}})
        self.assertEqual(self.replay(path), "not equal: the answer is another one")
        for name, value in (("temperature", 0.5), ("repeat_penalty", 1.2)):
            self.write({**receipt, "parameters": {**receipt["parameters"], name: value}})
            r = self.d.bnctl("replay", "-q", self.path, path)
            self.assertEqual((r.returncode, r.stdout), (2, ""))
            self.assertIn("sampled", r.stderr)
        status, _, data = self.d.request("POST", "/v1/summarize?receipt=true", TEXT.encode(),
                                         {"Accept": "text/plain"})
        error = json.loads(data)["error"]
        self.assertEqual((status, error["code"], error["param"]), (400, "unsupported", "receipt"))

    def test_seeds_of_64_bits(self):
        ask = {"max_tokens": 8, "temperature": 1, "bn": {"receipt": True}}
        drawn = self.d.chat("Hello!", seed=-2, **ask)[1]["bn"]["receipt"]
        self.assertEqual(drawn["parameters"]["seed"], -2)
        self.write(drawn)
        self.assertEqual(self.replay("Hello!"), "equal")

    def test_another_instruction_set(self):
        self.ok("ask", "-q", "Tell me a story.", "--receipt", self.path, *DRAWN)
        isa = self.read()["engine"]["isa"]
        for level in ("c", "avx2"):
            with running("--cpu", level) as other:
                self.assertEqual(self.replay("Tell me a story.", d=other), "equal")
                _, r = other.chat("x", model=TINY, max_tokens=2, bn={"receipt": True})
                self.assertEqual(r["bn"]["receipt"]["engine"]["isa"], level)
        self.assertTrue(isa)

    def test_another_installation_has_another_key(self):
        models, state = os.path.join(self.dir, "models"), os.path.join(self.dir, "state")
        os.mkdir(models)
        os.mkdir(state, 0o700)
        shutil.copy(os.path.join(MODELS, "tinystories-3m.gguf"), models)
        ask = {"model": TINY, "max_tokens": 4, "bn": {"receipt": True}}
        here = self.d.chat("Once", **ask)[1]["bn"]["receipt"]
        there = []
        for _ in range(2):
            with running(model_dir=models, state=state) as other:
                there.append(other.chat("Once", **ask)[1]["bn"]["receipt"])
            # The model's digest may be another one: how it is packed was measured anew.
            self.assertNotEqual(there[-1]["input"], here["input"])
            self.assertNotEqual(there[-1]["output"], here["output"])
        # The key outlives the daemon.
        self.assertEqual(there[0]["output"], there[1]["output"])

    def test_http(self):
        def receipt(**fields):
            status, r = self.d.chat("Hello!", bn={"receipt": True}, max_tokens=6, seed=1, **fields)
            self.assertEqual(status, 200, r)
            return r["bn"]["receipt"]

        whole = receipt()
        self.assertEqual(receipt(), whole)
        _, _, data = self.d.request("POST", "/v1/chat/completions", {
            "model": SMOL, "messages": [{"role": "user", "content": "Hello!"}], "stream": True,
            "max_tokens": 6, "seed": 1, "bn": {"receipt": True}})
        last = [json.loads(e) for e in events(data)[:-1]]
        self.assertEqual(last[-1]["bn"]["receipt"], whole)
        self.assertTrue(all("bn" not in e for e in last[:-1]))
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        self.assertNotEqual(receipt(response_format=schema)["input"], whole["input"])
        status, _, data = self.d.request("POST", "/v1/responses", {
            "model": SMOL, "input": "Hello!", "max_output_tokens": 6, "seed": 1,
            "bn": {"receipt": True}})
        self.assertEqual(json.loads(data)["bn"]["receipt"], whole)
        _, r = self.d.chat("Hello!", max_tokens=2)
        self.assertNotIn("bn", r)
        status, r = self.d.chat("Hello!", bn={"receipt": "yes"})
        self.assertEqual((status, r["error"]["param"]), (400, "bn.receipt"))

    def test_refusals(self):
        for args, status in ((("replay",), 2), (("replay", "/nowhere"), 66),
                             (("ask", "x", "--detach", "--receipt", self.path), 2),
                             (("replay", os.devnull, "x"), 66)):
            self.assertEqual(self.d.bnctl(*args).returncode, status, args)
        r = self.d.bnctl("ask", "-q", "-n2", "x", "--receipt", "/nowhere/r.json")
        self.assertEqual(r.returncode, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
