"""Run as an ordinary user in a delegated unit: tries to look as if it ran in other slices, and asks
each time which quota counts. Prints a line of JSON for each attempt: how, and the slice that the
daemon sees."""
import json
import os
import subprocess
import sys

ROOT = "/sys/fs/cgroup"


def own():
    for line in open("/proc/self/cgroup"):
        if line.startswith("0::"):
            return line[3:].strip()


def move(path):
    os.makedirs(ROOT + path, exist_ok=True)
    with open(f"{ROOT}{path}/cgroup.procs", "w") as f:
        f.write("0")


def seen():
    out = subprocess.run(["bnctl", "quota", "--json"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    return json.loads(out.stdout)["slice"] if out.returncode == 0 else out.stderr


unit = own()
for name in sys.argv[1:]:
    for path in [f"{unit}/{name}", f"{unit}/{name}/x.service"]:
        move(path)
        if own() != path:
            sys.exit(f"in {own()}, not in {path}")
        print(json.dumps([path, seen()]))
    for path in [f"/{name}", f"/{name}/x.service", os.path.dirname(unit) + f"/{name}"]:
        try:
            move(path)
        except OSError:
            continue
        sys.exit(f"moved to {path}")
