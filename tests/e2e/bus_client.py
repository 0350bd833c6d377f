"""A desktop program: asks org.bitnetd.Bitnetd1 for a summary (or an answer) by descriptor, with
GLib. Runs under the system's python (python3-gi).

  bus_client.py session|system METHOD [KEY=WORD...] < TEXT     prints the text, then result and details
"""

import os
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"


def main():
    kind = Gio.BusType.SYSTEM if sys.argv[1] == "system" else Gio.BusType.SESSION
    bus = Gio.bus_get_sync(kind)
    document = os.memfd_create("document", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(document, sys.stdin.buffer.read())
    os.lseek(document, 0, os.SEEK_SET)
    fds = Gio.UnixFDList.new_from_array([document])
    options = {key: GLib.Variant("b", True) if word == "true" else GLib.Variant("s", word)
               for key, word in
               (option.split("=", 1) for option in sys.argv[3:])}
    if sys.argv[2] in ("Summarize", "Generate"):
        options["max-output-tokens"] = GLib.Variant("u", 60)
    if sys.argv[2] == "Summarize":
        options["length"] = GLib.Variant("s", "short")
    reply, out = bus.call_with_unix_fd_list_sync(
        NAME, ROOT, NAME + ".Manager", sys.argv[2],
        GLib.Variant("(sha{sv})", ("", 0, options)), None, Gio.DBusCallFlags.NONE, 120000, fds,
        None)
    job, handle = reply.unpack()
    with os.fdopen(out.get(handle), "rb") as f:
        text = f.read().decode()
    result = bus.call_sync(NAME, job, NAME + ".Job", "Wait", None, None, Gio.DBusCallFlags.NONE,
                           120000, None).unpack()
    print(text)
    print("result:", result[0])
    print("details:", result[1])


if __name__ == "__main__":
    main()
