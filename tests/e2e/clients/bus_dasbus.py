"""dasbus, unmodified, on the session bus. Runs under the system's python (python3-dasbus)."""

import os
import threading

from dasbus.connection import SessionMessageBus
from dasbus.error import DBusError
from dasbus.loop import EventLoop
from dasbus.typing import get_variant
from dasbus.unix import GLibClientUnix

NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"
QUESTION = b"What is the capital of France?"
bus = SessionMessageBus()
manager = bus.get_proxy(NAME, ROOT, interface_name=NAME + ".Manager", client=GLibClientUnix)
completed = []


def job_of(path):
    return bus.get_proxy(NAME, path, interface_name=NAME + ".Job")


def document(text):
    fd = os.memfd_create("input", os.MFD_CLOEXEC)
    os.write(fd, text)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def generate(text):
    path, output = manager.Generate("", document(text),  # dasbus closes what it sends
                                    {"max-output-tokens": get_variant("u", 40)})
    return job_of(path), path, output


def read_all(output):
    parts = []
    while part := os.read(output, 65536):
        parts.append(part)
    os.close(output)
    return parts


def ask():
    job, path, output = generate(QUESTION)
    job.Completed.connect(lambda result, details: completed.append((path, result, details)))
    parts = read_all(output)
    result, details = job.Wait(timeout=120000)
    assert result == "done" and details["error"].unpack() == ""
    assert details["tokens-in"].unpack() > 0 and details["tokens-out"].unpack() > 0
    assert job.TokensOut == details["tokens-out"].unpack()
    return parts, details


parts, details = ask()
assert b"Paris" in b"".join(parts) and len(parts) > 1, parts # it came in pieces

try:
    manager.Generate("no-such-model", document(QUESTION), {})
    raise AssertionError("no error")
except DBusError as e:
    assert e.dbus_name == NAME + ".Error.ModelNotFound", e.dbus_name

# an input that never ends
reading, writing = os.pipe()
path, output = manager.Generate("", reading, {})
job = job_of(path)
job.Cancel()
assert job.Wait(timeout=120000)[0] == "cancelled"
assert read_all(output) == []
try:
    job_of(ROOT + "/job/999999").Cancel()
    raise AssertionError("no error")
except DBusError as e:
    assert e.dbus_name == NAME + ".Error.NoSuchObject", e.dbus_name

again, _ = ask()
assert b"".join(again) == b"".join(parts)

loop = EventLoop()
threading.Timer(0.2, loop.quit).start()
loop.run() # the signals, if they have not been delivered before
assert [c[1] for c in completed] == ["done", "done"], completed
assert completed[0][2]["tokens-out"].unpack() == details["tokens-out"].unpack()
print("ok")
