/* Problem: a speed says little without what it is limited by. A decoded token cannot be had without
 * reading every weight (and the keys and values before it) once, nor without its multiply-adds; the
 * benchmarks divide these by what the machine can do. Counts stored bytes, padding of tiles and
 * groups included, because that is what is read. */
#include "tests/tools/model_cost.h"

#include "engine/model/shape.h"
#include "engine/run/engine.h"

static uint64_t matrix_bytes(const struct weight_matrix *w) {
        uint64_t n = 0;

        for (unsigned i = 0; i < MATRIX_PARTS; i++)
                n += matrix_part_bytes(w, w->mins, (enum matrix_part)i);
        return n;
}

static uint64_t matrix_macs(const struct weight_matrix *w) {
        return (uint64_t)w->rows * w->cols * (w->form == WEIGHT_T2 ? w->planes : 1);
}

struct model_cost model_cost(const struct model *m) {
        const struct hparams *hp = &m->hp;
        struct model_cost c = {
                .weight_bytes = matrix_bytes(&m->output),
                .head_macs = matrix_macs(&m->output),
                .kv_bytes = kv_bytes_of(hp, KV_S16, 1),
        };

        for (uint32_t i = 0; i < hp->n_layer; i++) {
                const struct layer *l = &m->layers[i];
                const struct weight_matrix *all[] = {&l->q,    &l->k,  &l->v,   &l->o,
                                                     &l->gate, &l->up, &l->down};

                for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
                        c.weight_bytes += matrix_bytes(all[j]);
                        c.layer_macs += matrix_macs(all[j]);
                }
                c.gate_rest_bytes += matrix_bytes(&l->up) + matrix_bytes(&l->down);
        }
        return c;
}
