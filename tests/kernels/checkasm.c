/* The frame of checkasm: levels, random numbers, guard pages, comparison, report. Usage:
 *
 *   checkasm [SEED]
 *
 * Without a seed a fresh one is drawn and printed, so that a failure can be replayed. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels/cpu.h"
#include "tests/kernels/checkasm.h"

/* Only for the signal handler: what to print when a kernel touches a guard page. */
static const struct checkasm *running;

uint64_t rng_next(struct checkasm *c) {
        uint64_t z = (c->rng += 0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
}

uint32_t rng_below(struct checkasm *c, uint32_t n) {
        return (uint32_t)((rng_next(c) >> 32) * n >> 32);
}

float rng_float(struct checkasm *c, float magnitude) {
        return (float)((double)(int64_t)rng_next(c) * 0x1p-63) * magnitude;
}

void rng_fill(struct checkasm *c, void *p, size_t n) {
        uint8_t *bytes = p;

        for (size_t i = 0; i < n; i += 8) {
                uint64_t v = rng_next(c);

                memcpy(bytes + i, &v, n - i < 8 ? n - i : 8);
        }
}

void buffer_init(struct buffer *b, size_t size, enum place place) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (size + page - 1) / page * page;
        uint8_t *map;

        if (inner == 0)
                inner = page;
        map = mmap(NULL, inner + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
        if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) < 0 ||
            mprotect(map + page + inner, page, PROT_NONE) < 0) {
                fprintf(stderr, "checkasm: cannot map %zu bytes: %s\n", inner, strerror(errno));
                exit(1);
        }
        memset(map + page, BUFFER_FILL, inner);
        *b = (struct buffer){
                .p = place == PLACE_END ? map + page + inner - size : map + page,
                .size = size,
                .map = map,
                .map_size = inner + 2 * page,
        };
}

void buffer_done(struct buffer *b) {
        munmap(b->map, b->map_size);
}

void check_begin(struct checkasm *c, const char *format, ...) {
        va_list args;

        va_start(args, format);
        vsnprintf(c->what, sizeof(c->what), format, args);
        va_end(args);
}

static uint32_t element(const struct buffer *b, size_t i, size_t elem) {
        uint32_t v = 0;

        memcpy(&v, (const uint8_t *)b->p + i * elem, elem);
        return v;
}

void check_equal(struct checkasm *c, const struct buffer *expected, const struct buffer *got,
                 size_t elem) {
        c->compared++;
        if (memcmp(expected->p, got->p, expected->size) == 0)
                return;
        c->failed++;
        for (size_t i = 0; i < expected->size / elem; i++) {
                uint32_t e = element(expected, i, elem), g = element(got, i, elem);
                float ef, gf;

                if (e == g)
                        continue;
                memcpy(&ef, &e, sizeof(ef));
                memcpy(&gf, &g, sizeof(gf));
                fprintf(stderr, "%s %s: element %zu of %zu: expected %#x (%g), got %#x (%g)\n",
                        c->level, c->what, i, expected->size / elem, e, (double)ef, g, (double)gf);
                break;
        }
        if (c->failed >= 20) {
                fprintf(stderr, "checkasm: 20 differences, giving up\n");
                exit(1);
        }
}

static void on_fault(int signal) {
        char text[400];
        int n = snprintf(text, sizeof(text), "%s %s: signal %d\n", running->level, running->what,
                         signal);

        if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
                _exit(3);
        _exit(2);
}

/* Check one level against C; `seed` makes its data. */
static void check_level(struct checkasm *c, unsigned flags, uint64_t seed) {
        struct kernel_ops new;

        kernel_ops_init(&new, flags);
        c->new = &new;
        c->level = cpu_level_name(flags);
        c->rng = seed;
        check_known(c);
        if (flags == 0)
                return;
        check_matmul_q(c);
        check_matmul_float(c);
        check_vectors(c);
        check_attention(c);
}

int main(int argc, char **argv) {
        static const char *const names[] = { "c", "avx2", "avxvnni", "avx512vl", "avx512vnni",
                                             "avx512vbmi" };
        uint64_t seed = argc > 1 ? (uint64_t)strtoull(argv[1], NULL, 0)
                                 : (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
        struct kernel_ops ref, old;
        struct checkasm c = { .ref = &ref, .old = &old };
        unsigned levels = 0, last = 0;
        char tested[100] = "";

        running = &c;
        signal(SIGSEGV, on_fault);
        signal(SIGBUS, on_fault);
        signal(SIGILL, on_fault);
        kernel_ops_init(&ref, 0);
        old = ref;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                unsigned mask, flags;

                if (cpu_mask_parse(names[i], &mask) < 0) {
                        fprintf(stderr, "checkasm: unknown level %s\n", names[i]);
                        return 1;
                }
                flags = cpu_flags(mask);
                if (i > 0 && flags == last)
                        continue; /* this machine lacks it */
                check_level(&c, flags, seed);
                kernel_ops_init(&old, flags);
                strncat(tested, " ", sizeof(tested) - strlen(tested) - 1);
                strncat(tested, c.level, sizeof(tested) - strlen(tested) - 1);
                last = flags;
                levels++;
        }
        printf("checkasm: seed %llu: %u levels (%s), %llu comparisons, %u differences\n",
               (unsigned long long)seed, levels, tested + 1, (unsigned long long)c.compared,
               c.failed);
        return c.failed > 0;
}
