#!/usr/bin/env python3
"""The parsers and the printer of bench-table on outputs as the programs print them; nothing is
timed. The programs' own half is that they print exactly these forms."""

import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import outputs  # noqa: E402
import table  # noqa: E402

LIMITS = """read bandwidth: 30.0 GB/s (1 thread), 50.0 GB/s (2 threads)
vpdpbusd on 512 bits: 200.0 GMAC/s per core
"""
ENGINE = """decode 1 x 32 after 0: best 40.00 tok/s, median 37.50 tok/s
prefill 1 x 2048: best 151.00 tok/s, median 150.00 tok/s
decode 1 x 32 after 2048: best 31.00 tok/s, median 30.00 tok/s
800.0 MB of weights a step (up and down 200.0 MB), 2000.0 MMAC a token in the layers, 400.0 in the \
head, KV 100000 bytes a position
VmHWM:\t  900000 kB
RssAnon:\t  250000 kB
"""
BATCHED = """llama_init_from_model: n_ctx         = 4096

main: n_kv_max = 4096, n_batch = 2048, n_ubatch = 512, flash_attn = 1, is_pp_shared = 0

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|     1 |     32 |    1 |     33 |    0.051 |    19.62 |    0.943 |    25.00 |    0.994 |    33.21 |
|  2048 |     32 |    1 |   2080 |   19.586 |   100.00 |    1.691 |    20.00 |   21.278 |    97.75 |
|    16 |     16 |    4 |    128 |    0.859 |    74.50 |    1.410 |    45.38 |    2.269 |    56.41 |
"""
LOAD = ("load: ready after best 12.00 ms, median 13.50 ms; first step of 16 tokens ended after "
        "best 140.00 ms, median 150.00 ms\n")
GAP = """alone                     70 gaps: median   28.1 ms, 95 % under   29.0, worst   31.2
while a prompt is read   310 gaps: median   61.5 ms, 95 % under   80.0, worst  133.0
4000 of 4000 tokens of the prompt were read in 50.00 s
"""


def context_record():
    return {"group": "context-2048", "threads": 2, "zeros": 0, "written": 32,
            "limits": outputs.limits(LIMITS), "ours": outputs.bench_engine(ENGINE),
            "peers": {"other": outputs.batched_bench(BATCHED)}}


class Outputs(unittest.TestCase):
    def test_limits(self):
        self.assertEqual(outputs.limits(LIMITS), {"read": [30.0, 50.0], "dots": 200.0})

    def test_engine(self):
        got = outputs.bench_engine(ENGINE)
        self.assertEqual(got["rates"], {("decode", 1, 0): 37.5, ("prefill", 1, 2048): 150.0,
                                        ("decode", 1, 2048): 30.0})
        self.assertEqual(got["cost"], {"weights_mb": 800.0, "up_down_mb": 200.0,
                                       "layer_mmac": 2000.0, "head_mmac": 400.0,
                                       "kv_bytes": 100000.0})
        self.assertAlmostEqual(got["anon_mb"], 256.0)

    def test_batched_bench(self):
        self.assertEqual(outputs.batched_bench(BATCHED), {
            ("decode", 1, 0): 25.0, ("prefill", 1, 2048): 100.0, ("decode", 1, 2048): 20.0,
            ("prefill", 4, 16): 74.5, ("decode", 4, 16): 45.38})

    def test_load_and_gap(self):
        self.assertEqual(outputs.load(LOAD), {"ready_ms": 13.5, "step_ms": 150.0})
        self.assertEqual(outputs.gap(GAP), {"alone_ms": 28.1, "longest_ms": 133.0,
                                            "median_ms": 61.5, "read_rate": 80.0})

    def test_garbage_is_no_result(self):
        for parse in (outputs.limits, outputs.bench_engine, outputs.batched_bench, outputs.load,
                      outputs.gap):
            for text in ("", "error: unable to load model\n"):
                with self.assertRaises(ValueError, msg=parse.__name__):
                    parse(text)
        for line in ENGINE.splitlines()[-3], ENGINE.splitlines()[-1]:
            with self.assertRaises(ValueError):
                outputs.bench_engine(ENGINE.replace(line, ""))


class Table(unittest.TestCase):
    def test_ceilings(self):
        record = context_record()
        # 800 MB at 50 GB/s are 16 ms; 2400 MMAC at 400 GMAC/s are 6
        self.assertAlmostEqual(table.ceiling(("decode", 1, 0), record), 62.5)
        # and 204.8 MB of keys and values
        self.assertAlmostEqual(table.ceiling(("decode", 1, 2048), record), 50 / 1.0048)
        # sixteen tokens a step multiply for 96 ms
        self.assertAlmostEqual(table.ceiling(("decode", 16, 0), record), 16 / 0.096)
        # 2048 * 2000 + 400 MMAC: the head once
        self.assertAlmostEqual(table.ceiling(("prefill", 1, 2048), record),
                               2048 / (4096.4 / 400))
        # half of the zeros saves 100 MB
        self.assertAlmostEqual(table.ceiling(("decode", 1, 0), dict(record, zeros=0.5)), 50 / 0.7)
        # one thread reads 30 GB/s; without the instruction only memory counts
        self.assertAlmostEqual(table.ceiling(("decode", 1, 0), dict(record, threads=1)), 37.5)
        record["limits"]["dots"] = 0.0
        self.assertAlmostEqual(table.ceiling(("decode", 16, 0), record), 1000)

    def test_text(self):
        slower = context_record()
        slower["ours"]["rates"] = {k: r / 2 for k, r in slower["ours"]["rates"].items()}
        text = table.render([context_record(), slower, context_record(),
                             {"group": "load", "load": outputs.load(LOAD)},
                             {"group": "gap", "gap": outputs.gap(GAP)}])
        for expected in (
                "limits in 3 visits, median (lowest to highest): read 30.0 GB/s with 1 thread "
                "(30.0 to 30.0), 50.0 with 2 (50.0 to 50.0); vpdpbusd 200 GMAC/s a core",
                "| line | ours, tok/s (best) | MB/token | of limit |"
                " other (best) | ratio |",
                "| decode after 2048, 2 threads | 30.0 (30.0) | 1004.8 | 60% |"
                " 20.0 (20.0) | 1.50 |",
                "| prefill 2048, 2 threads",
                "context of 2048: 6.7 ms a token more than empty, reading K and V once takes "
                "4.1 ms (1.6 times)",
                "memory beyond the mapped weights with 2048 tokens of context: 256 MB; K and V "
                "208 MB, allowed 298 MB",
                "13.5 ms until the first step can start, 150 ms until",
                "longest wait for a token while a prompt is read: 133 ms (median 62, alone 28); "
                "the prompt is read at 80 tok/s meanwhile"):
            self.assertIn(" ".join(expected.split()), " ".join(text.split()))

    def test_lines_without_a_peer(self):
        record = context_record()
        record["peers"]["other"].pop(("decode", 1, 2048))
        row = next(line for line in table.render([record]).split("\n") if "after 2048" in line)
        self.assertEqual([c.strip() for c in row.strip("|").split("|")[-2:]], ["", ""])

    def test_disturbed_visits_do_not_count(self):
        disturbed = dict(context_record(), others=0.3)
        disturbed["ours"] = dict(disturbed["ours"], rates={("decode", 1, 2048): 1.0})
        text = table.render([context_record(), disturbed])
        self.assertIn("left out: 1 of 2 visits", text)
        self.assertIn("| 30.0 (30.0) |", " ".join(text.split()))
        self.assertIn("no speeds measured", table.render([disturbed]))

    def test_results_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "results")
            self.assertEqual(table.read_records(path), [])
            records = [context_record(), {"group": "load", "load": outputs.load(LOAD)}]
            for record in records:
                table.add_record(path, record)
            self.assertEqual(table.read_records(path), records)


if __name__ == "__main__":
    unittest.main()
