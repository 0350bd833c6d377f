"""bnctl install, remove, verify: models for all users, kept over restarts, for administrators."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BNCTL, MODELS, SMOL, SOURCE, running

BUS = "org.bitnetd.Bitnetd1"
TINY = os.path.join(SOURCE, "tests/data/tinystories-1m.gguf")


class Install(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="bitnetd-install-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir)
        self.state = os.path.join(self.dir, "state")
        self.models = os.path.join(self.dir, "models")
        os.mkdir(self.models)

    def daemon(self, *options):
        return running(*options, model_dir=self.models, state=self.state)

    def run_bnctl(self, d, status, *args):
        r = d.bnctl(*args)
        self.assertEqual(r.returncode, status, r.stdout + r.stderr)
        return r

    def states(self, d):
        listed = json.loads(self.run_bnctl(d, 0, "models", "--json").stdout)
        return {m["id"]: m["state"] for m in listed["data"]}

    def files(self):
        return sorted(f for _, _, names in os.walk(self.state) for f in names
                      if f.endswith((".gguf", ".packed", ".digest", "part", ".new")))

    def test_life_of_a_model(self):
        with self.daemon() as d:
            self.assertEqual(self.states(d), {})
            self.assertEqual(self.run_bnctl(d, 0, "install", TINY).stdout, "ready\n")
            self.assertEqual(self.states(d), {"tinystories-1m": "ready"})
            self.run_bnctl(d, 0, "install", "--name", "second", TINY)
            self.assertEqual(set(self.states(d)), {"tinystories-1m", "second"})
            first = self.run_bnctl(d, 0, "ask", "-m", "second", "-n", "8", "Once upon").stdout
            again = self.run_bnctl(d, 65, "install", "--name", "second", TINY)
            self.assertIn("has this name already", again.stderr)
            self.assertEqual(self.run_bnctl(d, 0, "verify", "second").stdout, "ready\n")
        with self.daemon() as d: # it is still there
            self.assertEqual(self.run_bnctl(d, 0, "verify", "second").stdout, "ready\n")
            self.assertEqual(set(self.states(d)), {"tinystories-1m", "second"})
            self.assertEqual(
                self.run_bnctl(d, 0, "ask", "-m", "second", "-n", "8", "Once upon").stdout, first)
            self.run_bnctl(d, 0, "remove", "second")
            self.assertEqual(set(self.states(d)), {"tinystories-1m"})
            self.run_bnctl(d, 69, "ask", "-m", "second", "Once upon")
            self.run_bnctl(d, 69, "remove", "second")
            self.run_bnctl(d, 69, "verify", "second")
            self.run_bnctl(d, 0, "remove", "tinystories-1m")
            self.assertEqual(self.files(), [])
        with self.daemon() as d:
            self.assertEqual(self.states(d), {})

    def test_bad_files(self):
        garbage = os.path.join(self.dir, "garbage.gguf")
        with open(garbage, "wb") as f:
            f.write(b"GGUF" + os.urandom(5000))
        empty = os.path.join(self.dir, "empty.gguf")
        open(empty, "w").close()
        with self.daemon() as d:
            r = self.run_bnctl(d, 70, "install", garbage)
            self.assertEqual(r.stdout, "")
            self.assertEqual(self.states(d), {"garbage": "bad"})
            self.run_bnctl(d, 70, "verify", "garbage")
            self.run_bnctl(d, 0, "remove", "garbage")
            self.assertEqual(self.files(), [])
            self.run_bnctl(d, 65, "install", empty)
            self.run_bnctl(d, 65, "install", "--name", "../x", TINY)
            self.run_bnctl(d, 65, "install", "--name", "", TINY)
            self.run_bnctl(d, 65, "install", self.dir)
            self.run_bnctl(d, 66, "install", os.path.join(self.dir, "missing.gguf"))
            self.assertEqual(self.states(d), {})
            self.assertEqual(self.files(), [])

    def test_what_somebody_else_brought(self):
        shutil.copy(TINY, os.path.join(self.models, "given.gguf"))
        with self.daemon() as d:
            self.run_bnctl(d, 0, "verify", "given")
            r = self.run_bnctl(d, 65, "remove", "given")
            self.assertIn("was not installed here", r.stderr)
            self.run_bnctl(d, 65, "install", "--name", "given", TINY)
            self.assertEqual(self.states(d), {"given": "ready"})

    def test_what_an_interrupted_copy_left_is_gone(self):
        with self.daemon() as d:
            self.run_bnctl(d, 0, "install", TINY)
        with open(os.path.join(self.state, "installed", "part"), "w") as f:
            f.write("half of a file")
        with self.daemon() as d:
            self.run_bnctl(d, 0, "verify", "tinystories-1m")
            self.assertFalse(os.path.exists(os.path.join(self.state, "installed", "part")))

    def paths_open_in(self, d):
        """What the daemon has open below this test's folder."""
        folder = f"/proc/{d.process.pid}/fd"
        paths = []
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError): # closed meanwhile
                paths.append(os.readlink(os.path.join(folder, fd)))
        return sorted(p for p in paths if p.startswith(self.dir) and not os.path.isdir(p))

    def large(self, size=1 << 33):
        """A file whose copy takes a while; what is given up early costs little of the disk."""
        path = os.path.join(self.dir, "large.gguf")
        with open(path, "wb") as f:
            f.write(b"GGUF")
            f.truncate(size)
        return path

    def begin(self, d, *args):
        p = subprocess.Popen([BNCTL, *args], env=dict(os.environ, BITNETD_SOCKET=d.socket),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.wait)
        return p

    def job_in(self, d, state, verb="install"):
        """The job of this verb, once it is in this state; earlier ones may have ended."""
        for _ in range(6000):
            for job in json.loads(self.run_bnctl(d, 0, "ps", "--json").stdout):
                if job["verb"] == verb and job["state"] == state:
                    return job
            time.sleep(0.005)
        self.fail("no job gets " + state)

    def number(self, d, job, name):
        bus = os.path.join(os.path.dirname(d.socket), "bus.sock")
        r = subprocess.run(["busctl", "--address=unix:path=" + bus, "get-property", BUS,
                            "/org/bitnetd/Bitnetd1/job/" + job["job"], BUS + ".Job", name],
                           capture_output=True, text=True, check=True)
        return float(r.stdout.split()[1])

    def test_a_file_that_changes_while_it_is_copied(self):
        path, over = self.large(1 << 26), threading.Event()

        def change():
            with open(path, "r+b") as f:
                while not over.is_set():
                    f.seek(1 << 20)
                    f.write(os.urandom(8))
                    f.flush()

        writer = threading.Thread(target=change)
        with self.daemon() as d:
            before = self.paths_open_in(d)
            writer.start()
            try:
                r = self.run_bnctl(d, 70, "install", path)
                again = self.run_bnctl(d, 70, "verify", "large")
            finally:
                over.set()
                writer.join()
            self.assertIn("changed while it was copied", r.stderr)
            self.assertIn("changed while it was copied", again.stderr)
            self.assertEqual(self.states(d), {"large": "bad"})
            self.assertEqual(self.files(), [])
            self.run_bnctl(d, 0, "remove", "large")
            self.assertEqual(self.paths_open_in(d), before)

    def test_ctrl_c_while_copying(self):
        with self.daemon() as d:
            self.run_bnctl(d, 0, "install", TINY)
            before = self.files()
            p = self.begin(d, "install", self.large())
            job = self.job_in(d, "copying")
            first = self.number(d, job, "BytesCovered")
            self.assertEqual(self.number(d, job, "BytesIn"), 1 << 33)
            self.assertLessEqual(first, 1 << 33)
            self.assertLess(self.number(d, job, "Progress"), 0.34)
            # what waits behind it can be taken back, too
            verify = self.begin(d, "verify", "tinystories-1m")
            self.job_in(d, "queued", "verify")
            verify.send_signal(signal.SIGINT)
            self.assertEqual(verify.wait(30), 130)
            self.assertEqual(self.states(d)["tinystories-1m"], "ready")
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(30), 130)
            self.assertEqual(set(self.states(d)), {"tinystories-1m"})
            self.assertEqual(self.files(), before)
            self.run_bnctl(d, 0, "verify", "tinystories-1m")

    def test_client_dies_while_packing(self):
        source = os.path.join(MODELS, SMOL + ".gguf")
        with self.daemon() as d:
            p = self.begin(d, "install", "--name", "big", source)
            job = self.job_in(d, "packing")
            self.assertEqual(self.number(d, job, "BytesIn"), os.path.getsize(source))
            self.assertGreater(self.number(d, job, "Progress"), 0.33)
            p.kill()
            for _ in range(6000):
                if not self.states(d):
                    break
                time.sleep(0.005)
            self.assertEqual(self.states(d), {})
            self.assertEqual(self.files(), [])

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_others_may_not(self):
        with self.daemon("--socket-mode", "0666") as d:
            for args in (["install", TINY], ["remove", "x"], ["verify", "x"]):
                r = subprocess.run(
                    ["setpriv", "--reuid=40001", "--regid=40001", "--clear-groups", BNCTL, *args],
                    env=dict(os.environ, BITNETD_SOCKET=d.socket), capture_output=True, text=True,
                    timeout=30, check=False)
                self.assertEqual(r.returncode, 77, r.stderr)
            self.assertEqual(self.states(d), {})


if __name__ == "__main__":
    unittest.main()
