"""Many users at once: a child process for each, of its own uid, that sends requests and reports."""

import contextlib
import json
import os
import socket
import threading
import time
import traceback

TICKS = os.sysconf("SC_CLK_TCK")


def exchange(path, url, body, timeout=120):
    """(status, headers, body) of one request on a connection of its own; the body undone of its
    chunks, and complete, or it raises."""
    body = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path) # waits while the line of those that connect is full
        s.settimeout(timeout)
        s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (url.encode(), len(body)))
        s.sendall(body)
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
    if "content-length" in headers and int(headers["content-length"]) != len(rest):
        raise ValueError("cut short")
    return int(lines[0].split()[1]), headers, rest


class User:
    """Runs work(*args) as this uid and group (of the same number unless told otherwise); what it
    returns is its report. Ends with the test."""

    def __init__(self, uid, work, *args, gid=None):
        gid = uid if gid is None else gid
        self.uid = uid
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(read)
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                report = json.dumps(work(*args)).encode()
                while report:
                    report = report[os.write(write, report):]
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(write)
        self.pipe = open(read, "rb")

    def report(self):
        data = self.pipe.read()
        self.pipe.close()
        status = os.waitpid(self.pid, 0)[1]
        self.pid = None
        if status != 0:
            raise RuntimeError(f"user {self.uid} ended with status {status}")
        return json.loads(data)

    def kill(self):
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.pid = None
            self.pipe.close()


def at_once(n, function):
    """The results of n calls in threads of their own."""
    results = [None] * n
    errors = []

    def run(i):
        try:
            results[i] = function(i)
        except Exception as e:
            errors.append(e)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def cpu_seconds(pid):
    """What all threads of a process have computed so far, as the kernel counts."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(condition)
        time.sleep(0.05)
