#!/bin/sh
# Prints the directory of the C library that a compiler links with.
set -eu
dirname "$(readlink -f "$("$@" -print-file-name=libc.so.6)")"
