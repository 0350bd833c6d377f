"""Sessions of the worker program: the same answers as the whole conversation over HTTP, keys and
values kept and dropped, nothing left of a turn that failed, nothing left of a session at all.
Arguments as of test_worker.py."""
import json
import os
import re
import socket
import sys
import unittest

import fake_broker as fb
from test_worker import Case, read_all, setUpModule, tearDownModule  # noqa: F401

ID = 77
LONG = 'Once upon a time there was a little dog who lived in a big red house by the sea. '


def memory_file(data):
    fd = os.memfd_create('input')
    os.write(fd, data if isinstance(data, bytes) else json.dumps(data).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Sessions(Case):
    def setUp(self):
        super().setUp()
        self.next_job = 1000
        self.messages = []  # as a client would keep them
        self.survives = True

    def stop(self):
        self.assertEqual(self.b.stop() == 0, self.survives)

    def op(self, kind, data=None, **options):
        fd = None if data is None else memory_file(data)
        said = self.b.session(kind, ID, fd=fd, **options)
        if fd is not None:
            os.close(fd)
        return said

    def open_session(self, model='story'):
        said = self.op(fb.SESSION_OPEN, model=model)
        self.assertEqual((said['error'], said['turns'], said['kv']), (0, 0, 0))
        self.assertGreater(said['tokens_max'], 100)
        return said

    def begin(self, data, **options):
        """Begin a turn; the client's end of its output."""
        fd = memory_file(data)
        out, theirs = socket.socketpair()
        self.next_job += 1
        self.b.bus_job(self.next_job, fb.CHAT, fd, theirs.fileno(), session=ID, **options)
        os.close(fd)
        theirs.close()
        out.settimeout(60)
        return out

    def turn(self, data, error=0, **options):
        """(text, DONE, what the session said of itself)"""
        with self.begin(data, **options) as out:
            text = read_all(out).decode()
        done = self.b.wait_for(lambda: self.b.done.get(self.next_job))
        self.assertEqual(done['error'], error)
        return text, done, self.b.sessions[ID][-1]

    def http(self, **fields):
        v = self.ask_json('POST', '/v1/chat/completions',
                          dict({'model': 'story', 'messages': self.messages}, **fields))
        return v['choices'][0]['message']['content'], v['usage']['prompt_tokens']

    def both(self, data, **options):
        """The same turn here and by the client's own conversation."""
        text, done, state = self.turn(data, **options)
        self.messages.append({'role': 'user', 'content': data.decode()})
        mine, tokens = self.http(max_tokens=options['max_tokens'])
        self.assertEqual(text, mine)
        self.assertEqual(done['tokens_in'], tokens)
        self.messages.append({'role': 'assistant', 'content': mine})
        return done, state

    def test_turns_are_as_over_http_and_keys_are_kept(self):
        self.open_session()
        cached, kv = [], []
        for i in range(4):
            done, state = self.both(LONG.encode() * (2 if i == 0 else 1), max_tokens=12)
            self.assertEqual((state['event'], state['turns']), (fb.SESSION_TURN, i + 1))
            cached.append(done['cached'])
            kv.append(state['kv'])
        self.assertEqual(cached[0], 0)
        self.assertGreaterEqual(cached[1], 32)
        self.assertGreater(cached[3], cached[1])
        self.assertEqual(kv, sorted(kv))
        self.assertGreater(kv[0], 0)
        # How full it says it is, is what the next turn reads besides its own words.
        self.messages.append({'role': 'user', 'content': 'x'})
        self.assertLess(abs(self.http(max_tokens=1)[1] - state['tokens']), 4)

    def test_without_its_keys_the_bytes_are_the_same(self):
        self.open_session()
        self.both(LONG.encode(), max_tokens=40)
        self.op(fb.SESSION_FORGET)
        done, state = self.both(b'And then the cat came.', max_tokens=20)
        self.assertEqual(done['cached'], 0)
        self.assertGreater(state['kv'], 0)
        self.b.drop_caches()
        said = self.b.wait_for(lambda: [s for s in self.b.sessions[ID]
                                        if s['event'] == fb.SESSION_KV])
        self.assertEqual(said[0]['kv'], 0)
        done, _ = self.both(b'And then?', max_tokens=20)
        self.assertEqual(done['cached'], 0)

    def test_initial_append_clear(self):
        empty = self.open_session()
        initial = [{'role': 'system', 'content': 'You tell stories of dogs. '}]
        said = self.op(fb.SESSION_APPEND, {'messages': initial}, initial=1)
        self.assertEqual(said['error'], 0)
        self.assertGreater(said['tokens'], empty['tokens'])
        self.messages = list(initial)
        self.both(b'Tell one.', max_tokens=10)
        more = [{'role': 'user', 'content': 'The dog was red. '},
                {'role': 'assistant', 'content': 'Yes, it was red. '}]
        before = self.b.sessions[ID][-1]['tokens']
        self.assertGreater(self.op(fb.SESSION_APPEND, {'messages': more})['tokens'], before)
        self.messages += more
        self.both(b'What colour?', max_tokens=10)
        cleared = self.op(fb.SESSION_CLEAR)
        self.assertEqual((cleared['error'], cleared['tokens'], cleared['kv'], cleared['turns']),
                         (0, said['tokens'], 0, 2))
        self.messages = list(initial)
        done, _ = self.both(b'Tell one.', max_tokens=10)
        self.assertEqual(done['cached'], 0)

    def test_inputs_of_a_turn(self):
        self.open_session()
        self.messages = [{'role': 'user', 'content': 'One day, '}]
        text, _, _ = self.turn({'messages': self.messages}, input_format=fb.CHAT_JSON,
                               max_tokens=9)
        self.assertEqual(text, self.http(max_tokens=9)[0])
        self.messages += [{'role': 'assistant', 'content': text},
                          {'role': 'user', 'content': 'and so '}]
        text, done, _ = self.turn({'prompt': 'and so ', 'max_tokens': 8}, max_tokens=0,
                                  input_format=fb.REQUEST_JSON)
        self.assertEqual(text, self.http(max_tokens=8)[0])
        for bad in (b'', b'{"messages":[]}', b'{"prompt":3}', b'[1]', b'{"messages":[{"role":"x"}]}'):
            self.turn(bad, error=fb.ERROR_INVALID_INPUT, input_format=fb.REQUEST_JSON)
        self.turn(b'\xff', error=fb.ERROR_INVALID_INPUT)
        for bad in (b'', b'{}', b'{"messages":7}', b'{"messages":[{"role":"x","content":"a"}]}'):
            before = self.b.sessions[ID][-1]['tokens']
            said = self.op(fb.SESSION_APPEND, bad)
            self.assertEqual((said['error'], said['tokens']), (fb.ERROR_INVALID_INPUT, before))

    def test_a_cancelled_turn_leaves_no_trace(self):
        self.open_session()
        self.both(LONG.encode(), max_tokens=10)
        before = self.b.sessions[ID][-1]
        self.b.admission = lambda admit: 'queue'
        with self.begin(b'This is never answered. ' * 5) as out:
            self.b.wait_for(lambda: [a for a in self.b.admits if a['ref'] == self.next_job])
            first = self.next_job
            self.turn(b'hi', error=fb.ERROR_SESSION_BUSY)
            self.b.cancel(first)
            self.assertEqual(read_all(out), b'')
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(first))['error'],
                         fb.ERROR_CANCELLED)
        after = self.b.sessions[ID][-1]
        self.assertEqual({k: after[k] for k in ('tokens', 'turns', 'kv')},
                         {k: before[k] for k in ('tokens', 'turns', 'kv')})
        self.b.admission = lambda admit: 'admit'
        self.both(b'Go on.', max_tokens=10)

    def test_a_reader_that_goes_cancels_the_turn_only(self):
        self.open_session(model='wide')
        before = self.b.sessions[ID][-1]['tokens']
        out = self.begin(b'abc', max_tokens=8000, temperature=2.0)
        out.recv(10)
        out.close()
        done = self.b.wait_for(lambda: self.b.done.get(self.next_job))
        self.assertEqual(done['error'], fb.ERROR_CANCELLED)
        self.assertEqual(self.b.sessions[ID][-1]['tokens'], before)
        self.turn(b'abc', max_tokens=3)

    def test_full_context(self):
        limit = self.open_session()['tokens_max']
        for _ in range(60):
            with self.begin(LONG.encode(), max_tokens=4000) as out:
                read_all(out)
            done = self.b.wait_for(lambda: self.b.done.get(self.next_job))
            if done['error']:
                break
            self.assertLessEqual(done['tokens_in'] + done['tokens_out'], limit)
        self.assertEqual(done['error'], fb.ERROR_CONTEXT_TOO_LONG)
        before = dict(self.b.sessions[ID][-1])
        _, done, after = self.turn(LONG.encode(), error=fb.ERROR_CONTEXT_TOO_LONG)
        self.assertEqual(done['limit'], limit)
        self.assertGreater(done['value'], done['limit'])
        self.assertEqual((after['tokens'], after['turns']), (before['tokens'], before['turns']))
        said = self.op(fb.SESSION_APPEND, {'messages': [{'role': 'user', 'content': LONG * 99}]})
        self.assertEqual((said['error'], said['limit']), (fb.ERROR_CONTEXT_TOO_LONG, limit))
        self.assertEqual(said['tokens'], before['tokens'])
        self.op(fb.SESSION_CLEAR)
        self.both(b'Hello.', max_tokens=5)

    def test_unknown_and_missing(self):
        said = self.op(fb.SESSION_OPEN, model='none-such')
        self.assertEqual(said['error'], fb.ERROR_MODEL_NOT_FOUND)
        self.op(fb.SESSION_CLOSE)
        self.turn_to_nobody()

    def turn_to_nobody(self):
        with self.begin(b'hi') as out:
            read_all(out)
        done = self.b.wait_for(lambda: self.b.done.get(self.next_job))
        self.assertEqual(done['error'], fb.ERROR_NO_SUCH_OBJECT)

    def test_close_during_a_turn(self):
        self.open_session(model='wide')
        with self.begin(b'abc', max_tokens=8000, temperature=2.0) as out:
            out.recv(10)
            self.b.cancel(self.next_job)
            self.assertEqual(self.op(fb.SESSION_CLOSE)['tokens'], 0)
            read_all(out)
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(self.next_job))['error'],
                         fb.ERROR_CANCELLED)
        self.turn_to_nobody()
        self.open_session()

    def test_no_text_stays_after_close(self):
        if os.geteuid() != 0:
            self.skipTest('only root may look into another process')
        words = ['zq' + os.urandom(6).hex() for _ in range(3)]
        self.open_session(model='wide')
        self.op(fb.SESSION_APPEND, {'messages': [{'role': 'system', 'content': words[0]}]},
                initial=1)
        self.op(fb.SESSION_APPEND, {'messages': [{'role': 'user', 'content': words[1] + '!' * 5000}]})
        self.turn(words[2].encode(), max_tokens=4)
        self.assertEqual([w in self.memory() for w in words], [True] * 3)
        self.op(fb.SESSION_CLEAR)
        self.assertEqual([w in self.memory() for w in words], [True, False, False])
        self.op(fb.SESSION_CLOSE)
        self.assertEqual([w in self.memory() for w in words], [False] * 3)

    def memory(self):
        """What can be read of the worker's private memory, as text."""
        parts = []
        pid = self.b.proc.pid
        with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as mem:
            for line in maps:
                m = re.match(r'([0-9a-f]+)-([0-9a-f]+) rw.p', line)
                if not m:
                    continue
                start, end = (int(x, 16) for x in m.groups())
                if end - start > 64 << 20 or line.rstrip().endswith(']') and '[heap]' not in line \
                        and '[stack]' not in line:
                    continue
                try:
                    mem.seek(start)
                    parts.append(mem.read(end - start))
                except OSError:
                    pass
        return b''.join(parts).decode('latin-1')

    def test_what_the_broker_must_not_do(self):
        self.open_session()
        fb.send(self.b.sock, fb.header(fb.SESSION_CLEAR) + (78).to_bytes(8, 'little'))
        self.assertNotEqual(self.b.proc.wait(10), 0)
        self.survives = False


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
