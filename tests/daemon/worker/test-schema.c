/* Schemas to grammars: texts that are accepted and refused, where white space may stand, what is
 * refused with which words, limits that hostile schemas meet, and masks against the automaton,
 * token by token, for whole vocabularies. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/schema.h"
#include "engine/base/macro.h"
#include "engine/grammar/constraint.h"
#include "engine/model/gguf.h"

static char **vocab_paths;
static int n_vocabs;

static struct vocab *load_vocab(const char *path) {
        struct model_error error = { 0 };
        struct gguf *g = NULL;
        struct vocab *v = NULL;
        FILE *f = fopen(path, "rb");
        uint8_t *data;
        long size;

        assert_non_null(f);
        assert_int_equal(fseek(f, 0, SEEK_END), 0);
        size = ftell(f);
        rewind(f);
        data = malloc((size_t)size);
        assert_int_equal(fread(data, 1, (size_t)size, f), size);
        fclose(f);
        assert_int_equal(gguf_parse(&g, (struct view){ data, (size_t)size }, &error), 0);
        assert_int_equal(vocab_load(&v, g, &error), 0);
        gguf_free(g);
        free(data);
        return v;
}

/* JSON is written with ' for its quotation marks here. */
static char *unquote(const char *text) {
        char *copy = strdup(text);

        for (char *p = copy; *p; p++)
                *p = *p == '\'' ? '"' : *p;
        return copy;
}

static int compile(const char *quoted, struct grammar **ret, struct request_error *e) {
        char *text = unquote(quoted);
        json_t *schema = json_loads(text, JSON_DECODE_ANY, NULL);
        int r;

        *e = (struct request_error){ 0 };
        if (!schema)
                fail_msg("no JSON: %s", text);
        r = schema_compile(schema, "schema", ret, e);
        json_decref(schema);
        free(text);
        return r;
}

static struct token_trie *trie;
static struct vocab *vocab;

static struct constraint *constraint_of(const char *schema) {
        struct request_error e;
        struct constraint *c;
        struct grammar *g;

        if (compile(schema, &g, &e) < 0)
                fail_msg("%s: %s: %s", schema, e.param, e.detail);
        assert_int_equal(constraint_new(&c, g, trie, vocab_size(vocab)), 0);
        return c;
}

static int accept(struct constraint *c, const char *text, size_t n) {
        return constraint_accept_bytes(c, (struct view){ (const uint8_t *)text, n });
}

/* --- texts --- */

/* 'w': whole, 'p': a beginning of something whole, 'n': not possible. */
static char kind_of(const char *schema, const char *quoted) {
        struct constraint *c = constraint_of(schema);
        char *text = unquote(quoted), kind = 'p';

        for (const char *p = text; *p && kind != 'n'; p++)
                if (accept(c, p, 1) < 0)
                        kind = 'n';
        if (kind == 'p' && constraint_whole(c))
                kind = 'w';
        constraint_free(c);
        free(text);
        return kind;
}

#define TWO "{'properties':{'a':{'type':'integer'},'b':{}},'required':['b'],"            \
            "'type':'object',"
#define FEW "{'type':'object','propertyNames':{'pattern':"
#define LIST "{'type':'array','items':{'type':'integer'},"
#define TREE "{'type':'object','properties':{'v':{'type':'integer'},'kids':{'type':"   \
             "'array','items':{'$ref':'#'}}},'required':['v'],'additionalProperties':false}"

static const struct {
        const char *schema;
        const char *text;
        char kind;
} rows[] = {
        /* white space: one space, or a line and up to 32 of indentation */
        { TWO "'title':''}", "{ 'a': 1, 'b': null }", 'w' },
        { TWO "'title':''}", "{\n  'a': 1,\n  'b': null\n}", 'w' },
        { TWO "'title':''}", "{'a':1,'b':null}", 'w' },
        { TWO "'title':''}", "{  'b'", 'n' },
        { TWO "'title':''}", "{\n\n", 'n' },
        { TWO "'title':''}", "{\n                                'b'", 'p' },
        { TWO "'title':''}", "{\n                                 ", 'n' },
        { TWO "'title':''}", "{'b' :", 'n' },
        { TWO "'title':''}", "{'b':\n", 'n' },
        { TWO "'title':''}", "{'b':1 ,", 'n' },
        { TWO "'title':''}", "{'a':1\n", 'n' }, /* b must come, so no bracket can */
        { TWO "'title':''}", " {", 'n' },
        { TWO "'title':''}", "{'b':1} ", 'n' },
        /* members: order, what is required, what else may come */
        { TWO "'title':''}", "{'b':1,'a'", 'n' },
        { TWO "'title':''}", "{'a':1}", 'n' },
        { TWO "'title':''}", "{'b':1,'c':{'d':[]}}", 'w' },
        { TWO "'title':''}", "{'c'", 'n' },
        { TWO "'additionalProperties':false}", "{'b':1,", 'n' },
        { TWO "'additionalProperties':{'type':'null'}}", "{'b':1,'bb':null}", 'w' },
        { TWO "'additionalProperties':{'type':'null'}}", "{'b':1,'bb':1", 'n' },
        { TWO "'title':''}", "{'b':1,'\\u0061'", 'n' },
        { "{'type':'object','minProperties':2,'maxProperties':2}", "{'a':1,'b':2}", 'w' },
        { "{'type':'object','minProperties':2,'maxProperties':2}", "{'a':1}", 'n' },
        { "{'type':'object','minProperties':2,'maxProperties':2}", "{'a':1,'b':2,", 'n' },
        { "{'properties':{'a':{},'b':{},'c':{}},'additionalProperties':false,"
          "'minProperties':2,'type':'object'}", "{'c'", 'n' },
        { "{'properties':{'a':{},'b':{},'c':{}},'additionalProperties':false,"
          "'minProperties':2,'type':'object'}", "{'b':1,'c':1}", 'w' },
        { "{'properties':{'n\\'e':{'const':1}},'type':'object'}", "{'n\\'e':1}", 'w' },
        { "{'properties':{'n\\'e':{'const':1}},'type':'object'}", "{'n\\'e':2", 'n' },
        { "{'type':'object','patternProperties':{'^s_':{'type':'string'}},"
          "'properties':{'s_x':{'maxLength':1}},'additionalProperties':{'type':'null'}}",
          "{'s_x':'a','s_y':'long','t':null}", 'w' },
        { "{'type':'object','patternProperties':{'^s_':{'type':'string'}},"
          "'properties':{'s_x':{'maxLength':1}},'additionalProperties':{'type':'null'}}",
          "{'s_y':null", 'n' },
        { "{'type':'object','propertyNames':{'enum':['a','b']}}", "{'a':1,'b':2}", 'w' },
        { "{'type':'object','propertyNames':{'enum':['a','b']}}", "{'c'", 'n' },
        { "{'type':'object','propertyNames':{'enum':['a','b'],'const':'b'}}", "{'b':1}", 'w' },
        { "{'type':'object','propertyNames':{'enum':['a','b'],'const':'b'}}", "{'a'", 'n' },
        { "{'type':'object','propertyNames':{'enum':['a'],'const':'b'}}", "{'b'", 'n' },
        { "{'$ref':'#a','properties':{'default':{'$anchor':'a','type':'null'}}}", "null", 'w' },
        /* no name twice, and none begun that could only be one of those */
        { "{'type':'object','minProperties':2,'maxProperties':2}", "{'a':1,'a'", 'n' },
        { "{'type':'object','minProperties':2,'maxProperties':2}", "{'a':1,'aa':2}", 'w' },
        { "{'type':'object'}", "{'a':{'a':[{'a':1},{'a':2}]},'b':{'a':1}}", 'w' },
        { "{'type':'object'}", "{'a':{'b':1},'b':1,'a'", 'n' },
        { "{'type':'object'}", "{'':1,''", 'n' },
        { "{'type':'object'}", "{'\\n\\u001f':1,'\\n\\u001f'", 'n' },
        { "{'type':'object'}", "{'\\n\\u001f':1,'\\n\\u001e':2}", 'w' },
        { "{'type':'object'}", "{'\\u001F'", 'n' },
        { TWO "'title':''}", "{'b':1,'b'", 'n' },
        { TWO "'title':''}", "{'b':1,'c':1,'b'", 'n' },
        { TWO "'title':''}", "{'b':1,'c':1,'c'", 'n' },
        { TWO "'title':''}", "{'b':1,'c':1,'bb':1,'cc':2}", 'w' },
        { FEW "'^[ab]$'},'minProperties':2}", "{'a':1,'b':2}", 'w' },
        { FEW "'^[ab]$'},'minProperties':2}", "{'b':1,'b", 'n' },
        { FEW "'^[ab]$'},'minProperties':2}", "{'b':1,'a':2,", 'n' },
        { FEW "'^[ab]$'},'minProperties':2}", "{'a':1}", 'n' },
        { FEW "'^(a|b*c)$'}}", "{'bc':1,'bbc':2,'a':3,'bb", 'p' },
        { FEW "'^(a|b*c)$'}}", "{'bc':1,'bc", 'n' },
        { FEW "'^(a|b*c)$'}}", "{'a':1,'a", 'n' },
        { FEW "'^(\\n|b+)$'}}", "{'\\n':1,'\\", 'n' },
        { FEW "'^(\\n|\\t|b)$'}}", "{'\\n':1,'b':1,'\\t':1}", 'w' },
        { FEW "'^(\\n|\\t|b)$'}}", "{'\\n':1,'\\n", 'n' },
        { FEW "'^[\xc3\xa9\xe2\x82\xac]$'}}", "{'\xc3\xa9':1,'\xe2\x82\xac':1}", 'w' },
        { FEW "'^[\xc3\xa9\xe2\x82\xac]$'}}", "{'\xc3\xa9':1,'\xc3\xa9", 'n' },
        { "{'type':'object','properties':{'x':{}},'propertyNames':{'enum':['x','y']},"
          "'minProperties':2}",
          "{'x':1,'y':1}", 'w' },
        { "{'type':'object','properties':{'x':{}},'propertyNames':{'enum':['x','y']},"
          "'minProperties':2}",
          "{'y'", 'n' },
        { "{'type':'object','properties':{'x':{}},'propertyNames':{'enum':['x','y']},"
          "'minProperties':2}",
          "{'x':1,'x", 'n' },
        /* arrays */
        { LIST "'minItems':1,'maxItems':2}", "[1, -2]", 'w' },
        { LIST "'minItems':1,'maxItems':2}", "[]", 'n' },
        { LIST "'minItems':1,'maxItems':2}", "[1,2,", 'n' },
        { LIST "'prefixItems':[{'type':'string'}]}", "['a',1,2]", 'w' },
        { LIST "'prefixItems':[{'type':'string'}]}", "[1", 'n' },
        { "{'prefixItems':[true],'items':false}", "[1,", 'n' },
        { LIST "'title':''}", "[1,]", 'n' },
        { LIST "'title':''}", "[,", 'n' },
        /* strings */
        { "{'type':'string'}", "'a\\n\\u001f\\'\xc3\xa9\xf0\x9f\x90\xb2'", 'w' },
        { "{'type':'string'}", "'\n", 'n' },
        { "{'type':'string'}", "'\xc3'", 'n' },
        { "{'type':'string'}", "'\xc0", 'n' },
        { "{'type':'string'}", "'\xed\xa0", 'n' },
        { "{'type':'string'}", "'\xf4\x90", 'n' },
        { "{'type':'string'}", "'\\x", 'n' },
        { "{'type':'string'}", "'\\u00e", 'n' },
        { "{'type':'string','minLength':2,'maxLength':3}", "'\xc3\xa9\\n'", 'w' },
        { "{'type':'string','minLength':2,'maxLength':3}", "'\xc3\xa9'", 'n' },
        { "{'type':'string','minLength':2,'maxLength':3}", "'abc\\", 'n' },
        { "{'type':'string','pattern':'^a\\n\\u0001?$'}", "'a\\n\\u0001'", 'w' },
        { "{'type':'string','pattern':'^a\\n\\u0001?$'}", "'a\\\\", 'n' },
        { "{'type':'string','pattern':'^[a-z]+$','maxLength':3}", "'abc'", 'w' },
        { "{'type':'string','pattern':'^[a-z]+$','maxLength':3}", "'abcd", 'n' },
        { "{'type':'string','pattern':'^[a-z]+$','allOf':[{'pattern':'x'}]}", "'ab'", 'n' },
        { "{'type':'string','format':'date'}", "'2024-02-29'", 'w' },
        { "{'type':'string','format':'date'}", "'2023-02-29", 'n' },
        /* values */
        { "{'enum':['a','ab',1,12,null,{'k':[1,2]},1.50]}", "'ab'", 'w' },
        { "{'enum':['a','ab',1,12,null,{'k':[1,2]},1.50]}", "12", 'w' },
        { "{'enum':['a','ab',1,12,null,{'k':[1,2]},1.50]}", "{'k': [1, 2]}", 'w' },
        { "{'enum':['a','ab',1,12,null,{'k':[1,2]},1.50]}", "1.5", 'w' },
        { "{'enum':['a','ab',1,12,null,{'k':[1,2]},1.50]}", "11", 'n' },
        { "{'enum':['a','bb',3],'type':'string','minLength':2}", "'a", 'n' },
        { "{'enum':['a','bb',3],'type':'string','minLength':2}", "'bb'", 'w' },
        { "{'enum':[1,5,9,10],'minimum':4,'multipleOf':5}", "10", 'w' },
        { "{'enum':[1,5,9,10],'minimum':4,'multipleOf':5}", "9", 'n' },
        { "{'type':'integer'}", "-12", 'w' },
        { "{'type':'integer'}", "-", 'p' },
        { "{'type':'integer'}", "1.", 'n' },
        { "{'type':'integer'}", "01", 'n' },
        { "{'type':'number'}", "-0.5e+10", 'w' },
        { "{'type':'number'}", "1e100", 'n' },
        { "{'type':'boolean'}", "true", 'w' },
        { "{'type':['null','boolean']}", "null", 'w' },
        /* alternatives and recursion */
        { "{'anyOf':[{'type':'object','properties':{'k':{'const':'a'},'x':{'type':"
          "'integer'}},'required':['k','x']},{'type':'object','properties':{'k':{'const':"
          "'ab'},'y':{'type':'string'}},'required':['k','y']}]}", "{'k':'ab','y':''}", 'w' },
        { "{'anyOf':[{'type':'object','properties':{'k':{'const':'a'},'x':{'type':"
          "'integer'}},'required':['k','x']},{'type':'object','properties':{'k':{'const':"
          "'ab'},'y':{'type':'string'}},'required':['k','y']}]}", "{'k':'a','y'", 'n' },
        { "{'oneOf':[{'type':'integer'},{'type':'string'}]}", "'a'", 'w' },
        { "{'type':['integer','string'],'minLength':2,'minimum':5}", "'a'", 'n' },
        { "{'type':['integer','string'],'minLength':2,'minimum':5}", "7", 'w' },
        { TREE, "{'v':1,'kids':[{'v':2,'kids':[{'v':3}]},{'v':4}]}", 'w' },
        { TREE, "{'v':1,'kids':[{'kids'", 'n' },
        { "true", "{'any':[1,'x',{'y':null}]}", 'w' },
};

static void test_texts(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (kind_of(rows[i].schema, rows[i].text) != rows[i].kind)
                        fail_msg("%s and %s: %c", rows[i].schema, rows[i].text,
                                 kind_of(rows[i].schema, rows[i].text));
}

/* Levels are bounded, and what is begun can be ended within the bound. */
static void test_depth(void **state) {
        static const char child[] = "{\"v\":1,\"kids\":[";
        struct constraint *c = constraint_of("{}");
        unsigned levels = 0;

        (void)state;
        while (accept(c, "[", 1) == 0)
                levels++;
        assert_int_equal(levels, GRAMMAR_DEPTH);
        assert_int_equal(accept(c, "1", 1), 0);
        while (levels-- > 0)
                assert_int_equal(accept(c, "]", 1), 0);
        assert_true(constraint_over(c));
        constraint_free(c);
        c = constraint_of(TREE); /* an object in an array on every second level */
        for (levels = 0; accept(c, child, strlen(child)) == 0;)
                levels++;
        assert_int_equal(levels, GRAMMAR_DEPTH / 2);
        constraint_free(c);
}

/* --- refusals --- */

static const struct {
        const char *schema, *param;
        enum error_code code;
} refusals[] = {
        { "{'contains':{}}", "schema/contains", ERROR_UNSUPPORTED },
        { "{'properties':{'x':{},'secret':{'items':{'uniqueItems':true}}}}",
          "schema/properties/#1/items/uniqueItems", ERROR_UNSUPPORTED },
        { "{'$defs':{'a':{'if':{},'then':{}}},'anyOf':[{'$ref':'#/$defs/a'}]}",
          "schema/$defs/#0/if", ERROR_UNSUPPORTED },
        { "{'anyOf':[{},{'not':{'minimum':1}}]}", "schema/anyOf/1/not", ERROR_UNSUPPORTED },
        { "{'type':'text'}", "schema/type", ERROR_INVALID_INPUT },
        { "{'minLength':-1}", "schema/minLength", ERROR_INVALID_INPUT },
        { "{'properties':[]}", "schema/properties", ERROR_INVALID_INPUT },
        { "{'pattern':'('}", "schema/pattern", ERROR_INVALID_INPUT },
        { "{'pattern':'(?=a)'}", "schema/pattern", ERROR_UNSUPPORTED },
        { "{'format':'iri'}", "schema/format", ERROR_UNSUPPORTED },
        { "{'$ref':'other.json'}", "schema/$ref", ERROR_UNSUPPORTED },
        { "{'$ref':'#a','default':{'$anchor':'a'},'examples':[{'$anchor':'a'}]}", "schema/$ref",
          ERROR_INVALID_INPUT },
        { "{'$ref':'#a','properties':{'x':{'enum':[{'$anchor':'a'}]}}}", "schema/$ref",
          ERROR_INVALID_INPUT },
        { "{'not':{'type':'text'}}", "schema/not", ERROR_UNSUPPORTED },
        { "{'$ref':'#/$defs/none'}", "schema/$ref", ERROR_INVALID_INPUT },
        { "{'oneOf':[{'type':'integer'},{'minimum':2}]}", "schema/oneOf", ERROR_UNSUPPORTED },
        { "{'multipleOf':0}", "schema/multipleOf", ERROR_INVALID_INPUT },
        { "{'minimum':0.000000000000000001}", "schema/minimum", ERROR_UNSUPPORTED },
        { "{'enum':[[1]],'items':{}}", "schema/items", ERROR_UNSUPPORTED },
        { "{'items':{'$id':'x'}}", "schema/items/$id", ERROR_UNSUPPORTED },
        { "{'my secret':1}", "schema", ERROR_UNSUPPORTED },
        { "{'nullable':true}", "schema/nullable", ERROR_UNSUPPORTED },
        /* nothing could be written */
        { "false", "schema", ERROR_INVALID_INPUT },
        { "{'type':'string','minLength':3,'maxLength':2}", "schema", ERROR_INVALID_INPUT },
        { "{'enum':[]}", "schema", ERROR_INVALID_INPUT },
        { "{'type':'object','properties':{'n':{'$ref':'#'}},'required':['n']}", "schema",
          ERROR_INVALID_INPUT },
        { "{'anyOf':[{'$ref':'#/anyOf/0'}],'type':'integer','minimum':2,'maximum':1}",
          "schema", ERROR_INVALID_INPUT },
        { "{'type':'array','prefixItems':[{},false],'minItems':2}", "schema",
          ERROR_INVALID_INPUT },
        { "{'type':'integer','multipleOf':7,'minimum':1,'maximum':6}", "schema",
          ERROR_INVALID_INPUT },
        { "{'type':'object','patternProperties':{'^a$':{}},'additionalProperties':false,"
          "'minProperties':2}", "schema", ERROR_INVALID_INPUT },
        { "{'type':'object','properties':{'x':{}},'propertyNames':{'enum':['x','y']},"
          "'minProperties':3}", "schema", ERROR_INVALID_INPUT },
        { "{'type':'object','propertyNames':{'maxLength':1},'required':['ab']}", "schema",
          ERROR_INVALID_INPUT },
};

static void test_refusals(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
                struct request_error e;
                struct grammar *g;

                if (compile(refusals[i].schema, &g, &e) != -EBADMSG)
                        fail_msg("%s is compiled", refusals[i].schema);
                if (strcmp(e.param, refusals[i].param) != 0 || e.code != refusals[i].code)
                        fail_msg("%s: %s, code %d", refusals[i].schema, e.param, e.code);
        }
}

/* --- hostile schemas: each meets a limit, none takes long --- */

/* `piece` n times between the others, its @ replaced by the number. */
static char *repeat(const char *before, const char *piece, size_t n, const char *after) {
        size_t size = strlen(before) + n * (2 * strlen(piece) + 16) + strlen(after) + 1;
        char *text = calloc(1, size), *to = stpcpy(text, before);

        for (size_t i = 0; i < n; i++)
                for (const char *p = piece; *p; p++) {
                        if (*p == '@')
                                to += snprintf(to, 16, "%zu", i);
                        else
                                *to++ = *p;
                }
        strcpy(to, after);
        return text;
}

static void check_limit(char *schema, uint64_t limit) {
        struct request_error e;
        struct grammar *g;

        if (compile(schema, &g, &e) != -EBADMSG)
                fail_msg("compiled: %.200s", schema);
        if (e.limit != limit)
                fail_msg("%.200s: %s, limit %llu", schema, e.detail, (unsigned long long)e.limit);
        free(schema);
}

static void test_limits(void **state) {
        char *deep, *closed;

        (void)state;
        check_limit(repeat("{'allOf':[", "{'anyOf':[{'minLength':@},{'maximum':@}]},", 20,
                           "{}]}"), GRAMMAR_NODES_MAX);
        check_limit(repeat("{'allOf':[", "{'minimum':@},", 70, "{}]}"), SCHEMA_SET_MAX);
        check_limit(repeat("{'properties':{", "'p@':{},", GRAMMAR_PROPERTIES_MAX,
                           "'last':{}}}"), GRAMMAR_PROPERTIES_MAX);
        check_limit(repeat("{'prefixItems':[", "{'maxLength':@},", GRAMMAR_NODES_MAX, "{}]}"),
                    GRAMMAR_NODES_MAX);
        check_limit(strdup("{'pattern':'^(a|b)*a(a|b){16}$'}"), DFA_STATES_MAX);
        check_limit(strdup("{'pattern':'((a{900}){900}){900}'}"), NFA_STATES_MAX);
        check_limit(repeat("{'enum':[", "'value number @',", 2000, "1]}"), NFA_STATES_MAX);
        check_limit(repeat("{'patternProperties':{", "'^a.*@':{'minimum':@},", 12, "'x':{}}}"),
                    16);
        closed = repeat("", "},'required':['a']}", 100, "");
        deep = repeat("", "{'type':'object','properties':{'a':", 100, "true");
        deep = realloc(deep, strlen(deep) + strlen(closed) + 1);
        check_limit(strcat(deep, closed), GRAMMAR_DEPTH);
        free(closed);
}

/* What the compiler looks up in the schema, counted apart from its own account (linked in place of
 * jansson's functions). */
static size_t lookups;

json_t *__real_json_object_get(const json_t *object, const char *key);
json_t *__wrap_json_object_get(const json_t *object, const char *key);
json_t *__real_json_array_get(const json_t *array, size_t index);
json_t *__wrap_json_array_get(const json_t *array, size_t index);
void *__real_json_object_iter_next(json_t *object, void *iter);
void *__wrap_json_object_iter_next(json_t *object, void *iter);

json_t *__wrap_json_object_get(const json_t *object, const char *key) {
        lookups++;
        return __real_json_object_get(object, key);
}

json_t *__wrap_json_array_get(const json_t *array, size_t index) {
        lookups++;
        return __real_json_array_get(array, index);
}

void *__wrap_json_object_iter_next(json_t *object, void *iter) {
        lookups++;
        return __real_json_object_iter_next(object, iter);
}

enum { LOOKUPS_EACH = 6 }; /* at most, for one of what SCHEMA_WORK_MAX counts */

enum { COMPILED = -1 };

/* Takes the schema. limit: that of the error, or COMPILED. */
static void check_work(char *schema, int64_t limit, size_t work) {
        struct request_error e;
        struct grammar *g = NULL;
        int r;

        lookups = 0;
        r = compile(schema, &g, &e);
        if (limit == COMPILED ? r < 0 : r != -EBADMSG || e.limit != (uint64_t)limit)
                fail_msg("%.200s: %s, limit %llu", schema, e.detail, (unsigned long long)e.limit);
        if (lookups > LOOKUPS_EACH * work)
                fail_msg("%.200s: %zu lookups", schema, lookups);
        if (g && g->work > work)
                fail_msg("%.200s: work %zu", schema, g->work);
        grammar_free(g);
        free(schema);
}

static char *join(char *a, char *b) {
        a = realloc(a, strlen(a) + strlen(b) + 1);
        assert_non_null(a);
        strcat(a, b);
        free(b);
        return a;
}

/* Work that grows with the square of the schema is counted where it is done, and what a schema
 * needs is done once for it, not for every place from which it is used. */
static void test_work(void **state) {
        char *two = join(repeat("{'$defs':{'x':{'oneOf':[{'enum':[", "@,", 4000, "-1]},"),
                         repeat("{'enum':[", "-2@,", 4000, "-2]}]}},"));
        char *few = join(repeat("{'$defs':{'x':{'oneOf':[{'enum':[", "@,", 300, "-1]},"),
                         repeat("{'enum':[", "-2@,", 300, "-2]}]}},"));

        (void)state;
        two = join(two, repeat("'properties':{", "'p@':{'$ref':'#/$defs/x'},", 40, "'q':{}}}"));
        few = join(few, repeat("'properties':{", "'p@':{'$ref':'#/$defs/x'},", 40, "'q':{}}}"));
        check_work(two, SCHEMA_WORK_MAX, SCHEMA_WORK_MAX);
        check_work(few, COMPILED, 400 * 1000);
        check_work(join(repeat("{'allOf':[{'enum':[", "@,", 4000, "-1]},"),
                        repeat("{'enum':[", "1@.5,", 4000, "-2]}]}")),
                   SCHEMA_WORK_MAX, SCHEMA_WORK_MAX);
        check_work(repeat("{'$defs':{'z':{'$anchor':'z'}},'prefixItems':[",
                          "{'$ref':'#z','title':[[],[],[]]},", 3000, "{}]}"), COMPILED, 500 * 1000);
        check_work(repeat("{'oneOf':[", "{'const':@,'$ref':'#no'},", 400, "{'const':-1}]}"), 0,
                   SCHEMA_WORK_MAX);
}

/* Many readings at once: those beyond the bound are given up, the text stays possible. */
static void test_ambiguity(void **state) {
        char *schema = repeat("{'$defs':{'v':{'anyOf':[",
                              "{'type':'array','items':{'$ref':'#/$defs/v'},'maxItems':1@},", 8,
                              "{'type':'integer'}]}},'$ref':'#/$defs/v'}");
        struct constraint *c = constraint_of(schema);
        const uint64_t *mask;

        (void)state;
        for (int i = 0; i < 20; i++) {
                assert_int_equal(accept(c, "[", 1), 0);
                assert_int_equal(constraint_mask(c, &mask), 0);
        }
        assert_int_equal(accept(c, "1", 1), 0);
        for (int i = 0; i < 20; i++)
                assert_int_equal(accept(c, "]", 1), 0);
        assert_true(constraint_whole(c));
        constraint_free(c);
        free(schema);
}

/* --- masks --- */

static void compare(struct constraint *c, const char *where) {
        const uint64_t *mask;

        assert_int_equal(constraint_mask(c, &mask), 0);
        for (int32_t t = 0; t < (int32_t)vocab_size(vocab); t++) {
                struct view bytes = vocab_bytes(vocab, t, false);
                bool allowed = vocab_is_end(vocab, t) ? constraint_whole(c)
                                                      : bytes.n > 0 && constraint_allows(c, bytes);

                if (mask_has(mask, t) != allowed)
                        fail_msg("token %d '%.*s' before %s: %d", t, (int)bytes.n, bytes.p, where,
                                 allowed);
        }
}

/* After every byte of the text, also inside characters and escapes. */
static void compare_along(const char *schema, const char *quoted) {
        struct constraint *c = constraint_of(schema);
        char *text = unquote(quoted);

        compare(c, text);
        for (const char *p = text; *p; p++) {
                assert_int_equal(accept(c, p, 1), 0);
                compare(c, p);
        }
        assert_true(constraint_whole(c));
        constraint_free(c);
        free(text);
}

static void test_masks(void **state) {
        (void)state;
        for (int i = 0; i < n_vocabs; i++) {
                vocab_free(vocab);
                token_trie_free(trie);
                vocab = load_vocab(vocab_paths[i]);
                assert_int_equal(token_trie_new(&trie, vocab), 0);
                compare_along(TWO "'title':''}", "{\n  'b': '\xc3\xa9\\n','ab': 1}");
                compare_along(LIST "'maxItems':2}", "[1, -20]");
                compare_along("{'type':'string','minLength':2,'maxLength':5}", "'a\xe2\x82\xac'");
                compare_along("{'type':'string','pattern':'^(the|cat) [a-z]+$'}", "'the c'");
                compare_along("{'anyOf':[{'enum':['yes','no']},{'type':'number'}]}", "1.5");
                compare_along("{'type':'object','patternProperties':{'^s':{'type':'string'}},"
                              "'properties':{'so':{}},'additionalProperties':{'type':'null'}}",
                              "{'so':'1','s':''}");
                compare_along("{'type':'object','additionalProperties':{'type':'null'}}",
                              "{'the':null,'':null,'there':null,'t\\n':null}");
                compare_along("{'type':'object',"
                              "'propertyNames':{'pattern':'^(the|\\\\n|[\\\\ta])$'},"
                              "'minProperties':3}", "{'a':1,'\\n':2,'the':3,'\\t':4}");
        }
}

static int setup(void **state) {
        vocab = load_vocab(vocab_paths[0]);
        return token_trie_new(&trie, vocab);
}

static int teardown(void **state) {
        token_trie_free(trie);
        vocab_free(vocab);
        return 0;
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_texts),    cmocka_unit_test(test_depth),
                cmocka_unit_test(test_refusals), cmocka_unit_test(test_limits),
                cmocka_unit_test(test_work),
                cmocka_unit_test(test_ambiguity), cmocka_unit_test(test_masks),
        };

        if (argc < 2)
                return 2;
        vocab_paths = argv + 1;
        n_vocabs = argc - 1;
        return cmocka_run_group_tests(tests, setup, teardown);
}
