"""A desktop program that counts before it asks (GLib). Runs under the system's python (python3-gi).

  bus_count.py ADDRESS < [[model, text, options], …]    options: {key: word}

Prints a JSON list: for each input what CountTokens said (or the name of its error) and what TokensIn
of a real job is. "stall": a pipe that nothing comes through, counted only.
"""

import json
import os
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"


def memory_file(text):
    fd = os.memfd_create("input")
    os.write(fd, text.encode())
    return fd


def call(bus, method, model, fd, options):
    reply, _ = bus.call_with_unix_fd_list_sync(
        NAME, ROOT, NAME + ".Manager", method, GLib.Variant("(sha{sv})", (model, 0, options)), None,
        Gio.DBusCallFlags.NONE, 60000, Gio.UnixFDList.new_from_array([fd]), None)
    return reply.unpack()


def tokens_in(bus, model, text, options):
    job, _ = call(bus, "Generate", model, memory_file(text),
                  {**options, "detach": GLib.Variant("b", True),
                   "max-output-tokens": GLib.Variant("u", 1)})
    details = bus.call_sync(NAME, job, NAME + ".Job", "Wait", None, None, Gio.DBusCallFlags.NONE,
                            60000, None).unpack()[1]
    return details["tokens-in"]


def main():
    flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
             Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
    bus = Gio.DBusConnection.new_for_address_sync(sys.argv[1], flags, None, None)
    found = []
    for model, text, words in json.load(sys.stdin):
        options = {k: GLib.Variant("s", v) for k, v in words.items()}
        pipe = os.pipe()
        fd = pipe[0] if text == "stall" else memory_file(text)
        try:
            counted = call(bus, "CountTokens", model, fd, options)
        except GLib.Error as e:
            found.append([Gio.DBusError.get_remote_error(e), None])
            continue
        found.append([counted, tokens_in(bus, model, text, options)])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
