/* What the model said, and what is streamed of it; fed at once and in small parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/summarize_shape.h"
#include "engine/base/macro.h"

enum {
        TLDR = WIRE_SUMMARY_TLDR, POINTS = WIRE_SUMMARY_KEY_POINTS, HEAD = WIRE_SUMMARY_HEADLINE,
        PLAIN = WIRE_FORMAT_PLAIN, MARKDOWN = WIRE_FORMAT_MARKDOWN,
};

static const struct {
        uint32_t type, format, count;
        const char *in, *out;
        bool done; /* found to be complete before the model ended */
} cases[] = {
        {TLDR, PLAIN, 1, " One sentence. Another one.", "One sentence.", true},
        {TLDR, PLAIN, 1, "One sentence.", "One sentence.", false},
        {TLDR, PLAIN, 1, "One sentence.  \n", "One sentence.", false},
        {TLDR, PLAIN, 1, "We use e.g. trees, as in Smith et al. (2019), v1.5 and F. Bar. Next.",
         "We use e.g. trees, as in Smith et al. (2019), v1.5 and F. Bar.", true},
        {TLDR, PLAIN, 1, "It said \"No!\" and left. It ran.", "It said \"No!\" and left.", true},
        {TLDR, PLAIN, 1, "It said \"No!\" Then it left.", "It said \"No!\"", true},
        {TLDR, PLAIN, 3, "A b. C d? E f! G h.", "A b. C d? E f!", true},
        {TLDR, PLAIN, 3, "A b.\n\n\nC d.", "A b.\n\nC d.", false},
        {TLDR, PLAIN, 1, "In 2019. Then", "In 2019.", true},
        {TLDR, PLAIN, 3, "1. First thing. 2. Second thing. 3. Third. 4. More.",
         "1. First thing. 2. Second thing. 3. Third.", true},
        {TLDR, PLAIN, 1, "The **bold** 2 * 3.", "The bold 2 * 3.", false},
        {TLDR, MARKDOWN, 1, "The **bold** one.", "The **bold** one.", false},
        {TLDR, PLAIN, 1, "\xc3\x84pfel. \xc3\x9c" "ber alles.", "\xc3\x84pfel.", true},
        {TLDR, PLAIN, 1, "", "", false},
        {HEAD, PLAIN, 5, "\"Small Model Writes Long Headline Again and Again\"",
         "Small Model Writes Long Headline", true},
        {HEAD, PLAIN, 12, "Title\nText", "Title", true},
        {HEAD, PLAIN, 12, "\n Dog bites man. The man", "Dog bites man.", true},
        {POINTS, PLAIN, 3, "1. One\n2) Two\n* Three\n- Four", "• One\n• Two\n• Three", true},
        {POINTS, MARKDOWN, 3, "- One thing\n\n- Two things", "- One thing\n- Two things", false},
        {POINTS, MARKDOWN, 3, "One\n10. Ten\nIs", "- One\n- Ten\n- Is", false},
        {POINTS, PLAIN, 3, "• **One** is\n• Two  ", "• One is\n• Two", false},
        {POINTS, PLAIN, 3, "1.5 is a number\n-5 too\n-", "• 1.5 is a number\n• -5 too", false},
};

static void run(size_t i, size_t step) {
        struct shape s = {.type = cases[i].type, .format = cases[i].format,
                          .count = cases[i].count};
        size_t n = strlen(cases[i].in);
        struct secure_buf out = {0};
        bool done = false;

        for (size_t at = 0; at < n; at += step)
                done = shape_feed(&s, cases[i].in + at, MIN(step, n - at), &out);
        assert_int_equal(done, s.done);
        shape_end(&s, &out);
        if (out.n != strlen(cases[i].out) || (out.n > 0 && memcmp(out.p, cases[i].out, out.n) != 0))
                print_error("case %zu, step %zu: \"%.*s\"\n", i, step, (int)out.n, out.p);
        assert_int_equal(out.n, strlen(cases[i].out));
        if (out.n > 0)
                assert_memory_equal(out.p, cases[i].out, out.n);
        assert_int_equal(done, cases[i].done);
        secure_buf_done(&out);
}

static void all_cases(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (size_t step = 1; step < 100; step += step)
                        run(i, step);
}

int main(void) {
        const struct CMUnitTest tests[] = {cmocka_unit_test(all_cases)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
