/* Tool calls: which offers are understood, what becomes of them in the prompt, and the parts of a
 * call, fed in every split. JSON is written with ' for its quotation marks here. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/messages.h"
#include "daemon/worker/tools.h"
#include "engine/base/macro.h"

static json_t *load(const char *quoted) {
        char *text = strdup(quoted);
        json_t *v;

        for (char *p = text; *p; p++)
                *p = *p == '\'' ? '"' : *p;
        v = json_loads(text, 0, NULL);
        if (!v)
                fail_msg("no JSON: %s", text);
        free(text);
        return v;
}

#define WEATHER                                                                                    \
        "{'type':'function','function':{'name':'weather','description':'Says it.','parameters':{" \
        "'type':'object','properties':{'city':{'type':'string'}},'required':['city']}}}"
#define CLOCK "{'type':'function','function':{'name':'clock'}}"

static const struct {
        const char *json, *param; /* "": understood */
        bool offered;
} rows[] = {
        { "{}", "", false },
        { "{'tools':[],'tool_choice':'auto'}", "", false },
        { "{'tools':null,'tool_choice':'none'}", "", false },
        { "{'tools':[" WEATHER "," CLOCK "]}", "", true },
        { "{'tools':[" CLOCK "],'tool_choice':'required'}", "", true },
        { "{'tools':[" CLOCK "],'tool_choice':'none'}", "", false },
        { "{'tools':[" CLOCK "],'tool_choice':{'type':'function','function':{'name':'clock'}}}", "",
          true },
        { "{'tools':[" CLOCK "],'tool_choice':{'type':'function','function':{'name':'no'}}}",
          "tool_choice", false },
        { "{'tools':[" CLOCK "],'tool_choice':'any'}", "tool_choice", false },
        { "{'tools':[" CLOCK "],'tool_choice':{'type':'function'}}", "tool_choice", false },
        { "{'tool_choice':'required'}", "tool_choice", false },
        { "{'tools':{}}", "tools", false },
        { "{'tools':[{'type':'retrieval'}]}", "tools[0].type", false },
        { "{'tools':[" CLOCK ",{'type':'function','function':{'name':'a b'}}]}",
          "tools[1].function.name", false },
        { "{'tools':[{'type':'function','function':{'name':'a','parameters':[]}}]}",
          "tools[0].function.parameters", false },
        { "{'tools':[{'type':'function','function':{'name':'a','description':1}}]}",
          "tools[0].function.description", false },
        { "{'tools':[{'type':'function','function':{'name':'a','parameters':{'properties':{'x':{"
          "'contains':1}}}}}]}",
          "tools[0].function.parameters/properties/#0/contains", false },
        { "{'tools':[" CLOCK ",{'type':'function','function':{'name':'a','parameters':{"
          "'properties':{'x':false},'required':['x']}}}]}",
          "tools", false },
};

static void test_offers(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct request_error e = {};
                struct grammar *g = NULL;
                struct tools t = {};
                json_t *root = load(rows[i].json);
                int r = tools_parse(root, &t, &g, &e);

                if (r != (rows[i].param[0] ? -EBADMSG : 0) || strcmp(e.param, rows[i].param) != 0)
                        fail_msg("%s: %d, %s", rows[i].json, r, e.param);
                assert_int_equal(t.offered, rows[i].offered);
                assert_int_equal(g != NULL, rows[i].offered);
                grammar_free(g);
                tools_done(&t);
                json_decref(root);
        }
}

/* Where calls were seen and none may follow, the answer is bound to be none. */
static void test_no_call(void **state) {
        static const struct {
                const char *json;
                bool bound;
        } talks[] = {
                { "{'messages':[{'role':'assistant','tool_calls':[{}]}]}", true },
                { "{'tools':[" CLOCK "],'tool_choice':'none',"
                  "'messages':[{'tool_calls':[1]}]}", true },
                { "{'messages':[{'role':'assistant','tool_calls':[]},{'role':'user'}]}", false },
                { "{'messages':{}}", false },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(talks); i++) {
                struct request_error e = {};
                struct grammar *g = NULL;
                struct tools t = {};
                json_t *root = load(talks[i].json);

                assert_int_equal(tools_parse(root, &t, &g, &e), 0);
                assert_false(t.offered);
                assert_int_equal(g != NULL, talks[i].bound);
                grammar_free(g);
                json_decref(root);
        }
}

/* --- the prompt --- */

static void check_message(const struct messages *m, size_t i, enum chat_role role,
                          const char *content) {
        assert_int_equal(m->items[i].role, role);
        if (m->items[i].n != strlen(content) || memcmp(m->items[i].content, content, m->items[i].n))
                fail_msg("%.*s", (int)m->items[i].n, m->items[i].content);
}

static void test_conversation(void **state) {
        static const char talk[] =
                "{'messages':[{'role':'user','content':'u'},{'role':'assistant','content':null,"
                "'tool_calls':[{'id':'c1','type':'function','function':{'name':'weather',"
                "'arguments':'{}'}}]},{'role':'tool','tool_call_id':'c1','content':'rain'},"
                "{'role':'tool','tool_name':'clock','content':'noon'},"
                "{'role':'tool','content':'?'},"
                "{'role':'assistant','content':'So: ','tool_calls':[{'function':{'name':'n',"
                "'arguments':{'a':1}}}]}]}";
        struct secure_buf system = {};
        struct request_error e = {};
        struct messages m;
        json_t *root = load(talk);

        (void)state;
        secure_buf_puts(&system, "TOOLS");
        assert_int_equal(messages_parse(root, &system, &m, &e), 0);
        assert_int_equal(m.n, 7);
        check_message(&m, 0, CHAT_SYSTEM, "TOOLS");
        check_message(&m, 1, CHAT_USER, "u");
        check_message(&m, 2, CHAT_ASSISTANT, "{\"name\": \"weather\", \"arguments\": {}}");
        check_message(&m, 3, CHAT_USER, "The function weather returned: rain");
        check_message(&m, 4, CHAT_USER, "The function clock returned: noon");
        check_message(&m, 5, CHAT_USER, "A function returned: ?");
        check_message(&m, 6, CHAT_ASSISTANT, "So: {\"name\": \"n\", \"arguments\": {\"a\":1}}");
        messages_done(&m);
        json_decref(root);
        root = load("{'messages':[{'role':'system','content':'s'},{'role':'user','content':'u'}]}");
        assert_int_equal(messages_parse(root, &system, &m, &e), 0);
        assert_int_equal(m.n, 2);
        check_message(&m, 0, CHAT_SYSTEM, "s\n\nTOOLS");
        check_message(&m, 1, CHAT_USER, "u");
        messages_done(&m);
        json_decref(root);
        secure_buf_done(&system);
}

static void test_description(void **state) {
        struct request_error e = {};
        struct grammar *g = NULL;
        struct tools t = {};
        json_t *root = load("{'tools':[" WEATHER "," CLOCK "],'tool_choice':{'type':'function',"
                            "'function':{'name':'weather'}}}");

        (void)state;
        assert_int_equal(tools_parse(root, &t, &g, &e), 0);
        secure_buf_append(&t.system, "", 1);
        assert_non_null(strstr(t.system.p,
                               "- weather: Says it.\n  Arguments: {\"type\":\"object\""));
        assert_null(strstr(t.system.p, "clock"));
        assert_non_null(strstr(t.system.p, "Answer with a call"));
        grammar_free(g);
        tools_done(&t);
        json_decref(root);
}

/* --- reading calls --- */

static void read_split(const char *text, size_t split, struct tool_reader *r,
                       struct secure_buf *out) {
        *r = (struct tool_reader){};
        *out = (struct secure_buf){};
        tool_reader_feed(r, text, split, out);
        tool_reader_feed(r, text + split, strlen(text) - split, out);
        secure_buf_append(out, "", 1);
}

static void test_reader(void **state) {
        static const struct {
                const char *text, *name, *out;
                enum tool_step step;
        } calls[] = {
                { "plain {\"name\"", "", "plain {\"name\"", TOOL_TEXT },
                { " {\"name\": \"x\"}", "", " {\"name\": \"x\"}", TOOL_TEXT },
                { "{\"name\": \"f\", \"arguments\": {}}", "f", "{}", TOOL_WHOLE },
                { "{\n \"name\":\"arguments\",\"arguments\": {\"a\":\"}\\\"{\",\"b\":[{}]}\n}",
                  "arguments", "{\"a\":\"}\\\"{\",\"b\":[{}]}", TOOL_WHOLE },
                { "{\"name\":\"f\",\"arguments\":{\"a\":[1,", "f", "{\"a\":[1,", TOOL_ARGUMENTS },
                { "{\"name\":\"f\",\"argum", "", "", TOOL_HEAD },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
                for (size_t split = 0; split <= strlen(calls[i].text); split++) {
                        struct tool_reader r;
                        struct secure_buf out;

                        read_split(calls[i].text, split, &r, &out);
                        assert_string_equal(out.p, calls[i].out);
                        assert_string_equal(r.name, calls[i].name);
                        assert_int_equal(r.step, calls[i].step);
                        secure_buf_done(&out);
                        tool_reader_done(&r);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_offers),
                cmocka_unit_test(test_no_call), cmocka_unit_test(test_conversation),
                cmocka_unit_test(test_description), cmocka_unit_test(test_reader),
        };

        secure_json_init();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
