"""Grammars against the JSON-Schema-Test-Suite (draft 2020-12). For every schema that is supported,
each valid instance is accepted byte by byte when it is written in the schema's order of properties,
and no invalid one in any order; and whatever a model without any sense writes under the grammar
parses, and is valid for another validator. For every other schema, the keyword is named.
Arguments: constrain, a vocabulary (GGUF), the suite."""
import decimal
import itertools
import json
import lzma
import re
import subprocess
import sys
import unittest

try:
    import jsonschema
except ImportError:
    print('skipped: the package jsonschema is not installed')
    sys.exit(77)

CONSTRAIN, VOCAB, SUITE = sys.argv[1:4]
SUPPORTED, SAMPLES, ORDERS = 210, 8, 400

# Instances that are valid and not written here.
BEYOND = {
    ('optional/bignum.json', 'integer'): 'integers have at most 18 digits',
    ('optional/bignum.json', 'number'): 'numbers have at most 18 digits before the point',
    ('optional/float-overflow.json', 'all integers are multiples of 0.5, if overflow is handled'):
        'integers have at most 18 digits',
    ('optional/format/date-time.json', 'validation of date-time strings'):
        'no leap seconds, at most nine digits of a second',
    ('optional/format/time.json', 'validation of time strings'): 'no leap seconds',
    ('optional/format/email.json', 'validation of e-mail addresses'):
        'no quoted names, no addresses in brackets',
}
# Formats are kept to, which the standard leaves to the implementation; vocabularies are not read.
STRICTER = ('format.json', 'vocabulary.json')

# Names of members that run out, which the suite has none of.
FEW_NAMES = [
    {'file': 'names', 'description': pattern, 'tests': [],
     'schema': {'type': 'object', 'propertyNames': {'pattern': pattern}, 'minProperties': n,
                'additionalProperties': {'type': 'boolean'}, **more}}
    for pattern, n, more in (
        ('^[ab]?$', 3, {}), ('^(a|b*c)$', 4, {}),
        ('^(a|b{0,3}[cd]|\\n|\\t|\u20ac|\u00e9)$', 12, {}),
        ('^[a-c]{1,2}$', 12, {'properties': {'a': {}, 'bb': {}}, 'required': ['bb']}),
        ('^[01][01]$', 4, {'patternProperties': {'^1': {'type': 'null'}}}),
        ('^\\u0001?[\\u0000-\\u0002]$', 6, {}))]

# Where a pattern's word will hardly come by chance.
RARE = re.compile('cole')

SPACES = r'\t\n\v\f\r \u00a0\ufeff\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000'
ECMA = {'s': '[%s]' % SPACES, 'S': '[^%s]' % SPACES}


def to_python(pattern):
    """An ECMA expression as Python understands it."""
    pattern = re.sub(r'\\c([A-Za-z])', lambda m: '\\x%02x' % (ord(m[1]) & 31), pattern)
    pattern = re.sub(r'\\([sS])', lambda m: ECMA[m[1]], pattern)
    return re.sub(r'(?<!\\)\$', r'\\Z', pattern)


def check_pattern(_, pattern, instance, __):
    if isinstance(instance, str) and not re.search(to_python(pattern), instance, re.ASCII):
        yield jsonschema.ValidationError('pattern')


def check_patterns(validator, properties, instance, _):
    if isinstance(instance, dict):
        for (pattern, schema), (name, value) in itertools.product(properties.items(),
                                                                  instance.items()):
            if re.search(to_python(pattern), name, re.ASCII):
                yield from validator.descend(value, schema, path=name)


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {'pattern': check_pattern, 'patternProperties': check_patterns},
    format_checker=jsonschema.FormatChecker())


def exact(text):
    return json.loads(text, parse_float=decimal.Decimal)


def members(pairs):
    """An object whose names are all different."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError('a name comes twice: %r' % [name for name, _ in pairs])
    return dict(pairs)


def whole(v):
    """Numbers without a fraction as they are written here: without a point."""
    if isinstance(v, float) and v == int(v) and abs(v) < 1e18:
        return int(v)
    if isinstance(v, dict):
        return {k: whole(x) for k, x in v.items()}
    return [whole(x) for x in v] if isinstance(v, list) else v


def orders(v):
    """The value with its members in every order, up to a limit."""
    if isinstance(v, list):
        return [list(p) for p in itertools.islice(itertools.product(*map(orders, v)), ORDERS)]
    if not isinstance(v, dict):
        return [v]
    return list(itertools.islice(
        (dict(zip(names, values)) for names in itertools.permutations(v)
         for values in itertools.product(*(orders(v[n]) for n in names))), ORDERS))


def texts_of(test):
    return [json.dumps(v, ensure_ascii=False, separators=(',', ':'))
            for v in orders(whole(test['data']))]


def keywords(schema):
    if isinstance(schema, dict):
        return set(schema).union(*map(keywords, schema.values()))
    return set().union(*map(keywords, schema)) if isinstance(schema, list) else set()


class Suite(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with lzma.open(SUITE, 'rt', encoding='utf-8') as f:
            cls.groups = [json.loads(line) for line in f] + FEW_NAMES
        requests = [{'schema': g['schema'], 'samples': SAMPLES, 'seed': i,
                     'texts': [x for t in g['tests'] for x in texts_of(t)]}
                    for i, g in enumerate(cls.groups)]
        r = subprocess.run([CONSTRAIN, VOCAB], text=True, capture_output=True, check=False,
                           input=''.join(json.dumps(q) + '\n' for q in requests))
        if r.returncode != 0:
            raise RuntimeError('constrain: %d, %s' % (r.returncode, r.stderr))
        cls.replies = [json.loads(line) for line in r.stdout.split('\n')[:-1]]

    def each(self, supported):
        for g, r in zip(self.groups, self.replies):
            if ('refused' not in r) == supported:
                yield '%s, %s: ' % (g['file'], g['description']), g, r

    def test_instances(self):
        for name, g, r in self.each(True):
            accepted = iter(r['accepted'])
            beyond = (g['file'], g['description']) in BEYOND
            for t in g['tests']:
                ways = [next(accepted) for _ in texts_of(t)]
                if t['valid'] and not beyond and g['file'] not in STRICTER:
                    self.assertTrue(any(ways), name + t['description'])
                if not t['valid']:
                    self.assertFalse(any(ways), name + t['description'])

    def test_samples(self):
        n = 0
        for name, g, r in self.each(True):
            validator = Validator(exact(json.dumps(g['schema'])))
            for text in r['samples']:
                if text is None:
                    self.assertRegex(json.dumps(g['schema']), RARE, name)
                    continue
                json.loads(text, object_pairs_hook=members)
                error = jsonschema.exceptions.best_match(validator.iter_errors(exact(text)))
                self.assertIsNone(error, name + text)
                n += 1
        self.assertGreater(n, SUPPORTED * SAMPLES * 9 // 10)
        print('%d answers are valid' % n)

    def test_count(self):
        n = sum('refused' not in r for r in self.replies)
        self.assertEqual(len(self.replies), len(self.groups))
        self.assertGreaterEqual(n, SUPPORTED)
        print('%d of %d schemas are supported' % (n, len(self.groups)))

    def test_refusals_name_the_keyword(self):
        for name, g, r in self.each(False):
            if r['message'].startswith('No value'):
                self.assertFalse(any(t['valid'] for t in g['tests']), name)
            elif r['message'].startswith('not JSON'):
                self.assertRegex(json.dumps(g['schema']), r'\d{19}|\\u0000')
            elif 'does not know' in r['message']:
                self.assertGreater(r['value'], 0)
            elif not r['message'].startswith('Numbers that are not whole'):
                self.assertIn(r['refused'].rsplit('/', 1)[-1], keywords(g['schema']), (name, r))


if __name__ == '__main__':
    sys.argv[1:] = []
    unittest.main(verbosity=2)
