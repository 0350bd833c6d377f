/* Byte-level BPE: pieces of the pre-tokenizer, each merged from single bytes by merge rank. */

#include "engine/text/merge.h"
#include "engine/text/vocab-internal.h"

static uint32_t by_rank(const struct vocab *v, const struct merger *m, uint32_t i, uint32_t j,
                        int32_t *ret_id) {
        if (m->id[i] == TOKEN_NONE || m->id[j] == TOKEN_NONE)
                return (uint32_t)MERGE_NEVER;
        uint32_t rank = merge_table_find(&v->merges, m->id[i], m->id[j]);
        if (rank != UINT32_MAX)
                *ret_id = v->merges.merges[rank].result;
        return rank;
}

static int encode_piece(const struct vocab *v, struct merger *m, struct view piece,
                        struct sink *sink) {
        if (pretokenizer_whole_pieces(v->pretokenizer)) {
                int32_t id = text_table_find(&v->by_text, &v->texts, piece.p, piece.n);
                if (id != TOKEN_NONE)
                        return sink_push(sink, id);
        }
        int r = merger_prepare(m, piece);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < m->n; i++) {
                m->size[i] = 1;
                m->id[i] = v->bytes[piece.p[i]];
        }
        merge_run(m, v, by_rank);
        for (uint32_t i = 0; r == 0 && i < m->n; i += m->size[i])
                r = m->id[i] == TOKEN_NONE ? sink_push_byte(sink, v, piece.p[i])
                                           : sink_push(sink, m->id[i]);
        return r;
}

int bpe_encode(const struct vocab *v, struct merger *m, struct view text, struct sink *sink) {
        struct pretokens p = pretokens_start(v->pretokenizer, text.p, text.n);
        struct view piece;
        int r = 0;
        while (r == 0 && pretokens_next(&p, &piece))
                r = encode_piece(v, m, piece, sink);
        return r;
}
