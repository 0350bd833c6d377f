"""A broker for tests: starts the real worker on a SEQPACKET socket pair, speaks the worker link
(daemon/wire/proto.h), hands it connections and bus jobs, and records what it says. Admission is a
function that a test may replace."""
import array
import os
import select
import socket
import struct
import subprocess
import threading
import time

VERSION = 2
(HELLO, CATALOG, CONN, JOB, JOB_OUTPUT, MODEL, PACK_OUTPUT, QUEUED, ADMITTED, REFUSED, LEASE,
 CANCEL, SET_LIMITS, DROP_CACHES, SHUTDOWN, RATES, SET_PRIORITY, PREPARE,
 SESSION_OPEN, SESSION_APPEND, SESSION_CLEAR, SESSION_FORGET, SESSION_CLOSE, TAKE_OUTPUT,
 DISCARD, COUNT, PASSED, USER_GONE) = range(1, 29)
(READY, WANT_MODEL, ADMIT, PROGRESS, DONE, USED, FAULT, CONN_CLOSED, PACKED,
 RESIDENT, SESSION, COUNTED, REFUSALS, SHARES) = range(64, 78)
SESSION_DONE, SESSION_TURN, SESSION_KV, SESSION_CLOSED = range(1, 5)
CHAT, COMPLETE, SUMMARIZE, EMBED, REWRITE, PROOFREAD = range(1, 7)
STATE_PAUSED = 6
RECEIPT_KEY, MODEL_DIGEST = bytes(range(32)), bytes(range(32, 64))
TEXT, CHAT_JSON, REQUEST_JSON = 0, 1, 2
LIMITS = dict(max_input_bytes=1 << 20, kv_bytes=256 << 20, max_output_tokens=16384,
              max_connections=32, max_sequences=8, idle_timeout_ms=60000, max_context_tokens=0,
              model_idle_sec=300, max_keep_sec=3600, weight=100)
UID = 1000
(ERROR_NONE, ERROR_FAILED, ERROR_INVALID_INPUT, ERROR_INPUT_TOO_LARGE, ERROR_CONTEXT_TOO_LONG,
 ERROR_MODEL_NOT_FOUND, ERROR_MODEL_LOADING, ERROR_MODEL_BAD, ERROR_NOT_AUTHORIZED,
 ERROR_RATE_LIMITED, ERROR_QUEUE_FULL, ERROR_CONNECTIONS, ERROR_OVERLOADED, ERROR_UNAVAILABLE,
 ERROR_WORKER_FAILED, ERROR_CANCELLED, ERROR_DEADLINE, ERROR_NO_SUCH_OBJECT, ERROR_NOT_FOUND,
 ERROR_METHOD, ERROR_UNSUPPORTED, ERROR_STOPPING, ERROR_OBJECTS, ERROR_TOKENS_LIMITED,
 ERROR_BUDGET_TOKENS, ERROR_BUDGET_CPU, ERROR_CONFIG, ERROR_SESSIONS,
 ERROR_SESSION_BUSY, ERROR_TOKEN) = range(30)


def header(kind):
    return struct.pack('<II', kind, VERSION)


def pack_limits(l):
    return struct.pack('<QQIIIIIIII', l['max_input_bytes'], l['kv_bytes'], l['max_output_tokens'],
                       l['max_connections'], l['max_sequences'], l['idle_timeout_ms'],
                       l['max_context_tokens'], l['model_idle_sec'], l['max_keep_sec'], l['weight'])


def hello(mode, threads, cpu_mask, fsize, limits, shared=False):
    return header(HELLO) + struct.pack('<IIIIQII', mode, UID, threads, cpu_mask, fsize, 0,
                                       int(shared)) + pack_limits(limits)


def start_worker(binary, env=None):
    """The process and our end of its link. As root the worker gets an unprivileged uid, as it
    refuses to run as root."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    drop = dict(user=65534, group=65534, extra_groups=[]) if os.geteuid() == 0 else {}
    null = open(os.devnull, 'r+b')
    proc = subprocess.Popen([binary], stdin=null, stdout=null, close_fds=False, env=env or {},
                            preexec_fn=lambda: os.dup2(theirs.fileno(), 3), **drop)
    theirs.close()
    null.close()
    return proc, ours


def send(sock, data, fd=None):
    anc = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))]
    sock.sendmsg([data], anc)


def pack_file(binary, source, output):
    """Run the worker in pack mode. Returns (model_error, size)."""
    proc, sock = start_worker(binary)
    try:
        size = os.path.getsize(source)
        send(sock, hello(2, 1, 0xffffffff, 4 * size + (64 << 20), LIMITS))
        check_ready(sock.recv(256))
        with open(source, 'rb') as src, open(output, 'w+b') as out:
            send(sock, header(MODEL) + struct.pack(
                '<64s64sIIQQQII', b'test', b'', 0, 0, 0, 0, 0, UID, 0),
                 src.fileno())
            send(sock, header(PACK_OUTPUT) + struct.pack('<QII', size, 0, 0), out.fileno())
            data = sock.recv(256)
        assert len(data) == 48, 'packed: %d bytes, exit %s' % (len(data), proc.poll())
        error, _, _, _, _, written = struct.unpack('<IIQQQQ', data[8:])
        assert proc.wait(10) == 0, proc.returncode
        return error, written
    finally:
        proc.kill()
        proc.wait()
        sock.close()


def check_ready(data):
    kind = struct.unpack('<I', data[:4])[0] if data else None
    assert kind == READY, 'the worker did not get ready: %r' % data
    return struct.unpack('<IIII', data[8:])


class FakeBroker:
    def __init__(self, binary, models, limits=None, threads=2, shared=False):
        """models: {name: path of a packed file}; the first is the default. shared: users other
        than UID come with set_limits."""
        self.models = models
        self.lock = threading.Lock()
        self.done, self.progress, self.closed, self.admits = {}, [], [], []
        self.resident, self.wanted, self.shares = [], [], []
        self.refused_models = set()  # (uid, name)
        self.refusals = [0] * 48  # by error code
        self.sessions = {}  # what was said of each, in order
        self.model_errors = {}
        self.states = {}  # of the catalogue
        self.next_conn, self.next_job, self.seq = 0, 100, 0
        self.admission = lambda admit: 'admit'
        self.leasing = True
        self.model_delay = 0
        self.proc, self.sock = start_worker(binary)
        send(self.sock, hello(1, threads, 0xffffffff, 0, dict(LIMITS, **(limits or {})), shared))
        self.ready = check_ready(self.sock.recv(256))
        self.send_catalog()
        self.wake_r, self.wake_w = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def send_catalog(self):
        for i, (name, path) in enumerate(self.models.items()):
            send(self.sock, header(CATALOG) + struct.pack(
                '<II64sQQII', i, len(self.models), name.encode(), os.path.getsize(path), 1700000000,
                1 if i == 0 else 0, self.states.get(name, ERROR_NONE)))

    def run(self):
        while True:
            ready, _, _ = select.select([self.sock, self.wake_r], [], [])
            if self.wake_r in ready:
                return
            try:
                data = self.sock.recv(256)
            except OSError:
                return
            if not data:
                return
            with self.lock:
                self.handle(struct.unpack('<I', data[:4])[0], data[8:])

    def handle(self, kind, body):
        if kind == WANT_MODEL:
            name, uid, _ = struct.unpack('<64sII', body)
            self.wanted.append(name.rstrip(b'\0').decode())
            self.answer_model(self.wanted[-1], uid)
        elif kind == ADMIT:
            self.answer_admit(body)
        elif kind == USED:
            _, flags, _ = struct.unpack('<QII', body)
            if flags & 1 and self.leasing:
                self.lease()
        elif kind == PROGRESS:
            self.progress.append(struct.unpack('<QIIIIQQQQQ', body))
        elif kind == DONE:
            f = struct.unpack('<QIIIIQQQQQQQ', body)
            assert f[0] not in self.done, 'a second DONE'
            self.done[f[0]] = dict(error=f[1], finish=f[2], pieces=f[3], rounds=f[4],
                                   tokens_in=f[5], tokens_out=f[6], bytes_in=f[7], covered=f[8],
                                   value=f[9], limit=f[10], cached=f[11])
        elif kind == REFUSALS:
            for code, n in enumerate(struct.unpack('<48I', body)):
                self.refusals[code] += n
        elif kind == RESIDENT:
            f = struct.unpack('<64sIIQQQQQ', body)
            self.resident.append(dict(model=f[0].rstrip(b'\0').decode(), models=f[1], keep=f[3],
                                      weights=f[4], private=f[5], kv=f[6], kept=f[7]))
        elif kind == SESSION:
            f = struct.unpack('<QIIQQQQQQ', body)
            self.sessions.setdefault(f[0], []).append(dict(
                event=f[1], error=f[2], value=f[3], limit=f[4], tokens=f[5], tokens_max=f[6],
                turns=f[7], kv=f[8]))
        elif kind == SHARES:
            n, _ = struct.unpack('<II', body[:8])
            self.shares += [struct.unpack_from('<II', body, 8 + 8 * i) for i in range(n)]
        elif kind == CONN_CLOSED:
            self.closed.append(struct.unpack('<Q', body)[0])

    def lease(self):
        self.seq += 1
        send(self.sock, header(LEASE) + struct.pack('<QQ', self.seq, 100000))

    def answer_model(self, asked, uid=UID):
        time.sleep(self.model_delay)
        name = asked or next(iter(self.models))
        error = self.model_errors.get(name, ERROR_NONE)
        if (uid, name) in self.refused_models:
            error = ERROR_NOT_AUTHORIZED
        body = header(MODEL) + struct.pack('<64s64sIIQQQII', name.encode(), asked.encode(), error,
                                           0, 0, 0, 0, uid, 0)
        if error:
            send(self.sock, body)
            return
        with open(self.models[name], 'rb') as f:
            send(self.sock, body, f.fileno())

    def answer_admit(self, body):
        ref, conn, name, verb, priority, size, tokens_in, wanted, count, _ = struct.unpack(
            '<QQ64sIIQQQII', body)
        admit = dict(ref=ref, conn=conn, model=name.rstrip(b'\0').decode(), verb=verb,
                     priority=priority, bytes=size, tokens_in=tokens_in, wanted=wanted)
        self.next_job += 1
        admit['job'] = ref if ref < 1 << 63 else self.next_job
        self.admits.append(admit)
        verdict = self.admission(admit)
        if verdict == 'admit' and count:
            send(self.sock, header(PASSED) + struct.pack('<Q', ref))
        elif verdict == 'admit':
            self.admit(admit)
        elif verdict == 'queue':
            self.queued(admit)
        elif verdict is not None:
            error, retry, value, limit = verdict
            send(self.sock, header(REFUSED) + struct.pack('<QIIQQ', ref, error, retry, value,
                                                              limit))

    def admit(self, admit):
        send(self.sock, header(ADMITTED) + struct.pack('<QQ32s32s', admit['ref'], admit['job'],
                                                       RECEIPT_KEY, MODEL_DIGEST))

    def queued(self, admit, position=1, tokens=0, wait_usec=0):
        send(self.sock, header(QUEUED) + struct.pack('<QQIIQQ', admit['ref'], admit['job'],
                                                     position, 0, tokens, wait_usec))

    def take_output(self, job):
        """A reader's end of a detached job's output."""
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        send(self.sock, header(TAKE_OUTPUT) + struct.pack('<Q', job), theirs.fileno())
        theirs.close()
        ours.settimeout(60)
        return ours

    def discard(self, job):
        send(self.sock, header(DISCARD) + struct.pack('<Q', job))

    def set_priority(self, job, priority):
        send(self.sock, header(SET_PRIORITY) + struct.pack('<QII', job, priority, 0))

    def cancel(self, job, reason=ERROR_CANCELLED):
        send(self.sock, header(CANCEL) + struct.pack('<QII', job, reason, 0))

    def rates(self, requests, tokens):
        """Each: (per minute, left, owed) in sixty-millionths."""
        send(self.sock, header(RATES) + struct.pack('<QQQQQQII', *requests, *tokens, UID, 0))

    def set_limits(self, limits, uid=UID, default=''):
        send(self.sock, header(SET_LIMITS) + pack_limits(limits) +
             struct.pack('<64sII', default.encode(), uid, 0))

    def user_gone(self, uid):
        send(self.sock, header(USER_GONE) + struct.pack('<II', uid, 0))

    def prepare(self, name, keep, uid=UID):
        send(self.sock, header(PREPARE) + struct.pack('<64sII', name.encode(), int(keep), uid))

    def drop_caches(self):
        send(self.sock, header(DROP_CACHES))

    def connect(self, bufsize=None, uid=UID):
        """A client's end of a connection that the worker serves. Returns (socket, id)."""
        ours, theirs = socket.socketpair()
        if bufsize:
            for s in (ours, theirs):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, bufsize)
        with self.lock:
            self.next_conn += 1
            send(self.sock, header(CONN) + struct.pack('<QII', self.next_conn, uid, 0),
                 theirs.fileno())
            theirs.close()
            ours.settimeout(60)
            return ours, self.next_conn

    def bus_job(self, job, verb, input_fd, output_fd, input_format=TEXT, events=False, model='',
                max_tokens=0, temperature=-1.0, summary=(0, 0, 0), deadline=0, session=0,
                keep=0, uid=UID):
        with self.lock:
            send(self.sock, header(JOB) + struct.pack(
                '<Q64sIIIIIIIIdddIIQQQQQII', job, model.encode(), verb, 0, input_format,
                int(events), *summary, max_tokens, temperature, -1.0, -1.0, 0xffffffff, 0, 0,
                deadline, session, keep, 0, uid, 0), input_fd)
            send(self.sock, header(JOB_OUTPUT) + struct.pack('<Q', job), output_fd)

    def session(self, kind, session, model='', fd=None, initial=0, uid=UID):
        """Ask something of a session; the answer if there is one to this."""
        body = struct.pack('<Q', session)
        if kind == SESSION_OPEN:
            body += struct.pack('<64sII', model.encode(), uid, 0)
        elif kind == SESSION_APPEND:
            body += struct.pack('<II', initial, 0)
        with self.lock:
            said = len(self.sessions.get(session, []))
            send(self.sock, header(kind) + body, fd)
        if kind == SESSION_FORGET:
            return None
        event = SESSION_CLOSED if kind == SESSION_CLOSE else SESSION_DONE
        return self.wait_for(lambda: [e for e in self.sessions.get(session, [])[said:]
                                      if e['event'] == event])[0]

    def wait_for(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.lock:
                value = condition()
            if value:
                return value
            time.sleep(0.01)
        raise AssertionError('nothing happened for %d s; worker exit status %s' %
                             (seconds, self.proc.poll()))

    def stop(self):
        """End in order; returns the worker's exit status."""
        try:
            send(self.sock, header(SHUTDOWN))
        except OSError:
            pass
        try:
            return self.proc.wait(60)
        finally:
            self.proc.kill()
            self.proc.wait()
            os.write(self.wake_w, b'x')
            self.thread.join()
            for fd in (self.wake_r, self.wake_w):
                os.close(fd)
            self.sock.close()
