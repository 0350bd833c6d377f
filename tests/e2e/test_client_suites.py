"""The openai package's own tests, as its source archive has them, against the daemon.

They ask a server for one answer of each kind and check it against the types of the package, for the
plain, the raw and the streaming client, in a loose and a strict reading of the types, synchronous
and asynchronous. Most of them are about services that are not here (files, assistants, fine-tuning)
or set every parameter at once (audio, several choices, log biases), which is refused by name; what
is left are the calls below. Left out, too: a transport of another package (aiohttp), and the strict
reading of embeddings, which looks for numbers where the package itself has asked for base 64. They
know a base URL only, so a relay stands before the socket; the models have the names that they ask
for."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import BUILD, MODELS, TINY, have, running

SUITE = os.environ.get("BITNETD_OPENAI_SOURCE")  # the unpacked archive; tests/run sets it
WORDS = ("tests/api_resources/chat/test_completions.py", "tests/api_resources/test_completions.py")
VECTORS = "tests/api_resources/test_embeddings.py"
LISTS = "tests/api_resources/test_models.py"
CALLS = ("((create and not all_params) or (list and models)) and not aiohttp"
         " and not (Embeddings and strict)")


def pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def connect(client, path):
    with client, socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()


def relay(listener, path):
    """Until the listener is closed: every connection to it becomes one to the socket."""
    with contextlib.suppress(OSError):
        while True:
            client = listener.accept()[0]
            threading.Thread(target=connect, args=(client, path), daemon=True).start()


def models_named(path):
    with open(os.path.join(SUITE, path), encoding="utf-8") as f:
        return set(re.findall(r'model="([^"]+)"', f.read()))


def make_models(folder):
    for path in WORDS:
        for name in models_named(path):
            shutil.copy(os.path.join(MODELS, TINY + ".gguf"), os.path.join(folder, name + ".gguf"))
    for name in models_named(VECTORS):
        subprocess.run([os.path.join(BUILD, "tests/tools/make-model"), "--arch", "llama",
                        "--pooling", "1", "-o", os.path.join(folder, name + ".gguf")], check=True,
                       capture_output=True)


@unittest.skipUnless(SUITE and have("openai", "pytest", "pytest_asyncio"),
                     "the source archive of openai (BITNETD_OPENAI_SOURCE) or pytest is not there")
class Suites(unittest.TestCase):
    def test_openai(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            make_models(folder)
            with running(model_dir=folder, state=os.path.join(folder, "state"),
                         config="[Default]\nRequestsPerMinute=infinity\n") as d, \
                 socket.create_server(("127.0.0.1", 0)) as listener:
                threading.Thread(target=relay, args=(listener, d.socket), daemon=True).start()
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
                r = subprocess.run(
                    [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p",
                     "no:cacheprovider", "-W", "default", "-k", CALLS, *WORDS, VECTORS, LISTS],
                    cwd=SUITE, env=dict(os.environ, TEST_API_BASE_URL=url), timeout=600,
                    capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 0, r.stdout[-6000:] + r.stderr[-2000:])
        passed = re.search(r"(\d+) passed", r.stdout)
        self.assertGreater(int(passed[1]), 30, r.stdout[-2000:])
        print(r.stdout.splitlines()[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
