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
enum { PAGE_VALUES = 3 * 2 * 2 * 16 * KV_PAGE, PAGE_BYTES = PAGE_VALUES * 2, N_PAGES = 5 };

static void test_budget(void **state) {
        uint8_t *pages[N_PAGES + 1];
        struct kv_pool kv;

        (void)state;
        assert_int_equal(kv_pool_init(&kv, &shape, KV_F16, N_PAGES * PAGE_BYTES + PAGE_BYTES - 1),
                         0);
        assert_int_equal(kv_page_bytes(&kv), PAGE_BYTES);
        assert_int_equal(kv.n_free, N_PAGES);
        assert_int_equal(kv_take(&kv, pages, N_PAGES + 1), -ENOSPC);
        assert_int_equal(kv.n_free, N_PAGES);
        assert_int_equal(kv_take(&kv, pages, N_PAGES), 0);
        assert_int_equal(kv_take(&kv, pages + N_PAGES, 1), -ENOSPC);
        assert_int_equal(kv_take(&kv, NULL, 0), 0);
        for (int i = 0; i < N_PAGES; i++) {
                assert_int_equal((uintptr_t)pages[i] % 64, 0);
                for (int j = 0; j < i; j++)
                        assert_true(pages[i] >= pages[j] + PAGE_BYTES ||
                                    pages[j] >= pages[i] + PAGE_BYTES);
        }
        kv_give(&kv, pages, N_PAGES, 0);
        assert_int_equal(kv.n_free, N_PAGES);
        kv_pool_done(&kv);
}

static void test_pages_come_back_wiped(void **state) {
        uint8_t *pages[2], *again[2];
        struct kv_pool kv;

        (void)state;
        assert_int_equal(kv_pool_init(&kv, &shape, KV_F16, 2 * PAGE_BYTES), 0);
        assert_int_equal(kv_take(&kv, pages, 2), 0);
        memset(pages[0], 0xaa, PAGE_BYTES);
        memset(pages[1], 0xbb, PAGE_BYTES);
        kv_give(&kv, pages, 2, 2);
        assert_int_equal(kv_take(&kv, again, 2), 0);
        for (int i = 0; i < 2; i++)
                for (int j = 0; j < PAGE_BYTES; j++)
                        assert_int_equal(again[i][j], 0);
        kv_give(&kv, again, 2, 0);
        kv_pool_done(&kv);
}

static void test_no_budget(void **state) {
        uint8_t *page;
        struct kv_pool kv;

        (void)state;
        assert_int_equal(kv_pool_init(&kv, &shape, KV_F16, PAGE_BYTES - 1), 0);
        assert_int_equal(kv.n_free, 0);
        assert_int_equal(kv_take(&kv, &page, 1), -ENOSPC);
        kv_pool_done(&kv);
}

/* K and V of all layers and heads lie side by side and fill the page. */
static void test_offsets(void **state) {
        struct kv_pool kv;
        size_t expected = 0;

        (void)state;
        assert_int_equal(kv_pool_init(&kv, &shape, KV_F16, PAGE_BYTES), 0);
        for (uint32_t layer = 0; layer < shape.n_layer; layer++)
                for (uint32_t head = 0; head < shape.n_head_kv; head++) {
                        assert_int_equal(kv_offset(&kv, layer, head), expected);
                        expected += 2 * kv.head_bytes;
                }
        assert_int_equal(expected, kv.page_bytes);
        kv_pool_done(&kv);
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
