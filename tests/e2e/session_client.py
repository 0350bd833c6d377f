"""A desktop program that lets the service keep its conversation (GLib, the session bus). Runs under
the system's python (python3-gi).

  session_client.py < {"initial": [messages] or null, "turns": [text, …], "tokens": n}

Prints a JSON list: for each turn its text and what job and session say of it; then what the program
"run" prints, if there is one.
"""

import json
import os
import subprocess
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

ROOT, NAME = "/org/bitnetd/Bitnetd1", "org.bitnetd.Bitnetd1"


def memory_file(data):
    fd = os.memfd_create("input", os.MFD_CLOEXEC)
    os.write(fd, data.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Client:
    def __init__(self):
        self.bus = Gio.bus_get_sync(Gio.BusType.SESSION)

    def call(self, path, interface, method, args=None, data=None):
        fds = Gio.UnixFDList.new_from_array([memory_file(data)]) if data is not None else None
        reply, out = self.bus.call_with_unix_fd_list_sync(
            NAME, path, f"{NAME}.{interface}", method, args, None, Gio.DBusCallFlags.NONE, 120000,
            fds, None)
        return reply.unpack(), out

    def properties(self, path, interface):
        reply = self.bus.call_sync(NAME, path, "org.freedesktop.DBus.Properties", "GetAll",
                                   GLib.Variant("(s)", (f"{NAME}.{interface}",)), None,
                                   Gio.DBusCallFlags.NONE, 120000, None)
        return reply.unpack()[0]

    def create(self, initial):
        options = {"initial": GLib.Variant("h", 0)} if initial else {}
        data = json.dumps({"messages": initial}) if initial else None
        (path,), _ = self.call(ROOT, "Manager", "CreateSession",
                               GLib.Variant("(sa{sv})", ("", options)), data)
        return path

    def prompt(self, session, text, tokens):
        options = {"max-output-tokens": GLib.Variant("u", tokens)}
        (job, handle), out = self.call(session, "Session", "Prompt",
                                       GLib.Variant("(ha{sv})", (0, options)), text)
        with os.fdopen(out.get(handle), "rb") as f:
            answer = f.read().decode()
        (result, _), _ = self.call(job, "Job", "Wait")
        return {"text": answer, "result": result, "job": self.properties(job, "Job"),
                "session": self.properties(session, "Session")}


def main():
    wanted = json.load(sys.stdin)
    client = Client()
    session = client.create(wanted["initial"])
    said = [client.prompt(session, text, wanted["tokens"]) for text in wanted["turns"]]
    if "run" in wanted:
        said.append(subprocess.run(wanted["run"], capture_output=True, text=True,
                                   check=True).stdout)
    client.call(session, "Session", "Close")
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
