"""Embeddings over HTTP: shapes of OpenAI and Ollama, the same bits in any company, clear errors."""

import base64
import concurrent.futures
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import unittest

from harness import BUILD, SOURCE, have, running

WIDTH = 256
POOLINGS = {"mean": 1, "first": 2, "last": 3}
TEXTS = ["A cat sat on the mat.", "Tax law of 1911", "naïve café", "x", "one two " * 40]


def make_models(folder):
    for name, pooling in [*POOLINGS.items(), ("words", None)]:
        option = ["--pooling", str(pooling)] if pooling else []
        subprocess.run([os.path.join(BUILD, "tests/tools/make-model"), "--arch", "llama", "--vocab",
                        "300", "--ctx", "512", "--layers", "2", "--seed", "3", *option, "-o",
                        os.path.join(folder, name + ".gguf")], check=True, capture_output=True)


class Embeddings(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        os.chmod(cls.folder.name, 0o755)
        make_models(cls.folder.name)
        cls.context = running(**cls.options())
        cls.d = cls.context.__enter__()

    @classmethod
    def options(cls):
        return {"model_dir": cls.folder.name, "state": os.path.join(cls.folder.name, "state"),
                "config": "[Default]\nMaxConcurrentJobs=8\n"}

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)
        cls.folder.cleanup()

    def post(self, path, body, status=200, d=None):
        got, _, data = (d or self.d).request("POST", path, body)
        self.assertEqual(got, status, data)
        return json.loads(data)

    def vectors(self, texts, model="mean", d=None, **fields):
        r = self.post("/v1/embeddings", {"model": model, "input": texts, **fields}, d=d)
        self.assertEqual([v["index"] for v in r["data"]], list(range(len(r["data"]))))
        return [v["embedding"] for v in r["data"]]

    def test_shape(self):
        r = self.post("/v1/embeddings", {"model": "mean", "input": TEXTS})
        self.assertEqual((r["object"], r["model"]), ("list", "mean"))
        self.assertEqual({v["object"] for v in r["data"]}, {"embedding"})
        self.assertGreater(r["usage"]["prompt_tokens"], 300)
        self.assertEqual(r["usage"]["prompt_tokens"], r["usage"]["total_tokens"])
        for v in r["data"]:
            self.assertEqual(len(v["embedding"]), WIDTH)
            self.assertAlmostEqual(math.hypot(*v["embedding"]), 1, places=6)
        self.assertEqual(len({tuple(v["embedding"]) for v in r["data"]}), len(TEXTS))

    def test_base64_has_the_same_bits(self):
        for v, code in zip(self.vectors(TEXTS), self.vectors(TEXTS, encoding_format="base64")):
            numbers = struct.unpack(f"<{WIDTH}f", base64.b64decode(code, validate=True))
            self.assertEqual([struct.unpack("<f", struct.pack("<f", x))[0] for x in v],
                             list(numbers))

    def test_poolings(self):
        # The first token is the same for all texts (BOS), so its state is, too.
        first = self.vectors(TEXTS, "first")
        self.assertTrue(all(v == first[0] for v in first))
        mean, last = self.vectors(TEXTS, "mean"), self.vectors(TEXTS, "last")
        self.assertTrue(all(a != b for a, b in zip(mean, last)))

    def test_company_threads_and_instruction_sets_change_nothing(self):
        wanted = {m: self.vectors(TEXTS, m) for m in POOLINGS}
        many = self.vectors(TEXTS * 12)
        self.assertEqual(many, wanted["mean"] * 12)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            alone = list(pool.map(lambda t: self.vectors(t)[0], TEXTS * 4))
        self.assertEqual(alone, wanted["mean"] * 4)
        for options in (("--threads", "1"), ("--threads", "2", "--cpu", "c")):
            with running(*options, **self.options()) as d:
                for model, vectors in wanted.items():
                    self.assertEqual(self.vectors(TEXTS, model, d=d), vectors, options)

    def test_ollama(self):
        wanted = self.vectors(TEXTS)
        r = self.post("/api/embed", {"model": "mean:latest", "input": TEXTS})
        self.assertEqual((r["model"], r["embeddings"]), ("mean", wanted))
        self.assertGreater(r["prompt_eval_count"], 0)
        self.assertGreater(r["total_duration"], 0)
        self.assertEqual(self.post("/api/embed", {"model": "mean", "input": TEXTS[0]})[
            "embeddings"], wanted[:1])
        self.assertEqual(self.post("/api/embeddings", {"model": "mean", "prompt": TEXTS[0]}),
                         {"embedding": wanted[0]})
        for model, able in (("mean", ["embedding"]), ("words", ["completion", "tools"])):
            self.assertEqual(self.post("/api/show", {"model": model})["capabilities"], able)

    def test_refusals(self):
        def refused(fields, param, word, path="/v1/embeddings"):
            e = self.post(path, {"model": "mean", "input": "x", **fields}, 400)["error"]
            self.assertEqual(e["param"], param)
            self.assertIn(word, e["message"])
            return e
        refused({"model": "words"}, "model", "generates text")
        refused({"input": []}, "input", "texts")
        refused({"input": ["a"] * 2049}, "input", "2048")
        refused({"input": ["a", ""]}, "input", "character")
        refused({"input": [1, 2]}, "input", "string")
        refused({"input": None}, "input", "string")
        refused({"dimensions": 64}, "dimensions", "256")
        refused({"encoding_format": "int8"}, "encoding_format", "base64")
        e = refused({"input": ["fits", "word " * 600]}, "input", "context")
        self.assertEqual((e["code"], e["n_ctx"]), ("context_length_exceeded", 512))
        self.assertEqual(len(self.vectors("x", dimensions=WIDTH)), 1)
        messages = [{"role": "user", "content": "x"}]
        refused({"messages": messages}, "model", "embeddings", "/v1/chat/completions")
        refused({"prompt": "x"}, "model", "embeddings", "/v1/completions")
        self.assertIn("embeddings", self.post("/api/chat", {"model": "mean", "messages": messages},
                                              400)["error"])

    def test_quota(self):
        options = {**self.options(), "config": "[Default]\nAllowVerbs=chat complete\n"}
        with running(**options) as d:
            self.post("/v1/embeddings", {"model": "mean", "input": "x"}, 403, d)

    @unittest.skipUnless(have("openai", "ollama"), "the packages openai and ollama are not there")
    def test_clients(self):
        program = os.path.join(SOURCE, "tests/e2e/clients/embeddings_python.py")
        r = subprocess.run([sys.executable, program, self.d.socket, "mean"], capture_output=True,
                           text=True, timeout=300, check=False)
        self.assertEqual((r.returncode, r.stdout), (0, "ok\n"), r.stderr)

    def test_hang_up(self):
        c = self.d.request
        with self.assertRaises(TimeoutError):
            c("POST", "/v1/embeddings", {"model": "mean", "input": ["many words " * 40] * 2000},
              timeout=0.3)
        self.assertEqual(len(self.vectors("x")), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
