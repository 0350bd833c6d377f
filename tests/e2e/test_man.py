"""The manual pages: they render without a warning, every method of the bus has an example, and every
example runs as it is printed, against a real daemon on a bus of its own.

  test_man.py BUS_SD PAGE...     BUS_SD: a program that can hold a job (clients/bus_sd.c)
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from harness import SMOL, SOURCE, running, session_bus

BUS_SD, PAGES = sys.argv[1], sys.argv[2:]
del sys.argv[1:]
NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"
INTERFACE = next(page for page in PAGES if NAME in page)
PROGRAM = "program"

# What an example prints; those that are not here print what they print.
EXPECTED = {
    PROGRAM: r"Paris.*\('done', \{",
    "Manager.Generate": r"^\(objectpath '/org/bitnetd/Bitnetd1/job/\w+', handle \d\)$",
    "Manager.Summarize": r"^\(objectpath '/org/bitnetd/Bitnetd1/job/\w+', handle \d\)$",
    "Manager.CountTokens": r"^\(uint64 \d{3}, uint64 \d{4}\)$",
    **{f"Manager.{verb}": r"^\(objectpath '/org/bitnetd/Bitnetd1/job/\w+', handle \d\)$"
       for verb in ("Rewrite", "Proofread", "Extract", "Classify", "Embed")},
    "Manager.ListModels": re.escape(SMOL),
    "Manager.GetAvailability": 'bssa{sv} true "available"',
    "Manager.GetStatus": '"threads" : {',
    "Manager.GetQuota": '"TokensPerDay"',
    "Manager.SetQuota": "^$",
    "Manager.Reload": "^$",
    "Manager.InstallModel": r"^\(objectpath '/org/bitnetd/Bitnetd1/job/\w+',\)$",
    "Manager.VerifyModel": r'^o "/org/bitnetd/Bitnetd1/job/\w+"$',
    "Manager.RemoveModel": r'^o "/org/bitnetd/Bitnetd1/job/\w+"$',
    "Job.Cancel": "^$",
    "Job.Wait": '^sa{sv} "cancelled" ',
    "Job.SetPriority": "^$",
    "Job.TakeOutput": "Paris",
    "Manager.CreateSession": r"^o \"/org/bitnetd/Bitnetd1/session/\w+\"$",
    "Session.Prompt": "Ada",
}


def unescape(text):
    return (text.replace("\\[mc]", "µ").replace("\\&", "").replace("\\-", "-")
            .replace("\\e", "\\"))


def examples():
    """Name and commands, as somebody would copy them from the page."""
    with open(INTERFACE, encoding="utf-8") as f:
        page = f.read()
    found, interface, method = {}, None, None
    pattern = re.compile(r"^\.SH (\w+) INTERFACE$|^\.SH EXAMPLE$|^\.SS Method (\w+)|"
                         r"^\.nf\n\.RS 4\n(.*?)\n\.RE\n\.fi$", re.M | re.S)
    for m in pattern.finditer(page):
        if m.group(1):
            interface = m.group(1).capitalize()
        elif m.group(0) == ".SH EXAMPLE":
            interface, method = None, PROGRAM
        elif m.group(2):
            method = f"{interface}.{m.group(2)}"
        elif method:
            found[method] = unescape(m.group(3))
    return found


class Pages(unittest.TestCase):
    @unittest.skipUnless(shutil.which("man"), "man is not installed")
    def test_render(self):
        for page in PAGES:
            r = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], check=False,
                               capture_output=True, text=True, env=dict(os.environ, LC_ALL="C.UTF-8"))
            self.assertEqual((r.returncode, r.stderr), (0, ""), page)
            self.assertIn("SEE ALSO", r.stdout)

    def test_every_method_has_an_example(self):
        with open(os.path.join(SOURCE, "dbus/org.bitnetd.Bitnetd1.xml"), encoding="utf-8") as f:
            xml = f.read()
        methods, interface = set(), None
        for m in re.finditer(r'<(interface|method) name="([\w.]+)"', xml):
            if m.group(1) == "interface":
                interface = m.group(2).rsplit(".", 1)[1]
            else:
                methods.add(f"{interface}.{m.group(2)}")
        self.assertEqual(methods - set(examples()), set())


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="bitnetd-man-"))
        address = cls.enterClassContext(session_bus())
        # the examples speak of the system bus; to them this is it
        cls.env = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address,
                       DBUS_SYSTEM_BUS_ADDRESS=address,
                       PATH="/usr/bin:" + os.environ["PATH"])
        shutil.copy(os.path.join(SOURCE, "tests/data/tinystories-1m.gguf"),
                    os.path.join(cls.dir, "model.gguf"))
        cls.enterClassContext(running(state=os.path.join(cls.dir, "state"),
                                      env={"DBUS_SESSION_BUS_ADDRESS": address}))
        ready = (f"busctl call {NAME} {ROOT} {NAME}.Manager GetAvailability 'sa{{sv}}' chat 0 |"
                 "grep -q '\"available\"'")
        for _ in range(3000):
            if cls.shell(ready).returncode == 0:
                break
            time.sleep(0.02)

    @classmethod
    def shell(cls, commands):
        return subprocess.run(["bash", "-eo", "pipefail", "-c", commands], env=cls.env,
                              capture_output=True, text=True, timeout=300, check=False,
                              cwd=cls.dir)

    def hold_job(self):
        p = subprocess.Popen([BUS_SD, "hold"], env=self.env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.wait)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stdin.close)
        return p.stdout.readline().strip()

    def prepare(self, name):
        """What an example that is about a job needs."""
        if name == "Manager.RemoveModel":
            state = f"busctl get-property {NAME} {ROOT}/model/mine {NAME}.Model State"
            self.shell(f"while {state} | grep -q loading; do sleep 0.1; done")
        elif name == "Manager.VerifyModel":
            self.run_example("Manager.InstallModel", examples()["Manager.InstallModel"])
        elif name == "Job.TakeOutput":
            self.run_example("Manager.Generate", examples()["Manager.Generate"])
        elif name.startswith("Job."):
            job = self.hold_job()
            if name == "Job.Wait":
                self.shell(f"busctl call {NAME} {job} {NAME}.Job Cancel")

    def run_example(self, name, commands):
        r = self.shell(commands)
        self.assertEqual((r.returncode, r.stderr), (0, ""), f"{name}:\n{commands}")
        self.assertRegex(r.stdout.strip(), re.compile(EXPECTED.get(name, ""), re.S), name)

    def test_examples(self):
        found = examples()
        self.assertGreater(len(found), 10)
        for name, commands in found.items():
            with self.subTest(name):
                self.prepare(name)
                self.run_example(name, commands)
                self.doCleanups()


if __name__ == "__main__":
    unittest.main(verbosity=2)
