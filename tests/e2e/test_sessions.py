"""A conversation that the service keeps: the answers are those of the whole conversation sent over
HTTP, and keys and values are kept between the turns."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
import unittest

from harness import BNCTL, SMOL, SOURCE, running, session_bus

CLIENT = os.path.join(SOURCE, "tests/e2e/session_client.py")
SYSTEM_PYTHON = "/usr/bin/python3"
INITIAL = [{"role": "system", "content": "You are a guide in a museum of the sea. Be friendly."}]
TURNS = ["Tell me about the lighthouse.", "How tall is it?", "Who lives there?"]


def session(env, initial, turns, tokens=40, **more):
    wanted = {"initial": initial, "turns": turns, "tokens": tokens, **more}
    r = subprocess.run([SYSTEM_PYTHON, CLIENT], input=json.dumps(wanted), capture_output=True,
                       env=dict(os.environ, **env), text=True, timeout=300, check=False)
    if r.returncode != 0:
        raise AssertionError(r.stderr)
    return json.loads(r.stdout)


def by_hand(d, initial, turns, tokens=40):
    messages = list(initial or [])
    for text in turns:
        messages.append({"role": "user", "content": text})
        status, _, data = d.request("POST", "/v1/chat/completions", {
            "model": SMOL, "messages": messages, "max_tokens": tokens})
        if status != 200:
            raise AssertionError(data)
        v = json.loads(data)
        messages.append(v["choices"][0]["message"])
        yield v["choices"][0]["message"]["content"], v["usage"]["prompt_tokens"]


class Sessions(unittest.TestCase):
    def setUp(self):
        self.env = {"DBUS_SESSION_BUS_ADDRESS": self.enterContext(session_bus())}

    def wait_for_name(self):
        """The sockets answer a moment before the name is there."""
        for _ in range(500):
            r = subprocess.run(["busctl", "--address=" + self.env["DBUS_SESSION_BUS_ADDRESS"],
                                "status", "org.bitnetd.Bitnetd1"], capture_output=True, check=False)
            if r.returncode == 0:
                return
            time.sleep(0.02)

    def test_as_the_whole_conversation_sent_at_once(self):
        for initial in (INITIAL, None):
            with running(env=self.env) as d:
                self.wait_for_name()
                said = session(self.env, initial, TURNS)
                expected = list(by_hand(d, initial, TURNS))
            self.assertEqual([(s["text"], s["job"]["TokensIn"]) for s in said], expected)
            self.assertEqual([s["result"] for s in said], ["done"] * 3)
            cached = [s["job"]["TokensCached"] for s in said]
            self.assertEqual(cached[0], 0)
            self.assertGreaterEqual(cached[1], 32)
            self.assertGreater(cached[2], cached[1])
            self.assertEqual([s["session"]["Turns"] for s in said], [1, 2, 3])
            self.assertGreater(said[2]["session"]["KVBytes"], said[0]["session"]["KVBytes"])
            self.assertLess(said[2]["session"]["TokensUsed"], said[2]["session"]["TokensMax"])

    def test_no_keys_kept_no_difference(self):
        with running(config="[Default]\nMaxSessionKV=0\n", env=self.env) as d:
            self.wait_for_name()
            said = session(self.env, INITIAL, TURNS)
            self.assertEqual([s["job"]["TokensCached"] for s in said], [0] * 3)
            self.assertEqual([s["session"]["KVBytes"] for s in said], [0] * 3)
            self.assertEqual([s["text"] for s in said],
                             [text for text, _ in by_hand(d, INITIAL, TURNS)])

    def test_ps(self):
        with running(env=self.env) as d:
            self.wait_for_name()
            ps = ["env", "BITNETD_SOCKET=" + d.socket, BNCTL, "ps"]
            said = session(self.env, None, TURNS[:1], tokens=5, run=ps)
            self.assertRegex(said[1], r"SESSION +UID STATE MODEL +TURNS +TOKENS +KV\n"
                             r"\d+ +\d+ idle +smollm2-\S+ +1 +\d+ of \d+ +[0-9.]+[KMG]")
            self.assertNotIn("lighthouse", said[1])
            self.assertNotIn("SESSION", d.bnctl("ps").stdout)


class PrivateSocket(unittest.TestCase):
    def test_a_call_together_with_the_end_of_the_authentication(self):
        fields = b""
        for code, kind, text in ((1, b"o", b"/org/bitnetd/Bitnetd1"),
                                 (2, b"s", b"org.freedesktop.DBus.Peer"), (3, b"s", b"Ping")):
            fields += bytes(-len(fields) % 8) + bytes([code, 1]) + kind + b"\0"
            fields += struct.pack("<I", len(text)) + text + b"\0"
        ping = b"l\1\0\1" + struct.pack("<III", 0, 1, len(fields)) + fields
        ping += bytes(-len(ping) % 8)
        with running() as d, socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(os.path.join(d.dir, "bus.sock"))
            uid = str(os.geteuid()).encode().hex().encode()
            s.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n" + ping)
            said = b""
            while b"AGREE_UNIX_FD\r\n" not in said or said.endswith(b"AGREE_UNIX_FD\r\n"):
                more = s.recv(4096)
                self.assertTrue(more, said)
                said += more
            self.assertEqual(said.split(b"AGREE_UNIX_FD\r\n")[1][:2], b"l\2")


if __name__ == "__main__":
    if subprocess.run([SYSTEM_PYTHON, "-c", "import gi"], check=False).returncode != 0:
        print("skipped: python3-gi is not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
