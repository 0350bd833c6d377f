#!/usr/bin/env python3
"""The embedded model in plain float32 (numpy), written from its layout alone and sharing nothing
with the engine: what the engine's answers are measured against. Slow; run by hand.

  float32.py MODEL.gguf golden GOLDEN.json      check this program against the golden answers
  float32.py MODEL.gguf questions QUESTIONS.json   greedy answers, one JSON line each
"""

import json
import struct
import sys

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}
EPSILON = 1e-5


class Gguf:
    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        self.raw = self.data.tobytes()
        self.at = 8
        n_tensors, n_kv = self.take("QQ")
        self.meta = {}
        for _ in range(n_kv):
            key = self.string()
            self.meta[key] = self.value(self.take("I")[0])
        self.tensors = {}
        for _ in range(n_tensors):
            name = self.string()
            (n_dims,) = self.take("I")
            dims = self.take("Q" * n_dims)
            kind, offset = self.take("IQ")
            self.tensors[name] = (dims[::-1], kind, offset)
        align = self.meta.get("general.alignment", 32)
        self.base = (self.at + align - 1) // align * align

    def take(self, layout):
        out = struct.unpack_from("<" + layout, self.raw, self.at)
        self.at += struct.calcsize("<" + layout)
        return out

    def string(self):
        (n,) = self.take("Q")
        self.at += n
        return self.raw[self.at - n:self.at].decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            element, n = self.take("IQ")
            return [self.value(element) for _ in range(n)]
        return self.take(SCALARS[kind])[0]

    def tensor(self, name):
        shape, kind, offset = self.tensors[name]
        dtype = {0: np.float32, 24: np.uint8}[kind]
        n = int(np.prod(shape))
        return np.frombuffer(self.raw, dtype, n, self.base + offset).reshape(shape)

    def matrix(self, name):
        """W[r][c] = row_scale[r] * sum over planes of mantissa[p][r][c / 64] * trit[p][r][c]"""
        packed = self.tensor(name + ".trits").astype(np.int16)
        mantissa = self.tensor(name + ".mantissa").astype(np.float32)
        scale = self.tensor(name + ".row_scale")
        cols = mantissa.shape[2] * 64
        digits = np.stack([packed // 3 ** k % 3 for k in range(5)], axis=-1)
        trits = digits.reshape(*packed.shape[:2], -1)[:, :, :cols].astype(np.float32) - 1
        weights = (trits * np.repeat(mantissa, 64, axis=2)).sum(axis=0)
        return weights * scale[:, None]


class Model:
    def __init__(self, path):
        g = self.g = Gguf(path)
        self.layers = g.meta["llama.block_count"]
        self.heads = g.meta["llama.attention.head_count"]
        self.kv_heads = g.meta["llama.attention.head_count_kv"]
        self.base = g.meta["llama.rope.freq_base"]
        self.embed = g.matrix("token_embd")
        names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        self.w = [{n: g.matrix(f"blk.{i}.{n}") for n in names} for i in range(self.layers)]
        for i in range(self.layers):
            for n in ("attn_norm", "ffn_norm"):
                self.w[i][n] = g.tensor(f"blk.{i}.{n}.weight")
        self.out_norm = g.tensor("output_norm.weight")
        self.hd = self.embed.shape[1] // self.heads
        self.clear()

    def clear(self):
        self.k = [np.zeros((0, self.kv_heads, self.hd), np.float32) for _ in range(self.layers)]
        self.v = [np.zeros((0, self.kv_heads, self.hd), np.float32) for _ in range(self.layers)]

    def rope(self, x, start):
        angle = (np.arange(start, start + len(x))[:, None]
                 * self.base ** (-2.0 * np.arange(self.hd // 2) / self.hd)[None, :])
        c, s = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
        out[..., 1::2] = x[..., 1::2] * c + x[..., 0::2] * s
        return out

    def attend(self, q, i, start):
        group = self.heads // self.kv_heads
        k = np.repeat(self.k[i], group, axis=1)
        v = np.repeat(self.v[i], group, axis=1)
        s = np.einsum("nhd,mhd->hnm", q, k) / np.sqrt(self.hd)
        late = np.arange(len(k))[None, :] > (start + np.arange(len(q)))[:, None]
        s = np.where(late[None], -np.inf, s)
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return np.einsum("hnm,mhd->nhd", p, v).reshape(len(q), -1)

    def forward(self, ids):
        start = len(self.k[0])
        h = self.embed[ids]
        for i, w in enumerate(self.w):
            x = norm(h, w["attn_norm"])
            q, k, v = ((x @ w[n].T).reshape(len(ids), -1, self.hd)
                       for n in ("attn_q", "attn_k", "attn_v"))
            self.k[i] = np.concatenate([self.k[i], self.rope(k, start)])
            self.v[i] = np.concatenate([self.v[i], v])
            h = h + self.attend(self.rope(q, start), i, start) @ w["attn_output"].T
            x = norm(h, w["ffn_norm"])
            gate = x @ w["ffn_gate"].T
            h = h + (gate / (1 + np.exp(-gate)) * (x @ w["ffn_up"].T)) @ w["ffn_down"].T
        return norm(h, self.out_norm)[-1] @ self.embed.T

    def greedy(self, prompt, n, stop=()):
        self.clear()
        out = []
        logits = self.forward(np.array(prompt))
        while len(out) < n:
            out.append(int(np.argmax(logits)))
            if out[-1] in stop:
                break
            logits = self.forward(np.array(out[-1:]))
        return out


def norm(x, w):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * w


def detokenize(model, ids):
    table = {}
    n = 0
    for b in range(256):
        plain = 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255
        table[chr(b if plain else 256 + n)] = b
        n += 0 if plain else 1
    tokens = model.g.meta["tokenizer.ggml.tokens"]
    return bytes(table[c] for i in ids for c in tokens[i] if c in table).decode("utf-8", "replace")


def main():
    model = Model(sys.argv[1])
    items = json.load(open(sys.argv[3], encoding="utf-8"))
    if sys.argv[2] == "golden":
        for item in items:
            want = item["greedy_ids"]
            got = model.greedy(item["prompt_ids"], len(want))
            same = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), len(want))
            print(f"{same} of {len(want)} tokens as in the golden answer")
        return
    for prompt_ids, question in items:
        answer = model.greedy(prompt_ids, 32, stop=(2,))
        print(json.dumps({"question": question, "answer": detokenize(model, answer)}), flush=True)


if __name__ == "__main__":
    main()
