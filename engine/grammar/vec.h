/* Growing arrays of what a schema says. Schemas are text of users, so whatever memory an array
 * leaves is wiped first. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VEC(type)                                                                                  \
        struct {                                                                                   \
                type *p;                                                                           \
                size_t n, room;                                                                    \
        }

static inline void vec_wipe(void *p, size_t bytes) {
        if (p)
                explicit_bzero(p, bytes);
        free(p);
}

/* Room for one more element. 0 or -ENOMEM. */
static inline int vec_reserve(void **p, size_t n, size_t *room, size_t size) {
        size_t wanted = *room ? *room * 2 : 16;
        void *q;

        if (n < *room)
                return 0;
        q = reallocarray(NULL, wanted, size);
        if (!q)
                return -ENOMEM;
        if (n > 0)
                memcpy(q, *p, n * size);
        vec_wipe(*p, *room * size);
        *p = q;
        *room = wanted;
        return 0;
}

/* 0 or -ENOMEM. */
#define VEC_PUSH(v, ...)                                                                           \
        ({                                                                                         \
                __typeof__(v) _v = (v);                                                            \
                int _r = vec_reserve((void **)&_v->p, _v->n, &_v->room, sizeof(*_v->p));           \
                if (_r >= 0)                                                                       \
                        _v->p[_v->n++] = __VA_ARGS__;                                              \
                _r;                                                                                \
        })

#define VEC_DONE(v)                                                                                \
        do {                                                                                       \
                __typeof__(v) _v = (v);                                                            \
                vec_wipe(_v->p, _v->room * sizeof(*_v->p));                                        \
                _v->p = NULL;                                                                      \
                _v->n = _v->room = 0;                                                              \
        } while (0)
