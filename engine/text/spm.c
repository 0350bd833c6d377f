/* SentencePiece-style tokenizing: from characters, merge the neighbours whose joint text is the
 * token of the highest score. There is no pre-tokenizer; a fragment is one row of symbols.
 * Spaces stand for U+2581 on both sides (texts of tokens are kept with spaces), so U+2581 in the
 * text is turned into a space, which is what it is taken for by the original, too. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/merge.h"
#include "engine/text/utf8.h"
#include "engine/text/vocab-internal.h"

static uint32_t by_score(const struct vocab *v, const struct merger *m, uint32_t i, uint32_t j,
                         int32_t *ret_id) {
        size_t n = (size_t)m->size[i] + m->size[j];
        if (n > v->longest)
                return (uint32_t)MERGE_NEVER;
        int32_t id = text_table_find(&v->by_text, &v->texts, m->text.p + i, n);
        if (id == TOKEN_NONE)
                return (uint32_t)MERGE_NEVER;
        *ret_id = id;
        return v->keys[id];
}

static int emit(const struct vocab *v, const struct merger *m, struct sink *sink) {
        int r = 0;
        for (uint32_t i = 0; r == 0 && i < m->n; i += m->size[i]) {
                if (m->id[i] != TOKEN_NONE) {
                        r = sink_push(sink, m->id[i]);
                        continue;
                }
                for (uint32_t k = 0; r == 0 && k < m->size[i]; k++)
                        r = sink_push_byte(sink, v, m->text.p[i + k]);
        }
        return r;
}

static int encode_normal(const struct vocab *v, struct merger *m, struct view text,
                         struct sink *sink) {
        int r = merger_prepare(m, text);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < m->n; i += m->size[i]) {
                uint32_t cp;
                m->size[i] = (uint32_t)utf8_decode(text.p + i, text.n - i, &cp);
                m->id[i] = text_table_find(&v->by_text, &v->texts, text.p + i, m->size[i]);
        }
        merge_run(m, v, by_score);
        return emit(v, m, sink);
}

int spm_encode(const struct vocab *v, struct merger *m, struct view text, bool space_first,
               struct sink *sink) {
        uint8_t *normal = malloc(text.n + 1);
        if (!normal)
                return -ENOMEM;
        size_t n = 0;
        if (space_first)
                normal[n++] = ' ';
        for (size_t i = 0; i < text.n; i++) {
                if (text.n - i >= 3 && memcmp(text.p + i, "\xe2\x96\x81", 3) == 0) {
                        normal[n++] = ' ';
                        i += 2;
                } else {
                        normal[n++] = text.p[i];
                }
        }
        int r = encode_normal(v, m, (struct view){.p = normal, .n = n}, sink);
        explicit_bzero(normal, text.n + 1);
        free(normal);
        return r;
}
