#!/usr/bin/env python3
"""House rules that a compiler does not check: include direction, sizes, left-overs, READMEs,
headers that stand alone, and no text of a user in the broker's log calls."""

import os
import re
import subprocess
import sys

ROOT = os.path.abspath(sys.argv[1])
CODE = ("kernels", "engine", "policy", "dbus", "daemon", "client", "tests")
MAX_FILE, MAX_FUNCTION = 800, 100

# Folder prefix: what it may include from this tree (longest prefix wins).
MAY_INCLUDE = {
    "kernels": ("kernels/",),
    "engine/base": ("engine/base/",),
    "engine": ("engine/", "kernels/"),
    "policy": ("policy/", "engine/base/"),
    "daemon/wire": ("daemon/wire/", "policy/", "engine/base/"),
    "daemon/worker": ("daemon/worker/", "daemon/wire/", "policy/", "engine/", "kernels/"),
    "daemon/broker": ("daemon/broker/", "daemon/wire/", "dbus/", "policy/", "engine/base/",
                      "kernels/cpu.h"),
    "dbus": ("dbus/", "daemon/broker/", "daemon/wire/", "policy/", "engine/base/"),
    "client": ("client/", "policy/", "engine/base/"),
    "tests": ("",),
}

problems = []


def complain(path, line, text):
    problems.append(f"{os.path.relpath(path, ROOT)}:{line}: {text}")


def sources():
    for top in CODE:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.join(folder, name)


def check_includes(path, lines):
    rel = os.path.relpath(path, ROOT)
    prefix = max((p for p in MAY_INCLUDE if rel.startswith(p + "/")), key=len)
    for number, line in enumerate(lines, 1):
        m = re.match(r'#include "([^"]+)"', line)
        if m and "/" in m.group(1) and not m.group(1).startswith(MAY_INCLUDE[prefix]):
            complain(path, number, f"{prefix} may not include {m.group(1)}")


def check_sizes(path, lines):
    if len(lines) > MAX_FILE:
        complain(path, 1, f"file has {len(lines)} lines, limit {MAX_FILE}")
    start = None
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_].*\)\s*\{$", line) or (start is None and line == "{"):
            start = number
        elif line.startswith("}"):
            if start and number - start > MAX_FUNCTION and "(" in lines[start - 1]:
                complain(path, start, f"function has {number - start} lines, limit {MAX_FUNCTION}")
            start = None


def check_text(path, lines):
    left_overs = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|not (yet )?implemented|^#if 0")
    for number, line in enumerate(lines, 1):
        if left_overs.search(line):
            complain(path, number, "left-over")
        if "\t" in line:
            complain(path, number, "tab")
        if len(line) > 100:
            complain(path, number, f"line has {len(line)} columns, limit 100")
    if not lines or not lines[0].startswith("/*"):
        complain(path, 1, "no opening comment")
    if path.endswith(".h") and "#pragma once" not in lines:
        complain(path, 1, "no #pragma once")


def check_broker_log(path, lines):
    """The broker knows who, never what: log calls take numbers and constant strings."""
    rel = os.path.relpath(path, ROOT)
    if not rel.startswith(("daemon/broker/", "dbus/")) or rel.endswith("log.c"):
        return
    # Paths and option names of the person who starts the daemon may go to that person's terminal.
    starts = rel.endswith(("main.c", "options.c", "broker.c"))
    text = "\n".join(lines)
    for call in re.finditer(r"\b(log_\w+|sd_journal_\w+|[vdf]*printf|syslog)\([^;]*;", text):
        if "%s" in call.group() and not (starts and call.group().startswith("fprintf(stderr")):
            complain(path, text.count("\n", 0, call.start()) + 1,
                     "log call with %s in the broker")
    if "log_model_bad(" in text and not rel.endswith(("log.h", "store_prepare.c")):
        complain(path, 1, "log_model_bad() is for names of the catalogue")


def check_headers():
    cc = os.environ.get("CC", "cc").split()
    for path in sources():
        if not path.endswith(".h") or "/tests/" in path:
            continue
        r = subprocess.run(cc + ["-fsyntax-only", "-std=gnu11", "-D_GNU_SOURCE", "-I", ROOT,
                                 "-I", sys.argv[2] + "/client", "-x", "c", "-include", path,
                                 "/dev/null"], capture_output=True, text=True)
        if r.returncode != 0:
            complain(path, 1, "header does not stand alone: " + r.stderr.split("\n")[0])


def check_folders():
    for top in CODE + ("systemd", "models"):
        for folder, folders, names in os.walk(os.path.join(ROOT, top)):
            depth = os.path.relpath(folder, ROOT).count(os.sep)
            if depth > 1 or folder.endswith(("__pycache__", "/data", "/worker-root")) or not names:
                continue
            if "tests/" in folder + "/" and depth > 0:
                continue
            readme = os.path.join(folder, "README.md")
            if "README.md" not in names:
                complain(folder, 1, "folder has no README.md")
            elif len(open(readme, encoding="utf-8").readlines()) > 60:
                complain(readme, 1, "README has more than 60 lines")


for source in sources():
    with open(source, encoding="utf-8") as f:
        content = f.read().split("\n")
    check_includes(source, content)
    check_sizes(source, content)
    check_text(source, content)
    check_broker_log(source, content)
check_headers()
check_folders()
print("\n".join(problems))
sys.exit(1 if problems else 0)
