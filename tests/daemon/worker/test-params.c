/* Requests as JSON: which fields are honoured, which are refused by which name and code. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/messages.h"
#include "daemon/worker/params.h"
#include "engine/base/macro.h"

static const struct {
        const char *json;
        enum error_code code;
        const char *param;
} rows[] = {
        { "{}", ERROR_NONE, "" },
        { "{\"temperature\":0.7,\"top_p\":1,\"min_p\":0.05,\"top_k\":40,\"seed\":-1}",
          ERROR_NONE, "" },
        { "{\"n\":1,\"tools\":[],\"logit_bias\":{},\"logprobs\":false,\"top_logprobs\":0}",
          ERROR_NONE,
          "" },
        { "{\"user\":\"u\",\"metadata\":{\"a\":1},\"store\":true,\"service_tier\":\"auto\","
          "\"parallel_tool_calls\":true,\"reasoning_effort\":\"low\",\"unknown\":[1]}",
          ERROR_NONE, "" },
        { "{\"response_format\":{\"type\":\"text\"},\"tool_choice\":\"auto\",\"temperature\":null}",
          ERROR_NONE, "" },
        { "{\"modalities\":[\"text\"]}", ERROR_NONE, "" },
        { "{\"dry_multiplier\":0,\"dry_base\":1,\"dry_allowed_length\":31}", ERROR_NONE, "" },
        { "{\"stop\":\"x\"}", ERROR_NONE, "" },
        { "{\"stop\":[\"1\",\"2\",\"3\",\"4\"]}", ERROR_NONE, "" },
        { "{\"bn\":{\"priority\":\"background\",\"deadline_ms\":5000}}", ERROR_NONE, "" },
        /* out of range or of the wrong type */
        { "{\"temperature\":2.1}", ERROR_INVALID_INPUT, "temperature" },
        { "{\"temperature\":-0.1}", ERROR_INVALID_INPUT, "temperature" },
        { "{\"temperature\":\"hot\"}", ERROR_INVALID_INPUT, "temperature" },
        { "{\"top_p\":1.5}", ERROR_INVALID_INPUT, "top_p" },
        { "{\"top_p\":1e300}", ERROR_INVALID_INPUT, "top_p" },
        { "{\"seed\":0.5}", ERROR_INVALID_INPUT, "seed" },
        { "{\"dry_multiplier\":-1}", ERROR_INVALID_INPUT, "dry_multiplier" },
        { "{\"dry_multiplier\":11}", ERROR_INVALID_INPUT, "dry_multiplier" },
        { "{\"dry_base\":0.5}", ERROR_INVALID_INPUT, "dry_base" },
        { "{\"dry_base\":4.5}", ERROR_INVALID_INPUT, "dry_base" },
        { "{\"dry_allowed_length\":1.5}", ERROR_INVALID_INPUT, "dry_allowed_length" },
        { "{\"dry_allowed_length\":32}", ERROR_INVALID_INPUT, "dry_allowed_length" },
        { "{\"top_k\":1.5}", ERROR_INVALID_INPUT, "top_k" },
        { "{\"max_tokens\":0}", ERROR_INVALID_INPUT, "max_tokens" },
        { "{\"max_tokens\":-5}", ERROR_INVALID_INPUT, "max_tokens" },
        { "{\"max_completion_tokens\":1e3}", ERROR_INVALID_INPUT, "max_completion_tokens" },
        { "{\"repeat_penalty\":0}", ERROR_INVALID_INPUT, "repeat_penalty" },
        { "{\"stream\":1}", ERROR_INVALID_INPUT, "stream" },
        { "{\"stream_options\":true}", ERROR_INVALID_INPUT, "stream_options" },
        { "{\"stream_options\":{\"include_usage\":1}}", ERROR_INVALID_INPUT, "include_usage" },
        { "{\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}", ERROR_INVALID_INPUT, "stop" },
        { "{\"stop\":\"\"}", ERROR_INVALID_INPUT, "stop" },
        { "{\"stop\":[1]}", ERROR_INVALID_INPUT, "stop" },
        { "{\"bn\":{\"priority\":\"first\"}}", ERROR_INVALID_INPUT, "bn.priority" },
        { "{\"bn\":{\"on_overflow\":\"error\"}}", ERROR_NONE, "" },
        { "{\"bn\":{\"on_overflow\":\"head\"}}", ERROR_UNSUPPORTED, "bn.on_overflow" },
        { "{\"bn\":{\"receipt\":true}}", ERROR_NONE, "" },
        { "{\"bn\":{\"receipt\":1}}", ERROR_INVALID_INPUT, "bn.receipt" },
        { "{\"bn\":{\"deadline_ms\":0}}", ERROR_INVALID_INPUT, "bn.deadline_ms" },
        /* silence would change the meaning */
        { "{\"n\":2}", ERROR_UNSUPPORTED, "n" },
        { "{\"n\":\"2\"}", ERROR_UNSUPPORTED, "n" },
        { "{\"best_of\":3}", ERROR_UNSUPPORTED, "best_of" },
        { "{\"tools\":[{\"type\":\"function\"}]}", ERROR_INVALID_INPUT, "tools[0].function.name" },
        { "{\"tool_choice\":\"required\"}", ERROR_INVALID_INPUT, "tool_choice" },
        { "{\"functions\":[{}]}", ERROR_UNSUPPORTED, "functions" },
        { "{\"response_format\":{\"type\":\"json_object\"}}", 0, "" },
        { "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}}", 0,
          "" },
        { "{\"json_schema\":{\"type\":\"integer\"}}", 0, "" },
        { "{\"json-schema\":true}", 0, "" },
        { "{\"response_format\":{\"type\":\"xml\"}}", ERROR_INVALID_INPUT,
          "response_format.type" },
        { "{\"response_format\":\"json_object\"}", ERROR_INVALID_INPUT, "response_format.type" },
        { "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}}",
          ERROR_INVALID_INPUT, "response_format.json_schema" },
        { "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"items\":{"
          "\"contains\":1}}}}}", ERROR_UNSUPPORTED,
          "response_format.json_schema.schema/items/contains" },
        { "{\"response_format\":{\"type\":\"json_object\"},\"json_schema\":{}}",
          ERROR_INVALID_INPUT, "json_schema" },
        { "{\"logit_bias\":{\"5\":-100}}", ERROR_UNSUPPORTED, "logit_bias" },
        { "{\"logprobs\":\"yes\"}", ERROR_INVALID_INPUT, "logprobs" },
        { "{\"logprobs\":21}", ERROR_INVALID_INPUT, "logprobs" },
        { "{\"logprobs\":-1}", ERROR_INVALID_INPUT, "logprobs" },
        { "{\"top_logprobs\":2}", ERROR_INVALID_INPUT, "top_logprobs" },
        { "{\"logprobs\":false,\"top_logprobs\":1}", ERROR_INVALID_INPUT, "top_logprobs" },
        { "{\"logprobs\":true,\"top_logprobs\":21}", ERROR_INVALID_INPUT, "top_logprobs" },
        { "{\"logprobs\":true,\"top_logprobs\":1.5}", ERROR_INVALID_INPUT, "top_logprobs" },
        { "{\"echo\":true}", ERROR_UNSUPPORTED, "echo" },
        { "{\"suffix\":\"x\"}", ERROR_UNSUPPORTED, "suffix" },
        { "{\"grammar\":\"root ::= x\"}", ERROR_UNSUPPORTED, "grammar" },
        { "{\"modalities\":[\"text\",\"audio\"]}", ERROR_UNSUPPORTED, "modalities" },
};

static void test_rows(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct gen_params p = { .sampling = SAMPLING_GREEDY };
                struct request_error e = {};
                json_t *root = params_load(rows[i].json, strlen(rows[i].json), &e);
                int r;

                assert_non_null(root);
                r = params_parse(root, &p, &e);
                if (r != (rows[i].code ? -EBADMSG : 0))
                        print_message("%s\n", rows[i].json);
                assert_int_equal(r, rows[i].code ? -EBADMSG : 0);
                assert_int_equal(e.code, rows[i].code);
                assert_string_equal(e.param, rows[i].param);
                params_done(&p);
                json_decref(root);
        }
}

static void test_values(void **state) {
        static const char json[] = "{\"temperature\":0.5,\"top_k\":7,\"max_tokens\":11,"
                                   "\"stop\":[\"a\",\"bc\"],\"stream\":true,"
                                   "\"stream_options\":{\"include_usage\":true},"
                                   "\"seed\":-9223372036854775807,\"frequency_penalty\":-1,"
                                   "\"bn\":{\"priority\":\"background\",\"deadline_ms\":3}}";
        struct gen_params p = { .sampling = SAMPLING_GREEDY };
        struct request_error e;
        json_t *root = params_load(json, strlen(json), &e);

        assert_int_equal(params_parse(root, &p, &e), 0);
        assert_true(p.sampling.temperature == 0.5F);
        assert_true(p.sampling.top_p == 1);
        assert_true(p.sampling.frequency_penalty == -1);
        assert_int_equal(p.sampling.top_k, 7);
        assert_true(p.sampling.seed == UINT64_C(0x8000000000000001));
        assert_int_equal(p.max_tokens, 11);
        assert_int_equal(p.stops.n, 2);
        assert_string_equal(p.stops.strings[1], "bc");
        assert_true(p.stream && p.include_usage);
        assert_int_equal(p.priority, WIRE_PRIORITY_BACKGROUND);
        assert_int_equal(p.deadline_usec, 3000);
        params_done(&p);
        json_decref(root);
}

/* What reaches the sampler. */
static void test_sampling(void **state) {
        static const char json[] = "{\"top_p\":0,\"dry_multiplier\":1.5,\"dry_base\":2,"
                                   "\"dry_allowed_length\":3}";
        struct gen_params p = { .sampling = SAMPLING_GREEDY };
        struct request_error e;
        json_t *root = params_load(json, strlen(json), &e);

        assert_int_equal(params_parse(root, &p, &e), 0);
        assert_true(p.sampling.top_p > 0 && p.sampling.top_p < 1e-30F);
        assert_true(p.sampling.dry_multiplier == 1.5F && p.sampling.dry_base == 2);
        assert_int_equal(p.sampling.dry_allowed_length, 3);
        params_done(&p);
        json_decref(root);
}

/* The message names the range; a number is added where it is not cut. */
static void test_range(void **state) {
        static const struct {
                const char *json, *detail;
                uint64_t value, limit;
        } bad[] = { { "{\"temperature\":2.5}", "The number must be 0 to 2.", 0, 0 },
                    { "{\"repeat_penalty\":9}", "The number must be 0.5 to 2.", 0, 0 },
                    { "{\"top_k\":1000001}", "The number must be 0 to 1000000.", 1000001,
                      1000000 },
                    { "{\"top_k\":-1}", "The number must be 0 to 1000000.", 0, 0 } };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct gen_params p = { .sampling = SAMPLING_GREEDY };
                struct request_error e;
                json_t *root = params_load(bad[i].json, strlen(bad[i].json), &e);

                assert_int_equal(params_parse(root, &p, &e), -EBADMSG);
                assert_string_equal(e.detail, bad[i].detail);
                assert_int_equal(e.value, bad[i].value);
                assert_int_equal(e.limit, bad[i].limit);
                json_decref(root);
        }
}

static void test_load(void **state) {
        static const struct {
                const char *json;
                uint64_t position;
        } bad[] = { { "", 0 }, { "[]", 0 }, { "\"x\"", 0 }, { "{\"a\":}", 6 }, { "{} x", 4 },
                    { "{\"a\":\"\xff\"}", 6 }, { "{\"a\":\"\\u0000\"}", 0 },
                    { "{\"a\":1e999}", 0 } };
        struct request_error e;
        char *large;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_null(params_load(bad[i].json, strlen(bad[i].json), &e));
                assert_int_equal(e.code, ERROR_INVALID_INPUT);
                if (bad[i].position)
                        assert_int_equal(e.value, bad[i].position);
        }
        large = malloc(2 * JSON_VALUES_MAX + 3);
        memset(large, '[', 2 * JSON_VALUES_MAX);
        assert_null(params_load(large, 2 * JSON_VALUES_MAX, &e));
        assert_int_equal(e.limit, JSON_VALUES_MAX);
        free(large);
}

static void test_model(void **state) {
        static const struct {
                const char *json, *name;
                enum error_code code;
        } models[] = { { "{}", "", ERROR_NONE },
                       { "{\"model\":null}", "", ERROR_NONE },
                       { "{\"model\":\"default\"}", "", ERROR_NONE },
                       { "{\"model\":\"a-b.c\"}", "a-b.c", ERROR_NONE },
                       { "{\"model\":5}", "", ERROR_INVALID_INPUT },
                       { "{\"model\":\"../x\"}", "", ERROR_MODEL_NOT_FOUND } };
        char name[WIRE_NAME_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
                struct request_error e = {};
                json_t *root = params_load(models[i].json, strlen(models[i].json), &e);

                params_model(root, name, &e);
                assert_int_equal(e.code, models[i].code);
                assert_string_equal(name, models[i].name);
                json_decref(root);
        }
}

static const struct {
        const char *json;
        enum error_code code;
        const char *param;
} message_rows[] = {
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}", ERROR_NONE, "" },
        { "{\"messages\":[{\"role\":\"developer\",\"content\":\"a\"},{\"role\":\"assistant\","
          "\"content\":[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"text\",\"text\":\"c\"}]}]}",
          ERROR_NONE, "" },
        { "{}", ERROR_INVALID_INPUT, "messages" },
        { "{\"messages\":[]}", ERROR_INVALID_INPUT, "messages" },
        { "{\"messages\":[3]}", ERROR_INVALID_INPUT, "messages[0]" },
        { "{\"messages\":[{\"content\":\"hi\"}]}", ERROR_INVALID_INPUT, "messages[0].role" },
        { "{\"messages\":[{\"role\":\"boss\",\"content\":\"hi\"}]}", ERROR_INVALID_INPUT,
          "messages[0].role" },
        { "{\"messages\":[{\"role\":\"tool\",\"content\":\"hi\"}]}", ERROR_NONE, "" },
        { "{\"messages\":[{\"role\":\"function\",\"content\":\"hi\"}]}", ERROR_UNSUPPORTED,
          "messages[0].role" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\"}]}",
          ERROR_INVALID_INPUT, "messages[1].content" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
          ERROR_UNSUPPORTED, "messages[0].content" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
          ERROR_INVALID_INPUT,
          "messages[0].content" },
        { "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{}]}]}",
          ERROR_INVALID_INPUT, "messages[0].tool_calls" },
        { "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]}",
          ERROR_INVALID_INPUT, "messages[0].content" },
};

static void test_messages(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(message_rows); i++) {
                struct request_error e = {};
                struct messages m = {};
                json_t *root = params_load(message_rows[i].json, strlen(message_rows[i].json), &e);

                messages_parse(root, NULL, &m, &e);
                assert_int_equal(e.code, message_rows[i].code);
                assert_string_equal(e.param, message_rows[i].param);
                if (i == 1) {
                        assert_int_equal(m.items[0].role, CHAT_SYSTEM);
                        assert_int_equal(m.items[1].n, 2);
                        assert_memory_equal(m.items[1].content, "bc", 2);
                }
                messages_done(&m);
                json_decref(root);
        }
}

static void test_utf8(void **state) {
        assert_int_equal(text_valid_prefix("abc", 3), 3);
        assert_int_equal(text_valid_prefix("a\xc3\xa4", 3), 3);
        assert_int_equal(text_valid_prefix("a\xc3", 2), 1);
        assert_int_equal(text_valid_prefix("ab\xff" "c", 4), 2);
        assert_int_equal(text_valid_prefix("\xed\xa0\x80", 3), 0);
}

/* Ollama's times: microseconds, or BAD. */
#define BAD UINT64_C(1)
static void test_keep(void **state) {
        static const struct {
                const char *json;
                uint64_t usec;
        } keeps[] = {
                { "0", 0 }, { "300", 300000000 }, { "1.5", 1500000 }, { "-1", UINT64_MAX },
                { "1e300", UINT64_MAX }, { "\"5m\"", 300000000 }, { "\"0s\"", 0 },
                { "\"1h30m\"", 5400000000 }, { "\"1.5h\"", 5400000000 }, { "\"+2s\"", 2000000 },
                { "\"250ms\"", 250000 }, { "\"7us\"", 7 }, { "\"2000ns\"", 2 },
                { "\"90\"", 90000000 }, { "\"-1\"", UINT64_MAX }, { "\"-5m\"", UINT64_MAX },
                { "\".5s\"", 500000 }, { "\"99999999999h\"", UINT64_MAX },
                { "\"\"", BAD }, { "\"-\"", BAD }, { "\".s\"", BAD }, { "\"s\"", BAD },
                { "\"5 m\"", BAD }, { "\"5M\"", BAD }, { "\"5m3\"", 303000000 },
                { "\"5mm\"", BAD }, { "\"5--m\"", BAD }, { "\"0x5s\"", BAD }, { "\"infs\"", BAD },
                { "\"1e5s\"", BAD }, { "\"1s1s1s1s1s1s1s1s1s1s1s1s1s1s1s1s1s\"", BAD },
                { "true", BAD }, { "[]", BAD }, { "{}", BAD },
        };

        for (size_t i = 0; i < ARRAY_SIZE(keeps); i++) {
                json_t *v = json_loads(keeps[i].json, JSON_DECODE_ANY, NULL);
                struct request_error e = {};
                struct keep keep = {};
                int r = keep_parse(v, &keep, &e);

                json_decref(v);
                if (keeps[i].usec == BAD ? r != -EBADMSG || e.code != ERROR_INVALID_INPUT
                                         : r != 0 || !keep.given || keep.usec != keeps[i].usec)
                        fail_msg("%s: %d, %llu", keeps[i].json, r, (unsigned long long)keep.usec);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_sampling),
                cmocka_unit_test(test_range),
                cmocka_unit_test(test_load),
                cmocka_unit_test(test_model),
                cmocka_unit_test(test_keep),
                cmocka_unit_test(test_messages),
                cmocka_unit_test(test_utf8),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
