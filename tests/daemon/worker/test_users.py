"""Several users of one worker program: whose keys, connections, results and models are whose, and for
whom it has computed. Arguments as of test_worker.py."""
import http.client
import json
import os
import socket
import sys
import unittest

import fake_broker as fb
from test_worker import PACKED, WORKER, FakeBroker, read_all, setUpModule, tearDownModule  # noqa: F401

OTHER = 2000
BODY = {'prompt': 'The dog ran to the tree and sat down. ' * 10, 'max_tokens': 8}


class Users(unittest.TestCase):
    def setUp(self):
        self.b = FakeBroker(WORKER, {n: PACKED[n] for n in ('story', 'wide')}, shared=True)
        self.status = 0
        self.addCleanup(self.stop)

    def stop(self):
        self.assertEqual(self.b.stop() == 0, self.status == 0)

    def come(self, uid=OTHER, **limits):
        default = limits.pop('default', '')
        self.b.set_limits(dict(fb.LIMITS, **limits), uid, default)

    def ask(self, uid, body=None, method='POST', path='/v1/completions'):
        """One connection, which is over for the worker, too."""
        sock, conn = self.b.connect(uid=uid)
        with sock:
            c = http.client.HTTPConnection('localhost')
            c.sock = sock
            c.request(method, path, json.dumps(body or BODY) if method == 'POST' else None)
            r = c.getresponse()
            answer = r.status, json.loads(r.read())
        self.b.wait_for(lambda: conn in self.b.closed)
        return answer

    def cached(self, uid):
        status, v = self.ask(uid)
        self.assertEqual(status, 200, v)
        return v['usage']['prompt_tokens_details']['cached_tokens']

    def test_keys_and_values(self):
        self.come()
        first = [self.cached(uid) for uid in (fb.UID, fb.UID, OTHER, OTHER)]
        self.assertGreater(first[1], 32)
        self.assertEqual(first, [0, first[1], 0, first[1]])
        self.b.user_gone(OTHER)
        self.come()
        self.assertEqual([self.cached(uid) for uid in (OTHER, fb.UID)], [0, first[1]])
        said = {uid for uid, _ in self.b.wait_for(lambda: len(self.b.shares) > 1 and self.b.shares)}
        self.assertEqual(said, {fb.UID, OTHER})

    def test_models(self):
        self.come(default='wide')
        self.b.refused_models = {(OTHER, 'story')}
        self.assertEqual(self.ask(fb.UID, dict(BODY, model='story'))[0], 200)
        self.assertEqual(self.ask(OTHER, dict(BODY, model='story'))[0], 403)
        status, v = self.ask(OTHER)
        self.assertEqual((status, v['model']), (200, 'wide'))
        self.assertEqual(self.ask(fb.UID)[1]['model'], 'story')
        for uid, names in ((fb.UID, ['story']), (OTHER, ['wide'])):
            _, v = self.ask(uid, method='GET', path='/v1/models')
            self.assertEqual([m['id'] for m in v['data'] if m['default']], names)
            self.assertEqual([m['id'] for m in v['data'] if 'context_length' in m], names)
            _, v = self.ask(uid, method='GET', path='/api/ps')
            self.assertEqual([m['name'] for m in v['models']], names)
        self.assertEqual(sorted(self.b.wanted), ['story', 'story', 'wide'])

    def test_one_user_does_not_unload_for_others(self):
        self.come()
        body = {'model': 'story', 'prompt': 'A', 'stream': False, 'options': {'num_predict': 2}}
        for uid, more in ((fb.UID, {}), (OTHER, {'keep_alive': 0}), (fb.UID, {}), (OTHER, {})):
            status, v = self.ask(uid, {**body, **more}, path='/api/generate')
            self.assertEqual(status, 200, v)
        self.assertEqual(self.b.wanted, ['story', 'story'])

    def test_limits(self):
        self.come(max_output_tokens=4, max_connections=1, max_input_bytes=300)
        self.assertEqual(self.ask(OTHER, dict(BODY, prompt='A', max_tokens=5))[0], 400)
        self.assertEqual(self.ask(OTHER)[0], 413)
        self.assertEqual(self.ask(fb.UID)[0], 200)
        held, _ = self.b.connect(uid=OTHER)
        extra, conn = self.b.connect(uid=OTHER)
        with held, extra:
            self.assertEqual(extra.recv(1), b'')
            self.b.wait_for(lambda: conn in self.b.closed)
            self.assertEqual(self.ask(fb.UID)[0], 200)

    def detached(self, job, uid):
        fd = os.memfd_create('input')
        os.write(fd, b'Once upon a time')
        out, theirs = socket.socketpair()
        with out, theirs:
            self.b.bus_job(job, fb.COMPLETE, fd, theirs.fileno(), max_tokens=8, keep=1, uid=uid)
            os.close(fd)
            theirs.close()
            out.settimeout(60)
            return read_all(out)

    def test_a_user_leaves_while_his_answer_is_read(self):
        self.come()
        text = self.detached(5, OTHER)
        self.b.wait_for(lambda: 5 in self.b.done)
        self.assertGreater(len(text), 4)
        reader = self.b.take_output(5)
        self.b.discard(5)
        self.b.user_gone(OTHER)
        with reader:
            self.assertEqual(read_all(reader), text)
        self.assertEqual(self.ask(fb.UID)[0], 200)
        self.come()
        self.assertEqual(self.ask(OTHER)[0], 200)

    def test_who_was_not_named_has_nothing(self):
        self.status = 1
        sock, _ = self.b.connect(uid=OTHER)
        with sock:
            self.assertEqual(sock.recv(1), b'')
        self.assertNotEqual(self.b.proc.wait(60), 0)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
