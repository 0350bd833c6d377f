"""What the measuring programs print, as numbers. A program whose output does not look as expected
raises ValueError: a silent zero would look like a result.

Rates are tokens per second, keyed ("prefill", batch, prompt) and ("decode", batch, context)."""

import re


def limits(text):
    """bench-limits: GB/s of one and of two threads, GMAC/s of a core (0: no such instruction)."""
    read = re.search(r"read bandwidth: ([\d.]+) GB/s \(1 thread\), ([\d.]+) GB/s \(2 threads\)",
                     text)
    dots = re.search(r"vpdpbusd on 512 bits: ([\d.]+) GMAC/s per core", text)
    if not read or not dots:
        raise ValueError("no limits in: " + text[-300:])
    return {"read": [float(read[1]), float(read[2])], "dots": float(dots[1])}


def bench_engine(text):
    """Rates (median of what one call measured), the costs of the model, anonymous memory."""
    rates = {}
    for m in re.finditer(r"^(prefill|decode) (\d+) x (\d+)(?: after (\d+))?: best [\d.]+ tok/s,"
                         r" median ([\d.]+) tok/s$", text, re.M):
        length = m[4] if m[1] == "decode" else m[3]
        rates[m[1], int(m[2]), int(length)] = float(m[5])
    cost = re.search(r"^([\d.]+) MB of weights a step \(up and down ([\d.]+) MB\), ([\d.]+) MMAC a "
                     r"token in the layers, ([\d.]+) in the head, KV (\d+) bytes a position$",
                     text, re.M)
    memory = re.search(r"^RssAnon:\s+(\d+) kB$", text, re.M)
    if not rates or not cost or not memory:
        raise ValueError("not the output of bench-engine: " + text[-300:])
    names = ("weights_mb", "up_down_mb", "layer_mmac", "head_mmac", "kv_bytes")
    return {"rates": rates, "cost": dict(zip(names, map(float, cost.groups()))),
            "anon_mb": int(memory[1]) * 1024 / 1e6}


def batched_bench(text):
    """llama-batched-bench of llama.cpp and its relatives. Its smallest prompt is one token: that is
    counted as the empty context. Several rows of one kind: the median."""
    found = {}
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if len(cells) != 10 or not re.fullmatch(r"\d+", cells[0]):
            continue
        prompt, written, batch = map(int, cells[:3])
        if prompt > 1:
            found.setdefault(("prefill", batch, prompt), []).append(float(cells[5]))
        if written > 0:
            context = prompt if prompt > 1 else 0
            found.setdefault(("decode", batch, context), []).append(float(cells[7]))
    if not found:
        raise ValueError("not the output of llama-batched-bench: " + text[-300:])
    return {key: sorted(v)[len(v) // 2] for key, v in found.items()}


def load(text):
    """bench-engine --load: ms until the engine is ready, and until its first step has ended."""
    m = re.search(r"^load: ready after best [\d.]+ ms, median ([\d.]+) ms; first step of \d+ "
                  r"tokens ended after best [\d.]+ ms, median ([\d.]+) ms$", text, re.M)
    if not m:
        raise ValueError("not the output of bench-engine --load: " + text[-300:])
    return {"ready_ms": float(m[1]), "step_ms": float(m[2])}


def gap(text):
    """bench-gap: ms between two tokens, alone and while a prompt is read, and how fast that is."""
    alone = re.search(r"^alone +\d+ gaps: median +([\d.]+) ms", text, re.M)
    beside = re.search(r"^while a prompt is read +\d+ gaps: median +([\d.]+) ms, .*"
                       r"worst +([\d.]+)$", text, re.M)
    read = re.search(r"^(\d+) of \d+ tokens of the prompt were read in ([\d.]+) s$", text, re.M)
    if not alone or not beside or not read:
        raise ValueError("not the output of bench-gap: " + text[-300:])
    return {"alone_ms": float(alone[1]), "median_ms": float(beside[1]),
            "longest_ms": float(beside[2]), "read_rate": int(read[1]) / float(read[2])}
