"""The table of speeds: from records of single visits to text.

A record is what one visit to one group of lines gave: {"group", "threads", "zeros", "limits",
"ours": {"rates", "cost", "anon_mb"}, "peers": {name: rates}}. Ours, every peer and the limits were
measured one after the other, so that shares and ratios are taken inside a visit, and the table
shows their medians: the machine changes from minute to minute, a visit lasts seconds."""

import json
import os

MAX_STEP_ROWS = 512   # of the engine; a longer prompt reads the weights several times
KV_PAGE = 32
ALLOWED_BEYOND_KV_MB = 40
ALLOWED_FACTOR = 1.2
MAX_OTHERS = 0.04     # of the processors, in a visit that counts


def rates_as_text(rates):
    return {" ".join(map(str, key)): rate for key, rate in rates.items()}


def rates_from_text(rates):
    keys = [text.split() for text in rates]
    return {(k[0], int(k[1]), int(k[2])): r for k, r in zip(keys, rates.values())}


def with_rates(record, convert):
    """A copy in which the keys of all rates are text, or tuples again."""
    record = dict(record)
    if "ours" in record:
        record["ours"] = dict(record["ours"], rates=convert(record["ours"]["rates"]))
        record["peers"] = {n: convert(r) for n, r in record["peers"].items()}
    return record


def add_record(path, record):
    with open(path, "a", encoding="utf-8") as f:
        f.write(json.dumps(with_rates(record, rates_as_text)) + "\n")


def read_records(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [with_rates(json.loads(line), rates_from_text) for line in f]


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def step_needs(key, cost, zeros):
    """(tokens, MB read, million multiply-adds) of one step of decoding, or of a whole prompt."""
    kind, batch, length = key
    weights = cost["weights_mb"] - zeros * cost["up_down_mb"]
    if kind == "prefill":
        steps = -(-length // MAX_STEP_ROWS)
        return (batch * length, batch * steps * weights,
                batch * (length * cost["layer_mmac"] + cost["head_mmac"]))
    return (batch, weights + batch * length * cost["kv_bytes"] / 1e6,
            batch * (cost["layer_mmac"] + cost["head_mmac"]))


def ceiling(key, record):
    """Tokens per second if memory, or the multipliers, were always busy: whichever is less."""
    tokens, mb, mmac = step_needs(key, record["ours"]["cost"], record["zeros"])
    limits, threads = record["limits"], record["threads"]
    seconds = mb / 1e3 / limits["read"][min(threads, 2) - 1]
    if limits["dots"] > 0:
        seconds = max(seconds, mmac / 1e3 / (limits["dots"] * threads))
    return tokens / seconds


def describe(key, record):
    kind, batch, length = key
    text = f"prefill {length}" if kind == "prefill" else "decode"
    if kind == "decode" and batch > 1:
        text = f"decode, batch {batch}"
    elif kind == "decode":
        text += f" after {length}" if length else ", empty context"
    if record["zeros"]:
        text += f", gate {record['zeros']:.0%} zero"
    return f"{text}, {record['threads']} thread{'s' if record['threads'] > 1 else ''}"


def wanted(group, key):
    """Prompts of a batch are too short for a line; the empty context beside a long one is there for
    the difference only."""
    kind, _, length = key
    if kind == "prefill":
        return length >= 128
    return length > 0 or not group.startswith("context")


def lines_of(records):
    """[(description, [(key, record)])] in the order of first appearance."""
    lines = {}
    for record in records:
        for key in record.get("ours", {}).get("rates", {}):
            if wanted(record["group"], key):
                lines.setdefault((record["group"], describe(key, record)), []).append((key, record))
    return [(text, visits) for (_, text), visits in lines.items()]


def peer_cells(name, visits):
    theirs = [r["peers"][name][key] for key, r in visits if key in r["peers"].get(name, {})]
    ratios = [r["ours"]["rates"][key] / r["peers"][name][key] for key, r in visits
              if key in r["peers"].get(name, {})]
    if not theirs:
        return ["", ""]
    return [f"{median(theirs):.1f} ({max(theirs):.1f})", f"{median(ratios):.2f}"]


def speed_row(text, visits, peers):
    ours = [record["ours"]["rates"][key] for key, record in visits]
    shares = [record["ours"]["rates"][key] / ceiling(key, record) for key, record in visits]
    key, record = visits[0]
    tokens, mb, _ = step_needs(key, record["ours"]["cost"], record["zeros"])
    row = [text, f"{median(ours):.1f} ({max(ours):.1f})", f"{mb / tokens:.1f}",
           f"{median(shares):.0%}"]
    for name in peers:
        row += peer_cells(name, visits)
    return row


def layout(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    out = []
    for n, row in enumerate(rows):
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        out.append("| " + " | ".join(cells) + " |")
        if n == 0:
            out.append("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(out)


def speeds(records):
    peers = []
    for record in records:
        peers += [name for name in record.get("peers", {}) if name not in peers]
    head = ["line", "ours, tok/s (best)", "MB/token", "of limit"]
    for name in peers:
        head += [f"{name} (best)", "ratio"]
    rows = [speed_row(text, visits, peers) for text, visits in lines_of(records)]
    return layout([head] + rows) if rows else "no speeds measured"


def limits_line(records):
    found = [r["limits"] for r in records if "limits" in r]
    if not found:
        return "no limits measured"
    one, two, dots = ([l["read"][0] for l in found], [l["read"][1] for l in found],
                      [l["dots"] for l in found])
    return (f"limits in {len(found)} visits, median (lowest to highest): read "
            f"{median(one):.1f} GB/s with 1 thread ({min(one):.1f} to {max(one):.1f}), "
            f"{median(two):.1f} with 2 ({min(two):.1f} to {max(two):.1f}); "
            f"vpdpbusd {median(dots):.0f} GMAC/s a core")


def context_lines(records):
    """What the context adds to a token, next to the time of reading its keys and values once."""
    added, least = {}, {}
    for r in records:
        rates = r.get("ours", {}).get("rates", {})
        empty = rates.get(("decode", 1, 0))
        for key, rate in rates.items():
            if key[:2] != ("decode", 1) or key[2] == 0 or not empty:
                continue
            added.setdefault(key[2], []).append(1e3 / rate - 1e3 / empty)
            mb = key[2] * r["ours"]["cost"]["kv_bytes"] / 1e6
            least.setdefault(key[2], []).append(mb / r["limits"]["read"][min(r["threads"], 2) - 1])
    return [f"context of {n}: {median(added[n]):.1f} ms a token more than empty, reading K and V "
            f"once takes {median(least[n]):.1f} ms ({median(added[n]) / median(least[n]):.1f} "
            f"times)" for n in sorted(added)]


def memory_lines(records):
    """Anonymous memory after the longest context against what was allowed for it."""
    found = {}
    for r in records:
        lengths = [key[2] for key in r.get("ours", {}).get("rates", {}) if key[:2] == ("decode", 1)]
        if max(lengths, default=0) > 0:
            positions = -(-(max(lengths) + r["written"]) // KV_PAGE) * KV_PAGE
            kv = positions * r["ours"]["cost"]["kv_bytes"] / 1e6
            found.setdefault((max(lengths), kv), []).append(r["ours"]["anon_mb"])
    return [f"memory beyond the mapped weights with {n} tokens of context: {median(anon):.0f} MB; "
            f"K and V {kv:.0f} MB, allowed {ALLOWED_FACTOR * (kv + ALLOWED_BEYOND_KV_MB):.0f} MB"
            for (n, kv), anon in found.items()]


def other_lines(records):
    def of(group, name):
        return [r[group][name] for r in records if group in r]

    out = []
    if of("load", "ready_ms"):
        out.append(f"load of a packed model in the page cache: "
                   f"{median(of('load', 'ready_ms')):.1f} ms until the first step can start, "
                   f"{median(of('load', 'step_ms')):.0f} ms until a first step of 16 tokens has "
                   f"ended")
    if of("gap", "longest_ms"):
        out.append(f"longest wait for a token while a prompt is read: "
                   f"{median(of('gap', 'longest_ms')):.0f} ms (median "
                   f"{median(of('gap', 'median_ms')):.0f}, alone "
                   f"{median(of('gap', 'alone_ms')):.0f}); the prompt is read at "
                   f"{median(of('gap', 'read_rate')):.0f} tok/s meanwhile")
    return out


def calm(records):
    """Without the visits in which others took too much of the machine, and a line about those."""
    left = [r for r in records if r.get("others", 0) <= MAX_OTHERS]
    n, total = len(records) - len(left), len(records)
    return left, [f"left out: {n} of {total} visits, in which others took more than "
                  f"{MAX_OTHERS:.0%} of the processors"] if n else []


def render(records):
    records, remark = calm(records)
    return "\n".join(remark + [limits_line(records), "", speeds(records), ""] +
                     context_lines(records) + memory_lines(records) +
                     other_lines(records)).rstrip()
