#!/usr/bin/env python3
"""unxz.py OUTDIR FILE.xz ...: unpack test data into the build directory."""

import lzma
import pathlib
import sys

out = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    packed = pathlib.Path(name)
    (out / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
