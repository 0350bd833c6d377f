"""bnctl install, remove, verify: models for all users, kept over restarts, for administrators."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from harness import BNCTL, SOURCE, running

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

    def test_a_file_that_changes_while_it_is_copied(self):
        """What was cut is refused; what an earlier, interrupted copy left is gone."""
        with self.daemon() as d:
            self.run_bnctl(d, 0, "install", TINY)
        with open(os.path.join(self.state, "installed", "part"), "w") as f:
            f.write("half of a file")
        with self.daemon() as d:
            self.run_bnctl(d, 0, "verify", "tinystories-1m")
            self.assertFalse(os.path.exists(os.path.join(self.state, "installed", "part")))

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
