#!/usr/bin/env python3
"""Convert a ternary TinyStories model of bitllama2.c to GGUF.

usage: convert-tinystories.py MODEL.bin TOKENIZER.model NAME OUT.gguf

The source is a 256-byte header, final norm and embedding in float32, then for each kind of
projection, for each layer, one float32 scale and 2-bit codes (first weight in the top bits; 00 is 0,
01 is +1, 11 is -1). Its mathematics maps onto the architecture `bitnet`:
- it has no learned norms, but divides the input x of every projection by n * rms(x): all norm
  weights are 1, and 1/n goes into the scale of the projection (n is its input width);
- it rotates neighbouring pairs; `bitnet` rotates halves: the rows of q and k change places.
Matrices become I2_S (128/32). Standard library only; takes about a second.
"""
import array
import struct
import sys

ALIGN = 32
I2_S, F32 = 36, 0
U32, FLOAT, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
# source code of a weight to I2_S code (trit + 1)
CODE = {0: 1, 1: 2, 3: 0}


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def read_fields(data):
    """The fields of one protobuf message: (number, value) with bytes, int or 4 raw bytes."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = read_varint(data, at)
        elif wire == 2:
            size, at = read_varint(data, at)
            value, at = data[at:at + size], at + size
        elif wire == 5:
            value, at = data[at:at + 4], at + 4
        else:
            raise ValueError(f"wire type {wire} at {at}")
        yield number, value


def read_pieces(path):
    """SentencePiece: field 1 repeats; in it 1 is the text, 2 the score, 3 the type (default 1)."""
    with open(path, "rb") as f:
        data = f.read()
    pieces = []
    for number, value in read_fields(data):
        if number == 1:
            fields = dict(read_fields(value))
            score = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))[0]
            pieces.append((fields[1], score, fields.get(3, 1)))
    return pieces


class Source:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        magic, version, *shape, shared = struct.unpack_from("<Ii7iB", self.data)
        if magic != 0x616b3432 or version != 1 or shared != 1:
            raise SystemExit(f"{path}: not a tied model of version 1")
        (self.dim, self.hidden, self.layers, self.heads, self.kv_heads, self.vocab,
         self.context) = shape
        self.head_dim = self.dim // self.heads
        self.at = 256

    def floats(self, n):
        values = self.data[self.at:self.at + 4 * n]
        self.at += 4 * n
        return values

    def matrix(self, rows, cols):
        """(scale, I2_S codes of every weight in order)"""
        scale, = struct.unpack("<f", self.floats(1))
        n = rows * cols
        packed = self.data[self.at:self.at + n // 4]
        self.at += n // 4
        table = [bytes(CODE[b >> s & 3] for s in (6, 4, 2, 0)) if self.legal(b) else None
                 for b in range(256)]
        return scale, b"".join(table[b] for b in packed)

    @staticmethod
    def legal(byte):
        return all(byte >> s & 3 != 2 for s in (6, 4, 2, 0))


def halves(codes, heads, head_dim, cols):
    """Rows 2i and 2i + 1 of a head become rows i and i + head_dim / 2."""
    out = []
    for head in range(heads):
        for first in (0, 1):
            for i in range(head_dim // 2):
                row = head * head_dim + 2 * i + first
                out.append(codes[row * cols:(row + 1) * cols])
    return b"".join(out)


def pack_i2s(scale, codes):
    """128 weights in 32 bytes, the first 32 in the top bits; then the scale and 28 zeros."""
    out = bytearray()
    for at in range(0, len(codes), 128):
        a, b, c, d = (codes[at + q:at + q + 32] for q in (0, 32, 64, 96))
        out += bytes(w << 6 | x << 4 | y << 2 | z for w, x, y, z in zip(a, b, c, d))
    return bytes(out) + struct.pack("<f", scale) + bytes(28)


def string(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def kv(key, kind, payload):
    return string(key) + struct.pack("<I", kind) + payload


def array_of(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def metadata(src, pieces, name):
    number = {"vocab_size": src.vocab, "context_length": src.context,
              "embedding_length": src.dim, "block_count": src.layers,
              "feed_forward_length": src.hidden, "attention.head_count": src.heads,
              "attention.head_count_kv": src.kv_heads, "rope.dimension_count": src.head_dim}
    out = [kv("general.architecture", STRING, string("bitnet")),
           kv("general.name", STRING, string(name)),
           kv("general.license", STRING, string("mit")),
           kv("general.source.url", STRING,
              string("https://github.com/HKUSTGZ-MICS-LYU/bitllama2.c"))]
    out += [kv("bitnet." + key, U32, struct.pack("<I", n)) for key, n in number.items()]
    out += [kv("bitnet.rope.freq_base", FLOAT, struct.pack("<f", 10000.0)),
            kv("bitnet.attention.layer_norm_rms_epsilon", FLOAT, struct.pack("<f", 1e-12)),
            kv("bitnet.hidden_activation", STRING, string("silu")),
            kv("tokenizer.ggml.model", STRING, string("llama")),
            kv("tokenizer.ggml.tokens", ARRAY, array_of(STRING, [string(p[0]) for p in pieces])),
            kv("tokenizer.ggml.scores", ARRAY,
               array_of(FLOAT, [struct.pack("<f", p[1]) for p in pieces])),
            kv("tokenizer.ggml.token_type", ARRAY,
               array_of(INT32, [struct.pack("<i", p[2]) for p in pieces]))]
    for key, value in (("unknown", 0), ("bos", 1), ("eos", 2)):
        out.append(kv(f"tokenizer.ggml.{key}_token_id", U32, struct.pack("<I", value)))
    out.append(kv("tokenizer.ggml.add_bos_token", BOOL, b"\1"))
    return out


def tensors(src):
    """name -> (dimensions, type, bytes), in the order of the output"""
    d, f, kv_dim = src.dim, src.hidden, src.kv_heads * src.head_dim
    ones = {n: array.array("f", [1.0] * n).tobytes() for n in (d, f)}
    final_norm, embedding = src.floats(d), src.floats(src.vocab * d)
    out = {"token_embd.weight": ((d, src.vocab), F32, embedding),
           "output_norm.weight": ((d,), F32, final_norm)}
    for kind, rows, cols, heads in (("attn_q", d, d, src.heads), ("attn_k", kv_dim, d, src.kv_heads),
                                    ("attn_v", kv_dim, d, 0), ("attn_output", d, d, 0),
                                    ("ffn_gate", f, d, 0), ("ffn_down", d, f, 0),
                                    ("ffn_up", f, d, 0)):
        for layer in range(src.layers):
            scale, codes = src.matrix(rows, cols)
            if heads:
                codes = halves(codes, heads, src.head_dim, cols)
            out[f"blk.{layer}.{kind}.weight"] = ((cols, rows), I2_S, pack_i2s(scale / cols, codes))
    if src.at != len(src.data):
        raise SystemExit(f"{src.at} bytes used of {len(src.data)}")
    for layer in range(src.layers):
        for norm, n in (("attn_norm", d), ("attn_sub_norm", d), ("ffn_norm", d),
                        ("ffn_sub_norm", f)):
            out[f"blk.{layer}.{norm}.weight"] = ((n,), F32, ones[n])
    return out


def write(path, kvs, table):
    infos, blob = [], bytearray()
    for name, (dims, kind, data) in table.items():
        blob += bytes(-len(blob) % ALIGN)
        infos.append(string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind,
                                                len(blob)))
        blob += data
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(kvs)) + b"".join(kvs) + b"".join(infos)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN) + blob)


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    model, tokenizer, name, out = sys.argv[1:]
    src, pieces = Source(model), read_pieces(tokenizer)
    if len(pieces) != src.vocab:
        raise SystemExit(f"{len(pieces)} pieces, vocabulary {src.vocab}")
    write(out, metadata(src, pieces, name), tensors(src))


if __name__ == "__main__":
    main()
