/* KV pages: the budget holds, pages come back wiped, and the carving of an arena is aligned. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/run/arena.h"
#include "engine/run/kv.h"

static const struct hparams shape = {.n_layer = 3, .n_head_kv = 2, .head_dim = 16};
enum { N_PAGES = 5, HEADS = 3 * 2 * 2 * KV_PAGE }; /* of K and V in a page */

/* Integers have a float for each head. */
static const size_t page_bytes[] = {
        [KV_S16] = HEADS * (16 * 2 + 4),
        [KV_F16] = HEADS * 16 * 2,
        [KV_S8] = HEADS * (16 + 4),
};

static void check_budget(enum kv_form form, size_t bytes) {
        uint8_t *pages[N_PAGES + 1];
        struct kv_pool kv;

        assert_int_equal(kv_pool_init(&kv, &shape, form, N_PAGES * bytes + bytes - 1), 0);
        assert_int_equal(kv_page_bytes(&kv), bytes);
        assert_int_equal(kv.n_free, N_PAGES);
        assert_int_equal(kv_take(&kv, pages, N_PAGES + 1), -ENOSPC);
        assert_int_equal(kv.n_free, N_PAGES);
        assert_int_equal(kv_take(&kv, pages, N_PAGES), 0);
        assert_int_equal(kv_take(&kv, pages + N_PAGES, 1), -ENOSPC);
        assert_int_equal(kv_take(&kv, NULL, 0), 0);
        for (int i = 0; i < N_PAGES; i++) {
                assert_int_equal((uintptr_t)pages[i] % 64, 0);
                for (int j = 0; j < i; j++)
                        assert_true(pages[i] >= pages[j] + bytes || pages[j] >= pages[i] + bytes);
        }
        kv_give(&kv, pages, N_PAGES, 0);
        assert_int_equal(kv.n_free, N_PAGES);
        kv_pool_done(&kv);
}

static void test_budget(void **state) {
        (void)state;
        for (enum kv_form form = 0; form < _KV_FORM_MAX; form++)
                check_budget(form, page_bytes[form]);
}

static void check_wiped(enum kv_form form, size_t bytes) {
        uint8_t *pages[2], *again[2];
        struct kv_pool kv;

        assert_int_equal(kv_pool_init(&kv, &shape, form, 2 * bytes), 0);
        assert_int_equal(kv_take(&kv, pages, 2), 0);
        memset(pages[0], 0xaa, bytes);
        memset(pages[1], 0xbb, bytes);
        kv_give(&kv, pages, 2, 2);
        assert_int_equal(kv_take(&kv, again, 2), 0);
        for (int i = 0; i < 2; i++)
                for (size_t j = 0; j < bytes; j++)
                        assert_int_equal(again[i][j], 0);
        kv_give(&kv, again, 2, 0);
        kv_pool_done(&kv);
}

static void test_pages_come_back_wiped(void **state) {
        (void)state;
        for (enum kv_form form = 0; form < _KV_FORM_MAX; form++)
                check_wiped(form, page_bytes[form]);
}

static void test_no_budget(void **state) {
        uint8_t *page;
        struct kv_pool kv;

        (void)state;
        assert_int_equal(kv_pool_init(&kv, &shape, KV_S16, page_bytes[KV_S16] - 1), 0);
        assert_int_equal(kv.n_free, 0);
        assert_int_equal(kv_take(&kv, &page, 1), -ENOSPC);
        kv_pool_done(&kv);
}

/* K and V of all layers and heads lie side by side and fill the page. */
static void check_offsets(enum kv_form form) {
        struct kv_pool kv;
        size_t expected = 0;

        assert_int_equal(kv_pool_init(&kv, &shape, form, page_bytes[form]), 0);
        for (uint32_t layer = 0; layer < shape.n_layer; layer++)
                for (uint32_t head = 0; head < shape.n_head_kv; head++) {
                        assert_int_equal(kv_offset(&kv, layer, head), expected);
                        expected += 2 * kv.head_bytes;
                }
        assert_int_equal(expected, kv.page_bytes);
        kv_pool_done(&kv);
}

static void test_offsets(void **state) {
        (void)state;
        for (enum kv_form form = 0; form < _KV_FORM_MAX; form++)
                check_offsets(form);
}

static void test_arena(void **state) {
        struct arena a = {0};
        uint8_t *first, *second;

        (void)state;
        assert_null(arena_take(&a, 3, 7));
        assert_null(arena_take(&a, 1, 100));
        assert_int_equal(a.used, 64 + 128);
        assert_int_equal(arena_map(&a), 0);
        first = arena_take(&a, 3, 7);
        second = arena_take(&a, 1, 100);
        assert_ptr_equal(second, first + 64);
        assert_int_equal(a.used, a.size);
        memset(second, 1, 100);
        arena_done(&a, a.used);
        assert_null(a.base);

        assert_null(arena_take(&a, SIZE_MAX / 2, 4));
        assert_int_equal(arena_map(&a), -ENOMEM);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_budget),  cmocka_unit_test(test_pages_come_back_wiped),
                cmocka_unit_test(test_no_budget), cmocka_unit_test(test_offsets),
                cmocka_unit_test(test_arena),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
