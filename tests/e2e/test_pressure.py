"""Real memory pressure: daemon, workers and somebody greedy share a cgroup that is too small, the
daemon reads the cgroup's own pressure, and gives back in order; the next request works."""

import mmap
import os
import re
import signal
import sys
import tempfile
import time
import unittest

from harness import BUILD, running
from test_metrics import scrape, value

LIMIT = 600 << 20
SPACE = 96 << 20  # what the greedy one leaves to files
V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"
NAME = f"bitnetd-test-{os.getpid()}"


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


class Cgroup:
    """Memory limited to LIMIT; version 2, or version 1 beside a hierarchy of version 2 without the
    controller, which has the pressure all the same."""
    def __init__(self):
        unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        self.dirs = [os.path.join(d, NAME) for d in (["/sys/fs/cgroup"] if unified else [V2, V1])]
        self.pressure = os.path.join(self.dirs[0], "memory.pressure")
        if unified and "memory" not in read("/sys/fs/cgroup/cgroup.subtree_control").split():
            raise OSError("the root cgroup does not hand down the memory controller")
        for d in self.dirs:
            os.mkdir(d)
        try:
            name = "memory.max" if unified else "memory.limit_in_bytes"
            write(os.path.join(self.dirs[-1], name), str(LIMIT))
            self.waited()
        except OSError:
            self.remove()
            raise
        own = dict(line.split(":")[1:] for line in read("/proc/self/cgroup").splitlines())
        self.left = [os.path.dirname(self.dirs[0]) + own[""]]
        if not unified:
            self.left.append(V1 + own["memory"])
        self.events = os.path.join(self.dirs[-1], "memory.events" if unified else
                                   "memory.oom_control")
        self.stat = os.path.join(self.dirs[-1], "memory.stat"), "anon" if unified else "rss"

    def enter(self):
        for d in self.dirs:
            write(os.path.join(d, "cgroup.procs"), "0")

    def waited(self):
        """Microseconds in which somebody waited for memory."""
        return int(re.search(r"^some .* total=(\d+)$", read(self.pressure), re.M).group(1))

    def anonymous(self):
        path, name = self.stat
        return int(re.search(rf"^{name} (\d+)$", read(path), re.M).group(1))

    def leave(self):
        for d in self.left:
            write(os.path.join(d, "cgroup.procs"), "0")

    def killed(self):
        return int(re.search(r"^oom_kill (\d+)$", read(self.events), re.M).group(1))

    def remove(self):
        for d in self.dirs:
            for _ in range(600):  # the last ones killed may not be gone yet
                try:
                    os.rmdir(d)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.1)


def churn():
    while True:
        with mmap.mmap(-1, SPACE // 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
            for at in range(0, len(m), 4096):
                m[at] = 1


def reread(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 20) or not f.seek(0):
            pass


def be_greedy(cgroup, path):
    """Holds all but SPACE; two fill the rest with pages of a file, two want those pages' memory
    again and again. A group of processes, so that they end together."""
    os.setpgid(0, 0)
    cgroup.enter()
    write("/proc/self/oom_score_adj", "1000")
    with open(path, "wb") as f:
        f.write(os.urandom(SPACE))
        f.flush()
        os.fsync(f.fileno())
    held = []
    while cgroup.anonymous() < LIMIT - SPACE and len(held) < LIMIT >> 20:
        held.append(bytearray(b"x") * (1 << 20))
    for i in range(4):
        if os.fork() == 0:
            churn() if i % 2 else reread(path)
    signal.pause()


class Pressure(unittest.TestCase):
    def setUp(self):
        self.cgroup = Cgroup()
        self.addCleanup(self.cgroup.remove)
        folder = tempfile.TemporaryDirectory(dir=BUILD, prefix="pressure-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.chmod(self.folder, 0o755)

    def wait_for(self, condition, what):
        deadline = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), deadline, what + ": " + read(self.cgroup.pressure))
            time.sleep(0.1)

    def wait_for_relief(self, d, step):
        """A machine on which nobody waits long for memory, whatever is done, shows nothing."""
        before, deadline = self.cgroup.waited(), time.monotonic() + 60
        while not relieved(d, step):
            if time.monotonic() > deadline:
                share = (self.cgroup.waited() - before) / 60e6
                if share < 0.1:
                    self.skipTest(f"only {share:.0%} of the time was waited for memory")
                self.fail(f"no relief by {step}, {share:.0%} of the time was waited")
            time.sleep(0.1)

    def greedy(self):
        pid = os.fork()
        if pid == 0:
            try:
                be_greedy(self.cgroup, os.path.join(self.folder, "read"))
            finally:
                os._exit(1)
        return pid

    def test_gives_back_in_order(self):
        state = os.path.join(self.folder, "state")
        self.cgroup.enter()
        with running("--pressure-file", self.cgroup.pressure, state=state) as d:
            self.cgroup.leave()
            self.wait_for(lambda: d.chat("Say hello", max_tokens=3)[0] == 200, "packed")
            self.assertEqual(d.chat("word " * 300, max_tokens=3)[0], 200)
            self.wait_for(lambda: value(scrape(d)[1], "bitnetd_kv_kept_bytes") > 0, "kept")
            self.assertEqual(value(scrape(d)[1], "bitnetd_workers"), 1)
            greedy = self.greedy()
            try:
                self.wait_for_relief(d, "caches")
                self.wait_for_relief(d, "workers")
                self.wait_for(lambda: value(scrape(d)[1], "bitnetd_workers") == 0, "no worker")
                self.wait_for_relief(d, "weights")
                self.assertEqual(os.waitpid(greedy, os.WNOHANG), (0, 0), "killed")
            finally:
                os.killpg(greedy, signal.SIGKILL)
                os.waitpid(greedy, 0)
            steps = [int(n) for n in re.findall(r"memory pressure step=(\d)", d.read_log())]
            self.assertEqual(steps[:3], [1, 2, 3])
            self.assertEqual(self.cgroup.killed(), 0)
            self.assertEqual(d.chat("Say hello", max_tokens=3)[0], 200)
            self.wait_for(lambda: value(scrape(d)[1], "bitnetd_memory_pressure_step") == 0, "calm")


def relieved(d, step):
    return value(scrape(d)[1], f'bitnetd_memory_reliefs_total{{step="{step}"}}') > 0


def missing():
    """Why there can be no such cgroup here, or None."""
    if os.geteuid() != 0:
        return "needs root to make a cgroup"
    try:
        Cgroup().remove()
    except OSError as e:
        return f"no cgroup with a memory limit and memory.pressure here ({e})"
    return None


if __name__ == "__main__":
    why = missing()
    if why:
        print("skipped:", why)
        sys.exit(77)
    unittest.main(verbosity=2)
