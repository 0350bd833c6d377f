/* Small random models built in memory, in every kind of weight the engine knows, with sizes that
 * fit no tile, no group and no page: for tests of the engine that need no file. */
#pragma once

#include "engine/model/model.h"

enum random_model_kind {
        RANDOM_BITNET,   /* t2 rows, sub-norms, ReLU^2, one scale per token, f16 tied head */
        RANDOM_PLANES,   /* three ternary planes with mantissas, four in the tied head; SiLU */
        RANDOM_MIXED,    /* another form for nearly every matrix, rotation of half a head */
        RANDOM_BASE3,    /* the same weights as RANDOM_BITNET, in base 3 */
        RANDOM_FLOAT,    /* no activation is rounded: f32 matrices, SiLU, f16 tied head */
        _RANDOM_MODEL_MAX,
};

struct model *random_model_new(enum random_model_kind kind);
struct model *random_model_free(struct model *m);
