"""Clients that people already have, unmodified, over the Unix socket."""

import os
import shutil
import subprocess
import sys
import unittest

from harness import SMOL, SOURCE, DaemonCase, have

CLIENTS = os.path.join(SOURCE, "tests/e2e/clients")


class Clients(DaemonCase):
    def run_client(self, *command):
        r = subprocess.run([*command, self.d.socket, SMOL], capture_output=True, text=True,
                           timeout=300, check=False)
        self.assertEqual((r.returncode, r.stdout), (0, "ok\n"), r.stderr)

    @unittest.skipUnless(have("openai"), "the package openai is not installed")
    def test_openai(self):
        self.run_client(sys.executable, os.path.join(CLIENTS, "openai_python.py"))

    @unittest.skipUnless(have("openai"), "the package openai is not installed")
    def test_responses(self):
        self.run_client(sys.executable, os.path.join(CLIENTS, "responses_python.py"))

    @unittest.skipUnless(have("ollama"), "the package ollama is not installed")
    def test_ollama(self):
        self.run_client(sys.executable, os.path.join(CLIENTS, "ollama_python.py"))

    @unittest.skipUnless(have("langchain_openai", "langchain_ollama"),
                         "the packages langchain-openai and langchain-ollama are not installed")
    def test_langchain(self):
        self.run_client(sys.executable, os.path.join(CLIENTS, "langchain_python.py"))

    @unittest.skipUnless(shutil.which("node") and os.environ.get("NODE_PATH"),
                         "node or its packages (NODE_PATH) are not there")
    def test_node(self):
        self.run_client("node", os.path.join(CLIENTS, "node.mjs"))


if __name__ == "__main__":
    unittest.main()
