/* Requests of the Responses interface: what becomes of them as a chat, and how refusals name the
 * fields. JSON is written with ' for its quotation marks here. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/responses_request.h"
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

#define CALL(id)                                                                                   \
        "{'type':'function_call','id':'fc','call_id':'" id "','name':'f','arguments':'{}'}"
#define CALLED(id) "{'id':'" id "','type':'function','function':{'name':'f','arguments':'{}'}}"

static const struct {
        const char *given, *chat;
} rows[] = {
        { "{'model':'m','input':'a','max_output_tokens':3,'store':true,'seed':1}",
          "{'model':'m','messages':[{'role':'user','content':'a'}],'max_tokens':3,'seed':1}" },
        { "{'input':'a','n':2,'logit_bias':{'1':2},'json_schema':{}}", /* chats judge these */
          "{'messages':[{'role':'user','content':'a'}],'n':2,'logit_bias':{'1':2},"
          "'json_schema':{}}" },
        { "{'input':[{'type':'message','role':'developer','content':[{'type':'input_text','text':"
          "'a'}]}],'instructions':'b','messages':[],'logprobs':false,'background':false,"
          "'truncation':'disabled'}",
          "{'messages':[{'role':'system','content':'b'},{'role':'developer','content':[{"
          "'type':'text','text':'a'}]}]}" },
        { "{'input':[" CALL("1") "," CALL("2") ",{'type':'function_call_output','call_id':'1',"
          "'output':[{'type':'input_text','text':'x'}]},{'role':'assistant','content':'y'},"
          CALL("3") "]}",
          "{'messages':[{'role':'assistant','content':null,'tool_calls':[" CALLED("1") ","
          CALLED("2") "]},{'role':'tool','tool_call_id':'1','content':[{'type':'text',"
          "'text':'x'}]},"
          "{'role':'assistant','content':'y','tool_calls':[" CALLED("3") "]}]}" },
        { "{'input':'a','tools':[{'type':'function','name':'f','strict':true,'parameters':{}}],"
          "'tool_choice':{'type':'function','name':'f'},'text':{'format':{'type':'json_schema',"
          "'name':'n','schema':{}}},'top_logprobs':2,'include':['reasoning.encrypted_content']}",
          "{'messages':[{'role':'user','content':'a'}],'tools':[{'type':'function','function':{"
          "'name':'f','parameters':{}}}],'tool_choice':{'type':'function','function':{'name':'f'}},"
          "'response_format':{'type':'json_schema','json_schema':{'type':'json_schema','name':'n',"
          "'schema':{}}},'top_logprobs':2,'logprobs':true}" },
};

static void test_translate(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                json_t *given = load(rows[i].given), *chat = load(rows[i].chat);
                struct request_error e = {};
                json_t *made = responses_translate(given, &e);

                if (!made || !json_equal(made, chat))
                        fail_msg("row %zu: %s %s", i, e.param,
                                 made ? json_dumps(made, 0) : "refused");
                json_decref(made);
                json_decref(chat);
                json_decref(given);
        }
}

static const struct {
        const char *given, *param;
} bad[] = {
        { "{}", "input" },
        { "{'input':'a','instructions':1}", "instructions" },
        { "{'input':[1]}", "input[0]" },
        { "{'input':[{'type':7}]}", "input[0]" },
        { "{'input':[{'type':'reasoning'}]}", "input[0].type" },
        { "{'input':[{'role':'user'}]}", "input[0].content" },
        { "{'input':[{'role':'user','content':['a']}]}", "input[0].content[0]" },
        { "{'input':[{'role':'user','content':[{'type':'input_text'}]}]}", "input[0].content[0]" },
        { "{'input':[{'role':'user','content':[{'type':'input_file','file_id':'f'}]}]}",
          "input[0].content[0]" },
        { "{'input':[{'type':'function_call_output','output':'a'}]}", "input[0].call_id" },
        { "{'input':[{'type':'function_call_output','call_id':'a','output':{}}]}",
          "input[0].output" },
        { "{'input':'a','tools':{}}", "tools" },
        { "{'input':'a','tools':['x']}", "tools[0].type" },
        { "{'input':'a','include':'x'}", "include" },
        { "{'input':'a','text':'x'}", "text" },
        { "{'input':'a','metadata':{'a':1}}", "metadata" },
        { "{'input':'a','background':true}", "background" },
        { "{'input':'a','truncation':'auto'}", "truncation" },
        { "{'input':'a','response_format':{'type':'json_object'}}", "response_format" },
        { "{'input':'a','max_tokens':3}", "max_tokens" },
        { "{'input':'a','max_completion_tokens':3}", "max_completion_tokens" },
        { "{'input':'a','logprobs':true}", "logprobs" },
        { "{'input':'a','previous_response_id':'resp_1'}", "previous_response_id" },
};

static void test_refuse(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                json_t *given = load(bad[i].given);
                struct request_error e = {};

                json_t *made = responses_translate(given, &e);

                assert_null(made);
                assert_string_equal(e.param, bad[i].param);
                json_decref(given);
        }
}

/* What comes back with every event is bounded, whether or not the prompt has it. */
static void test_repeated(void **state) {
        static const char *const shapes[][2] = {
                { "{s:s,s:{s:{s:s,s:s}}}", "text.format" }, { "{s:s,s:[{s:s,s:s}]}", "tools" },
        };
        enum { LIMIT = 256 << 10 };
        char *big = malloc(LIMIT + 1);

        memset(big, 'x', LIMIT);
        big[LIMIT] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
                bool text = i == 0;
                json_t *given = text ? json_pack(shapes[i][0], "input", "a", "text", "format",
                                                 "type", "text", "more", big)
                                     : json_pack(shapes[i][0], "input", "a", "tools", "type",
                                                 "function", "more", big);
                struct request_error e = {};

                assert_non_null(given);
                assert_null(responses_translate(given, &e));
                assert_string_equal(e.param, shapes[i][1]);
                assert_int_equal(e.limit, LIMIT);
                assert_true(e.value > LIMIT);
                json_decref(given);
        }
        free(big);
}

static void test_rename(void **state) {
        static const char *const names[][2] = {
                { "response_format.json_schema.schema/items", "text.format.schema/items" },
                { "response_format.type", "text.format.type" },
                { "max_tokens", "max_output_tokens" },
                { "messages", "input" },
                { "tools[3].function.name", "tools[3].name" },
                { "temperature", "temperature" },
                { "", "" },
        };
        struct request_error e = {};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                strcpy(e.param, names[i][0]);
                responses_rename(&e);
                assert_string_equal(e.param, names[i][1]);
        }
        memset(e.param, 'x', sizeof(e.param) - 1);
        memcpy(e.param, "max_tokens", strlen("max_tokens"));
        responses_rename(&e); /* longer than there is room: cut */
        assert_int_equal(strlen(e.param), sizeof(e.param) - 1);
        assert_memory_equal(e.param, "max_output_tokens", strlen("max_output_tokens"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_translate),
                cmocka_unit_test(test_refuse),
                cmocka_unit_test(test_repeated),
                cmocka_unit_test(test_rename),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
