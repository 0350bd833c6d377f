"""Bus clients that people already have, unmodified, on a bus of their own: each streams an answer
from the descriptor, meets an error, cancels, asks again and compares, and reads usage numbers from
Wait and from Completed. busctl and gdbus do what they can: they have no use for the output."""

import os
import shutil
import subprocess
import sys
import time
import unittest

from harness import SOURCE, running, session_bus

CLIENTS = os.path.join(SOURCE, "tests/e2e/clients")
BUS_SD = sys.argv.pop(1)
SYSTEM_PYTHON = "/usr/bin/python3"
NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"
MANAGER, JOB = NAME + ".Manager", NAME + ".Job"


def have_module(name):
    return subprocess.run([SYSTEM_PYTHON, "-c", "import " + name], capture_output=True,
                          check=False).returncode == 0


class BusClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.address = cls.enterClassContext(session_bus())
        cls.env = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=cls.address)
        cls.d = cls.enterClassContext(running(env={"DBUS_SESSION_BUS_ADDRESS": cls.address}))
        # the sockets answer a moment before the name is there
        for _ in range(500):
            if cls.tool("busctl", "--address=" + cls.address, "status", NAME).returncode == 0:
                break
            time.sleep(0.02)

    @classmethod
    def tool(cls, *command, **kw):
        return subprocess.run(command, env=cls.env, capture_output=True, text=True, timeout=300,
                              check=False, **kw)

    def run_client(self, *command):
        r = self.tool(*command)
        self.assertEqual((r.returncode, r.stdout), (0, "ok\n"), r.stderr)

    def test_sd_bus(self):
        self.run_client(BUS_SD)

    @unittest.skipUnless(have_module("dasbus"), "the package python3-dasbus is not installed")
    def test_dasbus(self):
        self.run_client(SYSTEM_PYTHON, os.path.join(CLIENTS, "bus_dasbus.py"))

    @unittest.skipUnless(shutil.which("gjs"), "the package gjs is not installed")
    def test_gjs(self):
        self.run_client("gjs", os.path.join(CLIENTS, "bus_gjs.js"))

    def busctl(self, *args):
        return self.tool("busctl", "--address=" + self.address, *args)

    def held_job(self):
        """A job that reads for ever, and the process that holds it."""
        p = subprocess.Popen([BUS_SD, "hold"], env=self.env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.wait)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stdin.close)
        return p.stdout.readline().strip()

    def test_busctl(self):
        job = self.held_job()
        listed = self.busctl("call", NAME, ROOT, MANAGER, "ListJobs", "a{sv}", "0")
        self.assertIn(f'"{job}"', listed.stdout)
        self.assertEqual(self.busctl("get-property", NAME, job, JOB, "Result").stdout, 's ""\n')
        with subprocess.Popen(["busctl", "--address=" + self.address, "--timeout=120", "call",
                               NAME, job, JOB, "Wait"], env=self.env, stdout=subprocess.PIPE,
                              text=True) as waiting:
            cancelled = self.busctl("call", NAME, job, JOB, "Cancel")
            self.assertEqual((cancelled.returncode, cancelled.stdout), (0, ""), cancelled.stderr)
            result = waiting.communicate(timeout=60)[0]
        self.assertTrue(result.startswith('sa{sv} "cancelled" '), result)
        self.assertIn('"tokens-out" t 0', result)
        missing = self.busctl("call", NAME, ROOT + "/job/999999", JOB, "Cancel")
        self.assertEqual(missing.returncode, 1)
        self.assertIn("no such object", missing.stderr)
        self.assertIn(".Generate", self.busctl("introspect", NAME, ROOT, MANAGER).stdout)

    def gdbus(self, path, method, *args, **kw):
        return self.tool("gdbus", "call", "--session", "--timeout=120", "--dest", NAME,
                         "--object-path", path, "--method", NAME + "." + method, *args, **kw)

    def test_gdbus(self):
        job = self.held_job()
        self.assertIn(job, self.gdbus(ROOT, "Manager.ListJobs", "{}").stdout)
        self.assertEqual(self.gdbus(job, "Job.Cancel").stdout, "()\n")
        done = self.gdbus(job, "Job.Wait").stdout
        self.assertTrue(done.startswith("('cancelled', {"), done)
        self.assertIn("'tokens-out': <uint64 0>", done)
        # a descriptor goes in, by its number
        with open(os.path.join(SOURCE, "README.md"), "rb") as f:
            bad = self.gdbus(ROOT, "Manager.Generate", "no-such-model", "handle 0", "{}", stdin=f)
            self.assertIn(NAME + ".Error.ModelNotFound", bad.stderr)
            good = self.gdbus(ROOT, "Manager.Generate", "", "handle 0", "{}", stdin=f)
            self.assertRegex(good.stdout, r"^\(objectpath '/org/bitnetd/Bitnetd1/job/\d+', ")


if __name__ == "__main__":
    unittest.main()
