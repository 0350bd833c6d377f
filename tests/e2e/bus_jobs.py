"""Two programs on one bus: one starts a detached job, hears of its progress and leaves; the other
hears nothing, comes afterwards and takes the output. Runs under the system's python (python3-gi).

  bus_jobs.py ADDRESS        prints what happened as JSON
"""

import json
import os
import sys
import time

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"
REQUEST = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 300,
           "response_format": {"type": "json_schema", "json_schema": {
               "name": "long", "schema": {"type": "string", "minLength": 100000}}}}


def connect(heard):
    flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
             Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
    bus = Gio.DBusConnection.new_for_address_sync(sys.argv[1], flags, None, None)
    bus.signal_subscribe(None, NAME + ".Job", None, None, None, Gio.DBusSignalFlags.NONE,
                         lambda *a: heard.append((a[4], a[2], a[5].unpack())))
    return bus


def call(bus, path, method, args=None, fds=None):
    interface = NAME + (".Manager" if path == ROOT else ".Job")
    return bus.call_with_unix_fd_list_sync(NAME, path, interface, method, args, None,
                                           Gio.DBusCallFlags.NONE, 120000, fds, None)


def main():
    heard, others = [], []
    owner, other = connect(heard), connect(others)
    request = os.memfd_create("request")
    os.write(request, json.dumps(REQUEST).encode())
    options = {"input-format": GLib.Variant("s", "request-json"),
               "detach": GLib.Variant("b", True), "token": GLib.Variant("s", "story")}
    expected = f"{ROOT}/job/{owner.get_unique_name()[1:].replace('.', '_')}/story"
    begin = time.monotonic()
    reply, _ = call(owner, ROOT, "Generate", GLib.Variant("(sha{sv})", ("", 0, options)),
                    Gio.UnixFDList.new_from_array([request]))
    job = reply.unpack()[0]
    loop = GLib.MainContext.default()
    while not any(h[0] == "Completed" for h in heard):
        loop.iteration(True)
    seconds = time.monotonic() - begin
    owner.close_sync()
    reply, fds = call(other, job, "TakeOutput")
    with os.fdopen(fds.get(reply.unpack()[0]), "rb") as f:
        text = f.read().decode()
    result = call(other, job, "Wait")[0].unpack()
    while loop.iteration(False):
        pass
    print(json.dumps({
        "progressed": [h[2] for h in heard if h[0] == "Progressed"], "seconds": seconds,
        "known": job == expected, "paths": sorted({h[1] for h in heard} - {expected}), "others": len(others), "text": text,
        "result": result[0], "tokens": result[1]["tokens-out"]}))


if __name__ == "__main__":
    main()
