#!/bin/sh
# The C kernels on 64-bit ARM: cross-compiled, then checkasm under qemu's user mode.
set -eu
cd "$1"
cc=aarch64-linux-gnu-gcc
run=qemu-aarch64-static
for tool in $cc $run; do
        command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
$cc -std=gnu11 -D_GNU_SOURCE -O2 -ffp-contract=off -Wall -Wextra -Wno-unused-parameter -Werror \
        -I. -static -o "$out/checkasm" kernels/cpu.c kernels/ops_init.c kernels/ref/*.c \
        tests/kernels/check*.c -lm
$run "$out/checkasm"
