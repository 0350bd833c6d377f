/* What a forward pass has to move and to multiply, counted from the shapes of a packed model. */
#pragma once

#include <stdint.h>

#include "engine/model/model.h"

struct model_cost {
        uint64_t weight_bytes;      /* matrices of all layers and the head: read once a step */
        uint64_t gate_rest_bytes;   /* of these up and down: what zeros of the gate could save */
        uint64_t layer_macs;        /* 8-bit multiply-adds of one token in the layers, */
        uint64_t head_macs;         /* and in the head */
        uint64_t kv_bytes;          /* keys and values of one position, all layers */
};

struct model_cost model_cost(const struct model *m);
