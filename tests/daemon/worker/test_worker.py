"""The worker program, seen from both its sides: an HTTP client or a bus client on one, the broker
on the other. Arguments: the worker, a small real model (GGUF), a model with a long context."""
import datetime
import http.client
import json
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import time
import unittest

import fake_broker as fb
from fake_broker import FakeBroker, pack_file

WORKER, STORY, WIDE, MEAN = sys.argv[1:5]
DIR = tempfile.mkdtemp(prefix='bitnetd-worker-test-')
PACKED = {}
STORY_PROMPT = 'Once upon a time'


def setUpModule():
    os.chmod(DIR, 0o755)
    for name, path in (('story', STORY), ('wide', WIDE), ('mean', MEAN)):
        PACKED[name] = os.path.join(DIR, name)
        error, size = pack_file(WORKER, path, PACKED[name])
        assert error == 0, 'model error %d' % error
        assert size == os.path.getsize(PACKED[name])


def tearDownModule():
    shutil.rmtree(DIR)


class Case(unittest.TestCase):
    limits = {}
    models = ('story', 'wide')

    def setUp(self):
        self.b = FakeBroker(WORKER, {n: PACKED[n] for n in self.models}, self.limits)
        self.addCleanup(self.stop)

    def stop(self):
        self.assertEqual(self.b.stop(), 0)

    def open(self):
        sock, conn = self.b.connect()
        self.addCleanup(sock.close)
        return sock, conn

    def start(self, method, path, body=None, headers=None):
        sock, conn = self.open()
        c = http.client.HTTPConnection('localhost')
        c.sock = sock
        if isinstance(body, dict):
            body = json.dumps(body)
        c.request(method, path, body, headers or {})
        return c, conn

    def ask(self, method, path, body=None, headers=None):
        c, _ = self.start(method, path, body, headers)
        r = c.getresponse()
        return r, r.read()

    def ask_json(self, method, path, body=None, status=200, headers=None):
        r, data = self.ask(method, path, body, headers)
        self.assertEqual(r.status, status, data)
        self.assertEqual(r.getheader('content-type'), 'application/json')
        self.headers = r
        return json.loads(data)

    def events(self, path, body, headers=None):
        r, data = self.ask('POST', path, body, headers)
        self.assertEqual(r.status, 200, data)
        self.assertEqual(r.getheader('content-type'), 'text/event-stream')
        self.assertTrue(data.endswith(b'\n\n'))
        return data.decode().split('\n\n')[:-1]

    def chat(self, **fields):
        return dict({'model': 'story', 'max_tokens': 16,
                     'messages': [{'role': 'user', 'content': STORY_PROMPT}]}, **fields)

    def raw(self, data, end=True):
        """Bytes in, bytes out until the worker closes."""
        sock, _ = self.open()
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def read_all(sock):
    parts = []
    while True:
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            break
        if not data:
            break
        parts.append(data)
    return b''.join(parts)


class Answers(Case):
    def test_chat(self):
        v = self.ask_json('POST', '/v1/chat/completions', self.chat())
        self.assertEqual(v['object'], 'chat.completion')
        self.assertEqual(v['model'], 'story')
        self.assertRegex(v['system_fingerprint'], r'^bitnetd-\d')
        self.assertEqual(v['id'], 'chatcmpl-' + self.headers.getheader('x-request-id'))
        choice, = v['choices']
        self.assertEqual(choice['message']['role'], 'assistant')
        self.assertGreater(len(choice['message']['content']), 16)
        self.assertEqual(choice['finish_reason'], 'length')
        self.assertIsNone(choice['logprobs'])
        u = v['usage']
        self.assertEqual(u['completion_tokens'], 16)
        self.assertEqual(u['total_tokens'], u['prompt_tokens'] + 16)
        self.assertEqual(u['prompt_tokens_details'], {'cached_tokens': 0})
        done = self.b.wait_for(lambda: self.b.done)
        self.assertEqual(list(done), [int(self.headers.getheader('x-request-id'))])
        done, = done.values()
        self.assertEqual((done['error'], done['finish'], done['tokens_out']), (0, 1, 16))
        admit, = self.b.admits
        self.assertEqual((admit['model'], admit['verb'], admit['tokens_in'], admit['wanted']),
                         ('story', fb.CHAT, u['prompt_tokens'], 16))
        self.assertTrue(admit['ref'] >> 63)

    def test_chat_stream(self):
        whole = self.ask_json('POST', '/v1/chat/completions', self.chat())
        for usage in (False, True):
            body = self.chat(stream=True)
            if usage:
                body['stream_options'] = {'include_usage': True}
            events = self.events('/v1/chat/completions', body)
            self.assertEqual(events.pop(), 'data: [DONE]')
            chunks = [json.loads(e[len('data: '):]) for e in events]
            same = {(c['id'], c['created'], c['model'], c['object']) for c in chunks}
            self.assertEqual(len(same), 1)
            self.assertEqual(chunks[0]['object'], 'chat.completion.chunk')
            if usage:
                last = chunks.pop()
                self.assertEqual(last['choices'], [])
                self.assertEqual(last['usage'], whole['usage'])
                self.assertTrue(all(c['usage'] is None for c in chunks))
            else:
                self.assertTrue(all('usage' not in c for c in chunks))
            deltas = [c['choices'][0] for c in chunks]
            self.assertEqual(deltas[0]['delta'], {'role': 'assistant', 'content': ''})
            self.assertEqual(deltas[-1]['delta'], {})
            self.assertEqual(deltas[-1]['finish_reason'], 'length')
            self.assertTrue(all(d['finish_reason'] is None for d in deltas[:-1]))
            text = ''.join(d['delta']['content'] for d in deltas[1:-1])
            self.assertEqual(text, whole['choices'][0]['message']['content'])

    def test_completion(self):
        body = {'prompt': STORY_PROMPT, 'max_tokens': 12}
        v = self.ask_json('POST', '/v1/completions', body)
        self.assertEqual(v['object'], 'text_completion')
        text = v['choices'][0]['text']
        self.assertGreater(len(text), 10)
        events = self.events('/v1/completions', dict(body, stream=True))
        self.assertEqual(events.pop(), 'data: [DONE]')
        parts = [json.loads(e[6:])['choices'][0] for e in events]
        self.assertEqual(''.join(p['text'] for p in parts), text)
        self.assertEqual(parts[-1]['finish_reason'], 'length')

    def test_stop_and_seed(self):
        body = {'prompt': STORY_PROMPT, 'max_tokens': 40}
        text = self.ask_json('POST', '/v1/completions', body)['choices'][0]['text']
        stop = text[15:19]
        v = self.ask_json('POST', '/v1/completions', dict(body, stop=[stop, 'QQQ']))
        self.assertEqual(v['choices'][0]['text'], text[:text.index(stop)])
        self.assertEqual(v['choices'][0]['finish_reason'], 'stop')
        hot = dict(body, temperature=1, seed=5)
        first, second = (self.ask_json('POST', '/v1/completions', hot)['choices'] for _ in '12')
        self.assertEqual(first, second)
        others = {self.ask_json('POST', '/v1/completions',
                                dict(body, temperature=1.5))['choices'][0]['text'] for _ in '123'}
        self.assertEqual(len(others), 3, 'without a seed every answer draws anew')

    def test_reuse_until_caches_are_dropped(self):
        body = {'prompt': 'The dog ran to the tree and sat down. ' * 10, 'max_tokens': 8}
        answers = []
        for _ in range(3):
            v = self.ask_json('POST', '/v1/completions', body)
            cached = v['usage'].pop('prompt_tokens_details')['cached_tokens']
            answers.append((v['choices'], v['usage'], cached))
            if len(answers) == 2:
                self.b.drop_caches()
        whole_pages = (answers[0][1]['prompt_tokens'] - 1) // 32 * 32
        self.assertGreater(whole_pages, 32)
        self.assertEqual([a[2] for a in answers], [0, whole_pages, 0])
        self.assertEqual([a[:2] for a in answers], [answers[0][:2]] * 3)
        self.assertEqual({a['tokens_in'] for a in self.b.admits},
                         {answers[0][1]['prompt_tokens']}, 'accounts are as without')

    def test_summarize(self):
        text = 'The cat sat on the mat. Then a dog came and the cat ran away. ' * 2
        v = self.ask_json('POST', '/v1/summarize?type=tldr&length=short&model=story', text,
                          headers={'Content-Type': 'application/x-www-form-urlencoded'})
        self.assertEqual(v['model'], 'story')
        self.assertEqual(v['coverage']['bytes'], len(text))
        self.assertEqual(v['coverage']['dropped'], 0)
        self.assertEqual(v['coverage']['tokens'], v['coverage']['tokens_used'])
        self.assertGreater(v['usage']['completion_tokens'], 0)
        self.assertEqual(int(v['job']), list(self.b.wait_for(lambda: self.b.done))[0])
        r, bare = self.ask('POST', '/v1/summarize?type=tldr&length=short&model=story', text,
                           {'Accept': 'text/plain', 'Content-Type': 'text/plain; charset=utf-8'})
        self.assertEqual((r.status, bare.decode()), (200, v['summary']))
        self.assertEqual(r.getheader('x-bitnetd-bytes'), str(len(text)))
        self.assertEqual(r.getheader('x-bitnetd-dropped'), '0')
        events = self.events('/v1/summarize?stream=true&length=short&model=story', text)
        kinds = [e.split('\n')[0] for e in events]
        datas = [json.loads(e.split('\n')[1][len('data: '):]) for e in events]
        self.assertEqual(kinds[-1], 'event: done')
        self.assertIn('event: progress', kinds)
        self.assertEqual(datas[-1]['coverage']['bytes'], len(text))
        self.assertEqual(''.join(d['text'] for k, d in zip(kinds, datas) if k == 'event: delta'),
                         v['summary'])

    def test_models_and_health(self):
        v = self.ask_json('GET', '/v1/models')
        self.assertEqual([m['id'] for m in v['data']], ['story', 'wide'])
        self.assertEqual(self.ask_json('GET', '/v1/models/wide'), v['data'][1])
        self.assertEqual(self.ask_json('GET', '/health'), {'status': 'ok'})
        r, data = self.ask('HEAD', '/v1/models')
        self.assertEqual((r.status, data), (200, b''))
        self.assertEqual(int(r.getheader('content-length')),
                         len(json.dumps(v, separators=(',', ':'))))
        r, data = self.ask('OPTIONS', '/v1/chat/completions')
        self.assertEqual((r.status, r.getheader('allow')), (204, 'POST, OPTIONS'))

    def test_model_states(self):
        self.b.states = {'story': fb.ERROR_MODEL_LOADING, 'wide': fb.ERROR_MODEL_BAD}
        self.b.send_catalog()
        self.assertEqual(self.ask_json('GET', '/health', status=503), {'status': 'loading model'})
        v = self.ask_json('GET', '/v1/models')['data']
        self.assertEqual([m['state'] for m in v], ['loading', 'bad'])
        self.b.states = {}
        self.b.send_catalog()
        self.assertEqual(self.ask_json('GET', '/health'), {'status': 'ok'})
        self.ask_json('POST', '/v1/chat/completions', self.chat(max_tokens=1))
        v = self.ask_json('GET', '/v1/models')['data']
        self.assertEqual([m['state'] for m in v], ['ready', 'ready'])
        self.assertGreater(v[0]['context_length'], 100)
        self.assertNotIn('context_length', v[1], 'not loaded in this worker')

    def test_extreme_sampling(self):
        greedy = self.ask_json('POST', '/v1/chat/completions', self.chat())
        for fields in (dict(top_p=0, temperature=1), dict(top_p=0), dict(top_p=1e-60),
                       dict(temperature=1e-40), dict(top_k=1, temperature=2)):
            v = self.ask_json('POST', '/v1/chat/completions', self.chat(**fields))
            self.assertEqual(v['choices'], greedy['choices'], fields)

    def test_dry_penalty(self):
        # a bonus for what was said makes a loop; the penalty ends it
        body = {'model': 'story', 'prompt': STORY_PROMPT, 'max_tokens': 60,
                'frequency_penalty': -2, 'presence_penalty': -2}
        off, on = (self.ask_json('POST', '/v1/completions', dict(body, dry_multiplier=m))
                   for m in (0, 10))
        self.assertNotEqual(off['choices'], on['choices'])

    def test_bare_stream_ends_with_its_coverage(self):
        body = b'The cat sat on the mat. ' * 4
        data = self.raw(b'POST /v1/summarize?stream=true&model=story&length=short HTTP/1.1\r\n'
                        b'Accept: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s'
                        % (len(body), body), end=False)
        head, _, rest = data.partition(b'\r\n\r\n')
        self.assertIn(b'\r\nTrailer: x-bitnetd-bytes, ', head)
        lines = rest[rest.index(b'\r\n0\r\n') + 5:].split(b'\r\n')
        self.assertEqual(lines[0], b'x-bitnetd-bytes: %d' % len(body))
        self.assertIn(b'x-bitnetd-dropped: 0', lines)
        self.assertRegex(lines[-3], b'^x-bitnetd-finish: (stop|length)$')
        self.assertEqual(lines[-2:], [b'', b''])

    def test_huge_prompt_is_refused_at_once(self):
        for text in ('a' * 900000, ' ' * 900000, '\u6f22' * 150000, 'a ' * 450000):
            begin = time.monotonic()
            v = self.ask_json('POST', '/v1/completions', {'prompt': text}, 400)['error']
            self.assertEqual((v['code'], v['param']), ('context_length_exceeded', 'prompt'))
            self.assertGreater(v['n_prompt_tokens'], v['n_ctx'])
            self.assertIn('at least', v['message'])
            self.assertLess(time.monotonic() - begin, 1)

    def test_two_models_and_default(self):
        for asked, got in (('wide', 'wide'), ('story', 'story'), ('', 'story'),
                           ('default', 'story')):
            v = self.ask_json('POST', '/v1/chat/completions', self.chat(model=asked, max_tokens=2))
            self.assertEqual(v['model'], got)

    def test_concurrent(self):
        alone = self.ask_json('POST', '/v1/chat/completions', self.chat())
        running = [self.start('POST', '/v1/chat/completions', self.chat())[0] for _ in range(12)]
        for c in running:
            v = json.loads(c.getresponse().read())
            self.assertEqual(v['choices'], alone['choices'])


class Refusals(Case):
    limits = dict(max_input_bytes=100000, max_output_tokens=20)

    def error(self, body, status, code, param=None, path='/v1/chat/completions', headers=None):
        v = self.ask_json('POST', path, body, status, headers)['error']
        self.assertEqual((v['code'], v['param']), (code, param), v)
        self.assertGreater(len(v['message']), 10)
        return v

    def test_requests(self):
        bad = 'invalid_input'
        self.error(self.chat(model='none-such'), 404, 'model_not_found', 'model')
        self.error(self.chat(temperature=3), 400, bad, 'temperature')
        self.error(self.chat(n=2), 400, 'unsupported', 'n')
        self.error(self.chat(messages=[]), 400, bad, 'messages')
        self.error('{"messages":', 400, bad)
        self.error('', 400, bad)
        self.error({'prompt': ['a', 'b']}, 400, bad, 'prompt', '/v1/completions')
        self.error('text', 400, bad, 'type', '/v1/summarize?type=poem')
        self.error('text', 400, bad, 'content-type', '/v1/summarize',
                   {'Content-Type': 'application/pdf'})
        self.error('', 400, bad, 'body', '/v1/summarize')
        v = self.error(b'abc\xffdef', 400, bad, 'body', '/v1/summarize')
        self.assertEqual((v['value'], v['limit']), (3, 7))
        self.assertEqual(self.b.admits, [])
        self.assertEqual(self.b.done, {})

    def test_are_counted(self):
        """The broker is told by code what never became a job, but for what it refused itself."""
        def told():
            return {code: n for code, n in enumerate(self.b.refusals) if n}

        for _ in range(3):
            self.error(self.chat(model='none-such'), 404, 'model_not_found', 'model')
        self.raw(b'nonsense\r\n\r\n')
        self.error(self.chat(n=2), 400, 'unsupported', 'n')
        self.ask_json('GET', '/v1/chat/completions', status=405)
        self.b.admission = lambda admit: (fb.ERROR_QUEUE_FULL, 9000, 4, 4)
        self.ask_json('POST', '/v1/chat/completions', self.chat(), 429)
        self.b.admission = lambda admit: 'admit'
        self.ask_json('POST', '/v1/chat/completions', self.chat())
        expected = {fb.ERROR_MODEL_NOT_FOUND: 3, fb.ERROR_INVALID_INPUT: 1,
                    fb.ERROR_UNSUPPORTED: 1, fb.ERROR_METHOD: 1}
        self.b.wait_for(lambda: told() == expected)
        self.error('{', 400, 'invalid_input')
        self.error('{', 400, 'invalid_input')
        expected[fb.ERROR_INVALID_INPUT] = 3
        fb.send(self.b.sock, fb.header(fb.SHUTDOWN))  # what was not told comes before the end
        self.b.wait_for(lambda: told() == expected)

    def test_paths(self):
        self.assertEqual(self.ask_json('GET', '/nothing', status=404)['error']['code'], 'not_found')
        self.assertEqual(self.ask_json('GET', '/v1/models/x', status=404)['error']['code'],
                         'model_not_found')
        self.ask_json('GET', '/v1/chat/completions', status=405)
        self.assertEqual(self.headers.getheader('allow'), 'POST, OPTIONS')
        self.ask_json('DELETE', '/v1/models', status=405)

    def test_context(self):
        long = self.chat(messages=[{'role': 'user', 'content': 'word ' * 3000}])
        v = self.error(long, 400, 'context_length_exceeded', 'messages')
        self.assertGreater(v['n_prompt_tokens'], v['n_ctx'])
        self.assertGreater(v['n_prompt_tokens'], 3000)
        self.assertIn(str(v['n_ctx']), v['message'])
        near = {'prompt': 'a ' * (v['n_ctx'] - 40), 'max_tokens': 20}
        r = self.ask_json('POST', '/v1/completions', near)
        self.assertLessEqual(r['usage']['total_tokens'], v['n_ctx'])

    def test_output_limit(self):
        v = self.ask_json('POST', '/v1/completions', {'prompt': STORY_PROMPT})
        self.assertEqual(v['usage']['completion_tokens'], 20)
        v = self.error({'prompt': STORY_PROMPT, 'max_tokens': 21}, 400, 'invalid_input',
                       'max_tokens', '/v1/completions')
        self.assertEqual((v['value'], v['limit']), (21, 20))

    def test_output_limit_of_summaries(self):
        text = 'The cat sat on the mat. Then a dog came and the cat ran away. ' * 2
        v = self.ask_json('POST', '/v1/summarize?type=tldr&length=long&model=story', text)
        self.assertLessEqual(v['usage']['completion_tokens'], 20)

    def test_body_limit(self):
        v = self.error(b'x' * 100001, 413, 'input_too_large', path='/v1/summarize')
        self.assertEqual((v['value'], v['limit']), (100001, 100000))
        head = b'POST /v1/summarize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'
        chunk = b'4000\r\n' + b'y' * 0x4000 + b'\r\n'
        self.assertIn(b' 413 ', self.raw(head + chunk * 20, end=False))

    def test_broker_refuses(self):
        self.b.admission = lambda a: (fb.ERROR_QUEUE_FULL, 2500, 17, 16)
        v = self.error(self.chat(), 429, 'queue_full')
        self.assertEqual((v['value'], v['limit']), (17, 16))
        self.assertEqual(self.headers.getheader('retry-after'), '3')
        self.assertEqual(self.headers.getheader('retry-after-ms'), '2500')
        self.assertEqual(self.headers.getheader('x-should-retry'), 'true')
        self.assertIn('try again in 3 s)', v['message'])
        self.b.admission = lambda a: (fb.ERROR_BUDGET_TOKENS, 7000000, 17, 16)
        self.error(self.chat(), 429, 'insufficient_quota')
        self.assertEqual(self.headers.getheader('retry-after'), '7000')
        self.assertEqual(self.headers.getheader('x-should-retry'), 'false')
        self.b.admission = lambda a: (fb.ERROR_RATE_LIMITED, 0, 0, 0)
        self.error(self.chat(stream=True), 429, 'rate_limit_exceeded')
        self.assertEqual(self.headers.getheader('x-should-retry'), 'false')
        self.assertEqual(self.b.done, {}, 'a refused job from HTTP has no id to end')

    def rate_headers(self, path='/v1/models'):
        self.ask_json('GET', path)
        names = [a + '-' + b for a in ('limit', 'remaining', 'reset')
                 for b in ('requests', 'tokens')]
        return [self.headers.getheader('x-ratelimit-' + n) for n in names] + [
            self.headers.getheader(n) for n in ('ratelimit-policy', 'ratelimit')]

    def test_rate_headers(self):
        no_limit, unit = (2**64 - 1, 0, 0), 60000000
        self.assertEqual(self.rate_headers(), [None] * 8)
        self.b.rates((120, 119 * unit, 0), no_limit)
        self.assertEqual(self.rate_headers()[::2],
                         ['120', '119', self.headers.getheader('x-ratelimit-reset-requests'),
                          '"requests";q=120;w=60'])
        self.assertRegex(self.headers.getheader('x-ratelimit-reset-requests'), r'^\d{1,3}ms$')
        self.assertEqual(self.headers.getheader('ratelimit'), '"requests";r=119;t=1')
        self.assertIsNone(self.headers.getheader('x-ratelimit-limit-tokens'))
        # One a minute, and a debt of one: full in two minutes.
        self.b.rates((60, 0, 0), (1, 0, unit))
        self.assertEqual(self.rate_headers(),
                         ['60', '1', '0', '0', '1m0s', '2m0s',
                          '"requests";q=60;w=60, "tokens";q=1;w=60',
                          '"requests";r=0;t=60, "tokens";r=0;t=120'])
        self.b.rates((60, 0, 0), no_limit)
        time.sleep(1.1)
        self.assertGreaterEqual(int(self.rate_headers()[2]), 1)  # it fills between two messages
        # On errors and streams, too.
        self.error(b'{', 400, 'invalid_input')
        self.assertEqual(self.headers.getheader('x-ratelimit-limit-requests'), '60')
        answer = self.raw(b'GET / HTTP/1.0\r\n\r\n').lower()
        self.assertIn(b'\r\nx-ratelimit-limit-requests: 60\r\n', answer)
        r, _ = self.ask('POST', '/v1/chat/completions', self.chat(stream=True))
        self.assertEqual(r.getheader('x-ratelimit-limit-requests'), '60')

    def test_context_limit_of_the_user(self):
        self.b.set_limits(dict(fb.LIMITS, max_context_tokens=64))
        v = self.error(self.chat(messages=[{'role': 'user', 'content': 'word ' * 100}]), 400,
                       'context_length_exceeded', 'messages')
        self.assertEqual(v['n_ctx'], 64)
        v = self.ask_json('POST', '/v1/chat/completions', self.chat(max_tokens=4000))
        self.assertLessEqual(v['usage']['total_tokens'], 64)
        self.assertEqual(self.b.admits[-1]['tokens_in'] + self.b.admits[-1]['wanted'], 64)

    def test_model_errors(self):
        self.b.model_errors = {'story': fb.ERROR_MODEL_BAD, 'wide': fb.ERROR_MODEL_LOADING}
        self.error(self.chat(), 500, 'model_integrity', 'model')
        self.assertEqual(self.headers.getheader('x-should-retry'), 'false')
        self.error(self.chat(model='wide'), 503, 'model_loading', 'model')
        self.assertEqual(self.headers.getheader('x-should-retry'), 'true')
        self.b.model_errors = {}
        time.sleep(1.1)
        self.ask_json('POST', '/v1/chat/completions', self.chat())

    def test_bad_model_file(self):
        self.b.models = dict(self.b.models, story=WORKER)
        self.error(self.chat(), 500, 'model_integrity', 'model')

    def test_deadline(self):
        self.b.leasing = False
        v = self.error(self.chat(bn={'deadline_ms': 300}), 408, 'deadline_exceeded')
        self.assertEqual(v['type'], 'server_error')
        self.assertEqual(self.headers.getheader('x-should-retry'), 'false')
        done = self.b.wait_for(lambda: self.b.done)
        self.assertEqual([d['error'] for d in done.values()], [fb.ERROR_DEADLINE])


class Idle(Case):
    limits = dict(idle_timeout_ms=700)

    def test_slow_reader_is_not_idle(self):
        sock, _ = self.b.connect(bufsize=4096)
        self.addCleanup(sock.close)
        sock.sendall(b'GET /v1/models HTTP/1.1\r\n\r\n' * 400)
        time.sleep(1.5)  # twice the idle time
        self.assertEqual(read_all(sock).count(b'HTTP/1.1 200'), 400)

    def test_idle(self):
        begin = time.monotonic()
        sock, conn = self.open()
        self.assertEqual(sock.recv(10), b'')
        self.assertGreater(time.monotonic() - begin, 0.5)
        self.b.wait_for(lambda: conn in self.b.closed)


class Http(Case):
    limits = dict(max_connections=4)

    def test_pipelining(self):
        body = json.dumps(self.chat(max_tokens=3)).encode()
        one = b'POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s' % (
            len(body), body)
        data = self.raw(one + b'GET /health HTTP/1.1\r\n\r\n' + one +
                        b'GET /none HTTP/1.1\r\nConnection: close\r\n\r\n')
        statuses = re.findall(rb'HTTP/1.1 (\d+)', data)
        self.assertEqual(statuses, [b'200', b'200', b'200', b'404'])
        self.assertEqual(data.count(b'"chat.completion"'), 2)

    def test_many_pipelined(self):
        data = self.raw(b'GET /v1/models HTTP/1.1\r\n\r\n' * 5000)
        self.assertEqual(data.count(b'HTTP/1.1 200'), 5000)

    def test_keep_alive(self):
        c, conn = self.start('GET', '/health')
        sock = c.sock
        for _ in range(5):
            self.assertEqual(c.getresponse().read(), b'{"status":"ok"}')
            c.request('GET', '/health')
        c.getresponse().read()
        self.assertEqual(self.b.closed, [])
        sock.close()
        c.close()
        self.b.wait_for(lambda: self.b.closed == [conn])

    def test_chunked_body_in_pieces(self):
        sock, _ = self.open()
        body = json.dumps(self.chat(max_tokens=2)).encode()
        data = b'POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'
        for i in range(0, len(body), 50):
            data += b'%x\r\n%s\r\n' % (len(body[i:i + 50]), body[i:i + 50])
        data += b'0\r\n\r\n'
        for i in range(0, len(data), 7):
            sock.sendall(data[i:i + 7])
        sock.shutdown(socket.SHUT_WR)
        self.assertTrue(read_all(sock).startswith(b'HTTP/1.1 200'))

    def test_expect_continue(self):
        sock, _ = self.open()
        body = json.dumps(self.chat(max_tokens=2)).encode()
        sock.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\n'
                     b'Content-Length: %d\r\n\r\n' % len(body))
        self.assertEqual(sock.recv(100), b'HTTP/1.1 100 Continue\r\n\r\n')
        sock.sendall(body)
        self.assertTrue(sock.recv(1000).startswith(b'HTTP/1.1 200'))
        too_large = b'POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n'
        data = self.raw(too_large, end=False)
        self.assertTrue(data.startswith(b'HTTP/1.1 413'), data)

    def test_shutdown_lets_the_answer_out(self):
        sock, _ = self.b.connect(bufsize=4096)
        self.addCleanup(sock.close)
        sock.sendall(b'GET /v1/models HTTP/1.1\r\n\r\n' * 100)
        sock.recv(1, socket.MSG_PEEK)
        fb.send(self.b.sock, fb.header(fb.SHUTDOWN))
        data = read_all(sock)
        self.assertEqual(data.count(b'HTTP/1.1 200'), data.count(b'}]}'))
        self.assertTrue(data.endswith(b'}]}'), data[-40:])

    def test_no_continue_for_http10(self):
        data = self.raw(b'POST /v1/summarize HTTP/1.0\r\nExpect: 100-continue\r\n'
                        b'Content-Length: 0\r\n\r\n', end=False)
        self.assertTrue(data.startswith(b'HTTP/1.1 400'), data)
        sock, _ = self.open()
        sock.sendall(b'POST /v1/summarize HTTP/1.0\r\nExpect: 100-continue\r\n'
                     b'Content-Length: 5\r\n\r\n')
        sock.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            sock.recv(100)

    def test_http10(self):
        data = self.raw(b'GET /health HTTP/1.0\r\n\r\n', end=False)
        self.assertTrue(data.endswith(b'{"status":"ok"}'))
        body = json.dumps(self.chat(stream=True)).encode()
        data = self.raw(b'POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' %
                        (len(body), body), end=False)
        self.assertNotIn(b'chunked', data)
        self.assertTrue(data.endswith(b'\n\ndata: [DONE]\n\n'))

    def test_broken(self):
        for data, status in ((b'hello\r\n\r\n', 400), (b'\x00\xff\x16', 400),
                             (b'GET / HTTP/1.1\r\nX: ' + b'a' * 40000 + b'\r\n\r\n', 431),
                             (b'POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked'
                              b'\r\n\r\n', 400),
                             (b'GET / HTTP/1.1\r\nExpect: magic\r\n\r\n', 417)):
            answer = self.raw(data)
            self.assertTrue(answer.startswith(b'HTTP/1.1 %d ' % status), (data[:40], answer[:80]))
            self.assertIn(b'Connection: close', answer)
            self.assertIn(b'"error"', answer)

    def test_connection_limit(self):
        socks = [self.open()[0] for _ in range(4)]
        extra, conn = self.open()
        self.assertEqual(extra.recv(1), b'')
        self.b.wait_for(lambda: conn in self.b.closed)
        socks[0].sendall(b'GET /health HTTP/1.1\r\n\r\n')
        self.assertIn(b'200 OK', socks[0].recv(1000))


class Cancelling(Case):
    def wide(self, **fields):
        # with this seed the random model draws no end token in the first thousands
        return dict({'model': 'wide', 'prompt': 'abc', 'max_tokens': 4000, 'temperature': 2,
                     'seed': 1, 'stream': True}, **fields)

    def test_hang_up(self):
        c, conn = self.start('POST', '/v1/completions', self.wide())
        sock = c.sock
        sock.recv(4096)
        c.close()
        sock.close()
        done = self.b.wait_for(lambda: self.b.done)
        self.assertEqual([d['error'] for d in done.values()], [fb.ERROR_CANCELLED])
        self.b.wait_for(lambda: self.b.closed == [conn])
        self.ask_json('GET', '/health')

    def test_half_close_is_no_hang_up(self):
        c, _ = self.start('POST', '/v1/chat/completions', self.chat())
        c.sock.shutdown(socket.SHUT_WR)
        v = json.loads(c.getresponse().read())
        self.assertEqual(v['usage']['completion_tokens'], 16)

    def test_hang_up_before_the_answer_to_admit(self):
        self.b.admission = lambda a: None
        c, conn = self.start('POST', '/v1/completions', self.wide())
        admit = self.b.wait_for(lambda: self.b.admits)[0]
        sock = c.sock
        c.close()
        sock.close()
        self.b.wait_for(lambda: self.b.closed == [conn])
        self.assertEqual(self.b.done, {})
        self.b.admit(admit)
        done = self.b.wait_for(lambda: self.b.done.get(admit['job']))
        self.assertEqual(done['error'], fb.ERROR_CANCELLED)

    def test_queued_then_admitted(self):
        self.b.admission = lambda a: 'queue'
        c, _ = self.start('POST', '/v1/chat/completions', self.chat())
        admit = self.b.wait_for(lambda: self.b.admits)[0]
        self.b.wait_for(lambda: any(p[0] == admit['job'] and p[1] == 0 for p in self.b.progress))
        self.b.admit(admit)
        self.assertEqual(json.loads(c.getresponse().read())['usage']['completion_tokens'], 16)

    def test_heartbeat_while_queued(self):
        self.b.admission = lambda a: 'queue'
        c, _ = self.start('POST', '/v1/chat/completions', self.chat(stream=True))
        r = c.getresponse()
        first = r.readline()
        self.assertEqual(first, b': queued, position 1, 0 tokens ahead\n')
        self.b.queued(self.b.admits[0], position=3, tokens=4711, wait_usec=600_000_000)
        r.readline()
        beat = r.readline().decode()
        self.assertRegex(beat, r'^: queued, position 3, 4711 tokens ahead, starts in about \d+ s\n')
        self.b.set_priority(self.b.admits[0]['job'], 1)
        self.b.admit(self.b.admits[0])
        self.b.set_priority(self.b.admits[0]['job'], 0)
        rest = r.read().decode()
        self.assertIn('"role":"assistant"', rest)
        self.assertIn('"model":"story"', rest)
        self.assertTrue(rest.endswith('data: [DONE]\n\n'))

    def test_cancelled_while_queued(self):
        self.b.admission = lambda a: 'queue'
        c, _ = self.start('POST', '/v1/chat/completions', self.chat())
        admit = self.b.wait_for(lambda: self.b.admits)[0]
        self.b.cancel(admit['job'])
        r = c.getresponse()
        self.assertEqual((r.status, json.loads(r.read())['error']['code']), (499, 'cancelled'))
        self.b.wait_for(lambda: self.b.done.get(admit['job'], {}).get('error')
                        == fb.ERROR_CANCELLED)

    def test_cancelled_while_streaming(self):
        c, _ = self.start('POST', '/v1/completions', self.wide())
        r = c.getresponse()
        r.read(500)
        self.b.cancel(self.b.admits[0]['job'])
        rest = r.read().decode()
        self.assertIn('data: {"error":{"message":"The job was cancelled."', rest)
        self.assertNotIn('[DONE]', rest)
        self.assertEqual(c.sock is None or c.sock.recv(1), True if c.sock is None else b'')

    def long(self, **fields):
        """An answer that cannot end before its limit: a string has that many characters at least."""
        schema = {'type': 'json_schema', 'json_schema': {
            'name': 'long', 'schema': {'type': 'string', 'minLength': 100000}}}
        return dict({'model': 'wide', 'messages': [{'role': 'user', 'content': 'abc'}], 'seed': 3,
                     'temperature': 1, 'stream': True, 'max_tokens': 3000,
                     'response_format': schema}, **fields)

    def test_slow_reader_pauses(self):
        """And only itself; it misses nothing."""
        def text_of(events):
            parts = [json.loads(e[6:]) for e in events if e.startswith('data: {')]
            return ''.join(p['choices'][0]['delta'].get('content', '') for p in parts)

        fast = text_of(self.events('/v1/chat/completions', self.long()))
        self.assertEqual([d['tokens_out'] for d in self.b.done.values()], [3000])
        sock, _ = self.b.connect(bufsize=16384)
        self.addCleanup(sock.close)
        body = json.dumps(self.long()).encode()
        sock.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\n'
                     b'Content-Length: %d\r\n\r\n%s' % (len(body), body))
        paused = self.b.wait_for(lambda: [p for p in self.b.progress
                                          if p[1] == fb.STATE_PAUSED], 60)
        self.assertLess(paused[0][7], 3000)
        job = paused[0][0]
        other = self.ask_json('POST', '/v1/chat/completions', self.chat())
        self.assertEqual(other['usage']['completion_tokens'], 16)
        self.assertNotIn(job, self.b.done)
        self.assertEqual([p for p in self.b.progress if p[0] == job][-1][1],
                         fb.STATE_PAUSED)
        r = http.client.HTTPResponse(sock)
        r.begin()
        self.assertEqual(text_of(r.read().decode().split('\n\n')), fast)
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(job))['tokens_out'], 3000)

    def test_no_lease_no_text(self):
        self.b.leasing = False
        c, _ = self.start('POST', '/v1/completions', self.wide(max_tokens=5))
        r = c.getresponse()
        c.sock.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            r.read()
        self.b.leasing = True
        self.b.lease()

    def test_illegal_message_ends_the_worker(self):
        b = FakeBroker(WORKER, {'story': PACKED['story']})
        fb.send(b.sock, fb.header(fb.READY) + struct.pack('<IIII', 0, 1, 0, 2))
        self.assertNotEqual(b.proc.wait(60), 0)
        b.stop()

    def test_memory_is_given_back(self):
        def resident():
            with open('/proc/%d/statm' % self.b.proc.pid) as f:
                return int(f.read().split()[1]) * 4096

        c, _ = self.start('GET', '/health')
        c.getresponse().read()

        def burst(n):
            for _ in range(n):
                for body, status in ((self.chat(max_tokens=2), 200), (self.chat(n=2), 400)):
                    c.request('POST', '/v1/chat/completions', json.dumps(body))
                    r = c.getresponse()
                    self.assertEqual(r.status, status, r.read())
                    r.read()
        burst(100)
        before = resident()
        burst(400)
        self.assertLess(resident() - before, 1 << 20)

    def test_unused_model_is_unloaded(self):
        self.b.set_limits(dict(fb.LIMITS, model_idle_sec=1))
        whole = self.ask_json('POST', '/v1/chat/completions', self.chat())
        loaded = self.b.wait_for(lambda: [r for r in self.b.resident if r['models'] == 1])[-1]
        self.assertEqual(loaded['model'], 'story')
        self.assertEqual(loaded['weights'], os.path.getsize(PACKED['story']))
        gone = self.b.wait_for(lambda: self.b.resident[-1]['models'] == 0 and self.b.resident[-1])
        self.assertEqual((gone['model'], gone['weights'], gone['kv'], gone['keep']), ('', 0, 0, 0))
        self.assertLess(gone['private'], loaded['private'])
        with open('/proc/%d/maps' % self.b.proc.pid) as f:
            self.assertNotIn(PACKED['story'], f.read())
        again = self.ask_json('POST', '/v1/chat/completions', self.chat())
        self.assertEqual(again['choices'][0]['message'], whole['choices'][0]['message'])
        self.assertEqual(self.b.wanted, ['story', 'story'])

    def listed(self):
        return [m['name'] for m in self.ask_json('GET', '/api/ps')['models']]

    def test_keep_alive_of_clients(self):
        self.ask_json('POST', '/api/generate', {'model': 'story', 'prompt': ''})
        self.assertEqual(self.listed(), ['story'])
        self.assertEqual(self.b.wanted, ['story'], 'a request without prompt loads')
        now = time.time()
        for keep, seconds in (('1h30m', 3600), (600, 600), ('20s', 20), (-1, 3600)):
            self.ask_json('POST', '/api/chat', {'model': 'story', 'keep_alive': keep})
            model, = self.ask_json('GET', '/api/ps')['models']
            expires = datetime.datetime.fromisoformat(model['expires_at'].replace('Z', '+00:00'))
            self.assertAlmostEqual(expires.timestamp() - now, seconds, delta=20)
        v = self.ask_json('POST', '/api/generate', {'model': 'story', 'prompt': 'A', 'stream': False,
                                                    'keep_alive': 0, 'options': {'num_predict': 1}})
        self.assertEqual(v['done_reason'], 'length')
        self.assertEqual(self.listed(), [])
        self.ask_json('POST', '/v1/chat/completions', self.chat(keep_alive='0s'))
        self.assertEqual(self.listed(), [])
        v = self.ask_json('POST', '/api/generate', {'model': 'story', 'keep_alive': 0})
        self.assertEqual(v['done_reason'], 'unload')
        self.assertEqual(self.b.wanted, ['story'] * 2, 'to let go is no reason to load')
        for bad in ('soon', '5 m', '', '1x', [], '-'):
            v = self.ask_json('POST', '/api/chat', {'model': 'story', 'keep_alive': bad}, 400)
            self.assertIn('keep_alive', v['error'])

    def test_prepared_model_stays(self):
        self.b.set_limits(dict(fb.LIMITS, model_idle_sec=1))
        self.b.prepare('wide', True)
        self.b.wait_for(lambda: self.b.resident and self.b.resident[-1]['model'] == 'wide')
        self.ask_json('POST', '/api/chat', {'model': 'wide', 'keep_alive': 0})
        time.sleep(1.2)
        self.assertEqual(self.listed(), ['wide'])
        self.b.prepare('wide', False)
        self.b.wait_for(lambda: self.b.resident[-1]['models'] == 0)

    def test_dropped_caches_are_given_back(self):
        self.ask_json('POST', '/v1/completions', {'prompt': 'The dog ran. ' * 30, 'max_tokens': 8})
        full = self.b.wait_for(lambda: self.b.resident and self.b.resident[-1]['kept'] and
                               self.b.resident[-1])
        self.assertEqual(full['kv'], full['kept'], 'nobody uses them')
        self.assertGreaterEqual(full['private'], full['kv'])
        self.b.drop_caches()
        left = self.b.wait_for(lambda: self.b.resident[-1]['kv'] == 0 and self.b.resident[-1])
        self.assertLess(left['private'], full['private'] - full['kv'] + 1)

    def test_broker_gone(self):
        proc, sock = fb.start_worker(WORKER)
        fb.send(sock, fb.hello(1, 1, 0xffffffff, 0, fb.LIMITS))
        sock.recv(256)
        sock.close()
        self.assertEqual(proc.wait(60), 0)


class Bus(Case):
    limits = dict(max_input_bytes=200000)
    models = ('story', 'wide', 'mean')

    def job(self, verb, data, **options):
        """Input by memfd, output by socket. Returns (bytes, the DONE)."""
        fd = os.memfd_create('input')
        os.write(fd, data if isinstance(data, bytes) else json.dumps(data).encode())
        out, theirs = socket.socketpair()
        with out, theirs:
            self.b.bus_job(5, verb, fd, theirs.fileno(), **options)
            os.close(fd)
            theirs.close()
            out.settimeout(60)
            data = read_all(out)
        return data, self.b.wait_for(lambda: self.b.done.get(5))

    def text_of(self, events):
        lines = [json.loads(l) for l in events.decode().splitlines()]
        self.assertTrue(lines[-1]['done'])
        self.assertTrue(all('done' not in l for l in lines[:-1]))
        return ''.join(l.get('text', '') for l in lines), lines[-1]

    def test_complete(self):
        data, done = self.job(fb.COMPLETE, STORY_PROMPT.encode(), max_tokens=10)
        self.assertGreater(len(data), 5)
        self.assertEqual((done['error'], done['tokens_out'], done['bytes_in']), (0, 10, 16))
        self.assertEqual(self.b.admits[0]['ref'], 5)
        self.assertEqual(self.b.admits[0]['conn'], 0)

    def test_chat_same_on_all_ways(self):
        chat = self.chat(max_tokens=10)
        http_text = self.ask_json('POST', '/v1/chat/completions',
                                  chat)['choices'][0]['message']['content']
        data, _ = self.job(fb.CHAT, STORY_PROMPT.encode(), max_tokens=10)
        self.assertEqual(data.decode(), http_text)
        self.b.done.clear()
        data, _ = self.job(fb.CHAT, {'messages': chat['messages']}, input_format=fb.CHAT_JSON,
                           max_tokens=10, events=True)
        text, last = self.text_of(data)
        self.assertEqual(text, http_text)
        self.assertEqual((last['result'], last['error'], last['coverage']), ('length', None, None))
        self.assertEqual(last['usage']['completion_tokens'], 10)

    def test_request_json_stop(self):
        whole, _ = self.job(fb.COMPLETE, STORY_PROMPT.encode(), max_tokens=30)
        self.b.done.clear()
        stop = whole.decode()[12:15]
        data, done = self.job(fb.COMPLETE, {'prompt': STORY_PROMPT, 'stop': stop}, max_tokens=30,
                              input_format=fb.REQUEST_JSON)
        self.assertEqual(data.decode(), whole.decode()[:whole.decode().index(stop)])
        self.assertEqual(done['finish'], 0)

    def test_summarize(self):
        text = b'The cat sat on the mat. ' * 8
        data, done = self.job(fb.SUMMARIZE, {'text': text.decode(), 'context': 'about the cat'},
                              input_format=fb.REQUEST_JSON, events=True)
        summary, last = self.text_of(data)
        self.assertGreater(len(summary), 0)
        self.assertEqual(last['coverage']['bytes'], len(text))
        self.assertEqual(last['coverage']['dropped'], 0)
        self.assertEqual(done['pieces'], last['coverage']['pieces'])

    def test_bad_input(self):
        for data, options, error in (
                (b'', {}, fb.ERROR_INVALID_INPUT),
                (b'ab\xc3', {}, fb.ERROR_INVALID_INPUT),
                (b'x' * 200001, {}, fb.ERROR_INPUT_TOO_LARGE),
                (b'{"prompt":3}', dict(input_format=fb.REQUEST_JSON), fb.ERROR_INVALID_INPUT),
                (b'{"messages":[]}', dict(input_format=fb.CHAT_JSON), fb.ERROR_INVALID_INPUT),
                (b'hi', dict(model='none-such'), fb.ERROR_MODEL_NOT_FOUND),
                (b'word ' * 20000, {}, fb.ERROR_CONTEXT_TOO_LONG)):
            out, done = self.job(fb.COMPLETE, data, events=True, **options)
            self.assertEqual(done['error'], error, data[:40])
            _, last = self.text_of(out)
            self.assertEqual(last['result'], 'failed')
            self.assertGreater(len(last['error']['message']), 10)
            self.b.done.clear()

    def test_pipes(self):
        in_r, in_w = os.pipe()
        out_r, out_w = os.pipe()
        self.b.bus_job(9, fb.COMPLETE, in_r, out_w, max_tokens=5)
        os.close(in_r)
        os.close(out_w)
        for part in (b'Once ', b'upon'):
            os.write(in_w, part)
            time.sleep(0.05)
        self.assertEqual(self.b.admits, [])
        os.close(in_w)
        with os.fdopen(out_r, 'rb') as f:
            self.assertGreater(len(f.read()), 3)
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(9))['error'], 0)

    def test_strange_descriptors(self):
        with open('/dev/null', 'r+b') as null:
            out, theirs = socket.socketpair()
            self.b.bus_job(7, fb.COMPLETE, null.fileno(), theirs.fileno())
            self.assertEqual(self.b.wait_for(lambda: self.b.done.get(7))['error'],
                             fb.ERROR_INVALID_INPUT)
            self.b.bus_job(8, fb.COMPLETE, theirs.fileno(), null.fileno())
            self.assertEqual(self.b.wait_for(lambda: self.b.done.get(8))['error'],
                             fb.ERROR_INVALID_INPUT)
            out.close()
            theirs.close()

    def test_nothing_is_written_to_strange_descriptors(self):
        fd = os.memfd_create('input')
        os.write(fd, b'hi')
        screen, keyboard = os.openpty()  # one that is stopped would block the worker
        os.set_blocking(screen, False)
        self.b.bus_job(11, fb.COMPLETE, fd, keyboard, events=True)
        done = self.b.wait_for(lambda: self.b.done.get(11))
        self.assertEqual(done['error'], fb.ERROR_INVALID_INPUT)
        self.ask_json('GET', '/health')
        with self.assertRaises(BlockingIOError):
            os.read(screen, 10)
        for end in (fd, screen, keyboard):
            os.close(end)

    def test_failed_text_job_closes_its_output(self):
        data, done = self.job(fb.COMPLETE, b'hi', model='none-such')
        self.assertEqual((data, done['error']), (b'', fb.ERROR_MODEL_NOT_FOUND))

    def test_reader_gone_while_it_waits(self):
        """For the model, and for its turn."""
        self.b.admission = lambda a: 'queue'
        self.b.model_delay = 1
        for job in (22, 23):
            out = self.start_job(job, self.long(), max_tokens=100, events=True)
            if job == 22:
                self.b.wait_for(lambda: self.b.wanted)
            else:
                self.b.wait_for(lambda: [a for a in self.b.admits if a['ref'] == 23])
            out.close()
            self.assertEqual(self.b.wait_for(lambda: self.b.done.get(job))['error'],
                             fb.ERROR_CANCELLED)

    def test_reader_gone(self):
        for step in ('reading', 'running'):
            in_r, in_w = os.pipe()
            out_r, out_w = os.pipe()
            job = 20 if step == 'reading' else 21
            self.b.bus_job(job, fb.COMPLETE, in_r, out_w, model='wide', max_tokens=8000,
                           temperature=2.0)
            os.close(in_r)
            os.close(out_w)
            if step == 'running':
                os.write(in_w, b'abc')
                os.close(in_w)
                os.read(out_r, 10)
            os.close(out_r)
            self.assertEqual(self.b.wait_for(lambda: self.b.done.get(job))['error'],
                             fb.ERROR_CANCELLED)
            if step == 'reading':
                os.close(in_w)

    def long(self):
        return {'messages': [{'role': 'user', 'content': 'abc'}], 'seed': 3, 'temperature': 1,
                'response_format': {'type': 'json_schema', 'json_schema': {
                    'name': 'long', 'schema': {'type': 'string', 'minLength': 100000}}}}

    def start_job(self, job, data, verb=fb.CHAT, **options):
        """The reader's end of a job that goes on without us. data: a request, or bytes of text."""
        fd = os.memfd_create('input')
        os.write(fd, data if isinstance(data, bytes) else json.dumps(data).encode())
        out, theirs = socket.socketpair()
        for s in (out, theirs):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.b.bus_job(job, verb, fd, theirs.fileno(), **dict(
            dict(input_format=fb.REQUEST_JSON, model='wide'), **options))
        theirs.close()
        os.close(fd)
        out.settimeout(60)
        self.addCleanup(out.close)
        return out

    def test_events_show_what_is_waited_for(self):
        self.b.admission = lambda a: 'queue'
        out = self.start_job(6, self.long(), max_tokens=10, events=True)
        lines = out.makefile()
        first = json.loads(lines.readline())['progress']
        self.assertEqual((first['state'], first['queue_position']), ('queued', 1))
        self.b.queued(self.b.admits[0], position=2, tokens=4711)
        while True:
            beat = json.loads(lines.readline())['progress']
            if beat['queue_position'] == 2:
                break
        self.assertEqual((beat['state'], beat['queue_tokens_ahead']), ('queued', 4711))
        again = json.loads(lines.readline())  # nothing has changed: a sign of life
        self.assertEqual(again, {'progress': beat})
        self.b.admit(self.b.admits[0])
        rest = [json.loads(line) for line in lines]
        self.assertEqual(rest[-1]['result'], 'length')
        self.assertTrue(any('text' in line for line in rest))

    def test_slow_reader_gets_the_same_bytes(self):
        data, _ = self.job(fb.CHAT, self.long(), model='wide', max_tokens=2000,
                           input_format=fb.REQUEST_JSON)
        slow = self.start_job(6, self.long(), max_tokens=2000)
        self.b.wait_for(lambda: self.b.done.get(6), 60)
        self.assertEqual(read_all(slow), data)

    def test_slow_reader_pauses(self):
        """What is not read yet does not grow for ever; nobody else waits, and nothing is lost."""
        text = b'Once upon a time.' + b'\n' * 180000  # most pieces need no model: they only pass
        options = dict(verb=fb.PROOFREAD, input_format=fb.TEXT, model='story', events=True)
        slow = self.start_job(7, text, **options)
        self.b.wait_for(lambda: [p for p in self.b.progress if p[:2] == (7, fb.STATE_PAUSED)])
        self.job(fb.COMPLETE, STORY_PROMPT.encode(), max_tokens=10)
        self.assertNotIn(7, self.b.done)
        lines = [json.loads(l) for l in read_all(slow).splitlines()]
        passed = ''.join(l.get('text', '') for l in lines)
        self.assertEqual((lines[-1]['done'], lines[-1]['coverage']['dropped']), (True, 0))
        self.assertEqual(passed.count('\n'), 180000)
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(7))['error'], 0)

    def test_too_much_is_kept(self):
        """A result that does not fit beside the others fails, says so, and leaves them alone."""
        def embed(job):
            fd = os.memfd_create('input')
            os.write(fd, json.dumps({'input': ['a'] * 1500}).encode())
            out, theirs = socket.socketpair()
            out.settimeout(60)
            self.b.bus_job(job, fb.EMBED, fd, theirs.fileno(), input_format=fb.REQUEST_JSON,
                           model='mean', events=True, keep=1)
            theirs.close()
            os.close(fd)
            with out:
                lines = read_all(out).splitlines(True)
            self.assertTrue(b'"done":true' in lines[-1], lines[-1])
            vectors = [line for line in lines if line.startswith(b'{"index"')]
            return vectors, json.loads(lines[-1]), self.b.wait_for(lambda: self.b.done.get(job))

        vectors, _, done = embed(40)
        self.assertEqual((done['error'], len(vectors)), (0, 1500))
        self.assertIn(sum(len(v) for v in vectors), range(6 << 20, 16 << 20))
        for job in (41, 42, 43):
            again, last, done = embed(job)
            if done['error'] != 0:
                break
            self.assertEqual(again, vectors)
        self.assertEqual((done['error'], done['limit']), (fb.ERROR_OVERLOADED, 16 << 20))
        self.assertGreater(done['value'], 16 << 20)
        self.assertEqual((again, last['result'], last['error']['code']),
                         ([], 'failed', 'overloaded'))
        self.assertIn('too much memory', last['error']['message'])
        kept = read_all(self.b.take_output(40)).splitlines(True)
        self.assertEqual([line for line in kept if line in vectors], vectors)
        self.b.discard(40)
        again, _, done = embed(50)
        self.assertEqual((again, done['error']), (vectors, 0))

    def test_detached(self):
        """It ends without a reader and without a pause; whoever comes gets all of it."""
        data, _ = self.job(fb.CHAT, self.long(), model='wide', max_tokens=2000,
                           input_format=fb.REQUEST_JSON)
        self.start_job(6, self.long(), max_tokens=2000, keep=1).close()
        self.b.wait_for(lambda: [p for p in self.b.progress if p[0] == 6 and p[7] > 10], 60)
        first = self.b.take_output(6)
        start = first.recv(10)
        self.assertEqual(start, data[:len(start)])
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(6), 60)['tokens_out'], 2000)
        self.assertEqual([p for p in self.b.progress if p[0] == 6 and p[1] == 6], [])
        second = self.b.take_output(6)
        read_all(first)
        self.assertEqual(read_all(second), data)
        self.assertEqual(read_all(self.b.take_output(6)), data)
        third = self.b.take_output(6)
        start = third.recv(10)  # more than the socket holds is left
        self.b.discard(6)
        self.assertEqual(start + read_all(third), data)  # who reads already may go on
        self.assertEqual(read_all(self.b.take_output(6)), b'')

    def test_discarded_is_wiped(self):
        def in_memory(needle):
            with open('/proc/%d/maps' % self.b.proc.pid) as maps, \
                    open('/proc/%d/mem' % self.b.proc.pid, 'rb') as mem:
                for line in maps:
                    area, mode = line.split()[:2]
                    start, end = (int(x, 16) for x in area.split('-'))
                    if mode[:2] == 'rw':
                        mem.seek(start)
                        if needle in mem.read(end - start):
                            return True
            return False

        if os.geteuid() != 0:
            self.skipTest('only root may look into the memory of a worker')
        self.start_job(6, self.long(), max_tokens=300, keep=1).close()
        self.b.wait_for(lambda: self.b.done.get(6))
        data = read_all(self.b.take_output(6))
        self.assertTrue(in_memory(data[100:160]))
        self.b.discard(6)
        self.assertEqual(read_all(self.b.take_output(6)), b'')
        self.assertFalse(in_memory(data[100:160]))

    def test_detached_and_cancelled(self):
        out = self.start_job(6, self.long(), max_tokens=2000, keep=1)
        out.recv(10)
        self.b.cancel(6)
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(6))['error'], fb.ERROR_CANCELLED)
        read_all(out)
        self.assertEqual(read_all(self.b.take_output(6)), b'')

    def test_cancel_while_reading(self):
        in_r, in_w = os.pipe()
        out, theirs = socket.socketpair()
        self.b.bus_job(30, fb.COMPLETE, in_r, theirs.fileno(), events=True)
        theirs.close()
        os.close(in_r)
        self.b.cancel(30, fb.ERROR_DEADLINE)
        self.assertEqual(self.b.wait_for(lambda: self.b.done.get(30))['error'], fb.ERROR_DEADLINE)
        _, last = self.text_of(read_all(out))
        self.assertEqual(last['error']['code'], 'deadline_exceeded')
        os.close(in_w)
        out.close()


class Packing(unittest.TestCase):
    def test_garbage(self):
        path = os.path.join(DIR, 'garbage')
        with open(STORY, 'rb') as f:
            cut = f.read(100000)
        for data in (b'', b'GGUF', b'no model at all' * 100, cut):
            with open(path, 'wb') as f:
                f.write(data)
            error, size = pack_file(WORKER, path, path + '.out')
            self.assertNotEqual(error, 0)
            self.assertEqual(size, 0)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
