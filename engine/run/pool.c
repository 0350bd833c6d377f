/* Threads that run one function together.
 *
 * Problem: a step of a small model takes a millisecond or two and has some two hundred points where
 * all threads must meet, so a meeting has to cost less than a microsecond; yet an idle worker
 * must not burn a core, and more threads than free cores must not turn spinning into a standstill.
 *
 * Every wait is the same: watch one word until it changes, with pauses and offers of the core in
 * turns, then asleep in futex. Waking a sleeper takes some 100 us in a virtual machine, as much as
 * a stage, and then the sleeper is late at the next barrier and the other one sleeps: so a
 * quarter of a millisecond passes before that. The offers are for two of our threads on one core,
 * because another program keeps the other core busy: then every pause is time stolen from the very
 * thread that is waited for, and only a sleep lets the kernel move one of the two.
 *
 * The barrier is a counter of arrivals and a phase word (its "sense"): the last to arrive clears
 * the counter, then changes the phase. A run is a change of the word `run`, and ends in a barrier,
 * so that nobody is still inside fn when pool_run returns.
 *
 * Invariant: outside pool_run all threads of the pool wait on `run` (or are on their way there) and
 * touch neither fn nor ctx. The pool owns its threads; pool_free ends and joins them.
 */
#include "engine/run/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/run/denormals.h"

enum {
        STACK_BYTES = 512 * 1024,
        PAUSES = 128, /* some 3 us, then offer the core to others */
        ROUNDS = 64, /* of that, before asking the kernel to sleep */
        ROUNDS_CROWDED = 20, /* of one pause, with more threads than cores */
        MAX_THREADS = 1024,
        CACHE_LINE = 64,
};

/* A word to wait on, alone in its cache line. */
struct signal_word {
        _Alignas(CACHE_LINE) atomic_uint value;
        atomic_uint sleepers;
};

struct member {
        struct pool *pool;
        pthread_t thread;
        unsigned index;
};

struct pool {
        struct signal_word run;    /* changes when a run starts */
        struct signal_word phase;  /* changes when everybody has come to the barrier */
        _Alignas(CACHE_LINE) atomic_uint arrived;
        _Alignas(CACHE_LINE) void (*fn)(void *ctx, unsigned thread);
        void *ctx;
        bool quit;
        unsigned n_threads, n_started, pauses, rounds;
        struct member *members; /* [n_threads], member 0 is the caller and has no thread */
};

static inline void cpu_pause(void) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb" ::: "memory");
#endif
}

static long futex(atomic_uint *word, int op, unsigned value) {
        return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static bool watch(struct signal_word *w, unsigned old, unsigned pauses) {
        for (unsigned i = 0; i < pauses; i++) {
                if (atomic_load_explicit(&w->value, memory_order_acquire) != old)
                        return true;
                cpu_pause();
        }
        return false;
}

/* Return when the word is no longer `old`. The sleeper announces itself before it looks a last
 * time, and the changer looks for sleepers after the change, all in one total order: one of the
 * two sees the other. */
static void word_wait(struct pool *p, struct signal_word *w, unsigned old) {
        for (unsigned i = 0; i < p->rounds; i++) {
                if (watch(w, old, p->pauses))
                        return;
                sched_yield();
        }
        atomic_fetch_add(&w->sleepers, 1);
        while (atomic_load(&w->value) == old)
                futex(&w->value, FUTEX_WAIT, old);
        atomic_fetch_sub(&w->sleepers, 1);
}

static void word_change(struct signal_word *w) {
        atomic_fetch_add(&w->value, 1);
        if (atomic_load(&w->sleepers) > 0)
                futex(&w->value, FUTEX_WAKE, INT_MAX);
}

void pool_barrier(struct pool *p) {
        unsigned phase = atomic_load_explicit(&p->phase.value, memory_order_relaxed);

        if (p->n_threads == 1)
                return;
        if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 < p->n_threads) {
                word_wait(p, &p->phase, phase);
                return;
        }
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        word_change(&p->phase);
}

static void *member_main(void *arg) {
        struct member *m = arg;
        struct pool *p = m->pool;

        denormals_off();
        for (unsigned seen = 0;; seen++) {
                word_wait(p, &p->run, seen);
                if (p->quit)
                        return NULL;
                p->fn(p->ctx, m->index);
                pool_barrier(p);
        }
}

void pool_run(struct pool *p, void (*fn)(void *ctx, unsigned thread), void *ctx) {
        denormals_state saved = denormals_off();

        p->fn = fn;
        p->ctx = ctx;
        if (p->n_threads > 1)
                word_change(&p->run);
        fn(ctx, 0);
        pool_barrier(p);
        denormals_restore(saved);
}

/* With more threads than cores the one we wait for may need our core: hardly spin at all. */
static bool crowded(unsigned n_threads) {
        cpu_set_t set;

        return sched_getaffinity(0, sizeof(set), &set) < 0 || n_threads > (unsigned)CPU_COUNT(&set);
}

/* Made with every signal blocked, which the threads inherit: signals belong to the main thread. */
static int start_threads(struct pool *p) {
        pthread_attr_t attr;
        sigset_t all, saved;
        int r;

        r = pthread_attr_init(&attr);
        if (r != 0)
                return -r;
        r = pthread_attr_setstacksize(&attr, STACK_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        for (p->n_started = 1; r == 0 && p->n_started < p->n_threads; p->n_started += r == 0) {
                struct member *m = &p->members[p->n_started];

                *m = (struct member){.pool = p, .index = p->n_started};
                r = pthread_create(&m->thread, &attr, member_main, m);
        }
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        pthread_attr_destroy(&attr);
        return -r;
}

static void come_once(void *ctx, unsigned thread) {
        (void)ctx;
        (void)thread;
}

int pool_new(struct pool **ret, unsigned n_threads) {
        struct pool *p;
        int r;

        if (n_threads < 1 || n_threads > MAX_THREADS)
                return -EINVAL;
        p = aligned_alloc(CACHE_LINE, sizeof(*p));
        if (!p)
                return -ENOMEM;
        *p = (struct pool){.n_threads = n_threads, .pauses = PAUSES, .rounds = ROUNDS};
        if (crowded(n_threads)) {
                p->pauses = 1;
                p->rounds = ROUNDS_CROWDED;
        }
        p->members = calloc(n_threads, sizeof(*p->members));
        r = p->members ? start_threads(p) : -ENOMEM;
        if (r < 0) {
                pool_free(p);
                return r;
        }
        /* What a thread does first (registering itself with the kernel) is forbidden once the
         * sandbox is closed: see every one of them running before returning. */
        pool_run(p, come_once, NULL);
        *ret = p;
        return 0;
}

struct pool *pool_free(struct pool *p) {
        if (!p)
                return NULL;
        p->quit = true;
        word_change(&p->run);
        for (unsigned i = 1; i < p->n_started; i++)
                pthread_join(p->members[i].thread, NULL);
        free(p->members);
        free(p);
        return NULL;
}

unsigned pool_threads(const struct pool *p) {
        return p->n_threads;
}
