/* One byte further. Readings branch at the beginning of a value, where several arms may begin with
 * the byte, and of a name when names are sorted into classes; everywhere else there is at most one
 * way to go on.
 *
 * White space stands where people and models put it (after { [ , : and before } ]), and is bounded:
 * one space, or a line break and its indentation. So every run of it is followed by something that
 * brings the text closer to its end.
 *
 * The same invariant as in lexeme.c: whatever is let through can be brought to an end within the
 * levels that are left. A comma passes only when a member or item may follow, a brace only when
 * nothing is missing. */
#include "engine/grammar/reading.h"

enum { SPACE_NONE, SPACE_FULL, SPACE_LINE };

static size_t size_of(const struct reading *r) {
        return offsetof(struct reading, frames) + r->depth * sizeof(r->frames[0]);
}

static void copy_reading(struct reading *to, const struct reading *from) {
        memcpy(to, from, size_of(from));
}

static bool frame_equal(const struct frame *a, const struct frame *b) {
        return a->rule == b->rule && a->array == b->array && a->at == b->at &&
               a->members == b->members && a->used == b->used;
}

bool reading_equal(const struct reading *a, const struct reading *b) {
        if (a->phase != b->phase || a->space != b->space || a->depth != b->depth ||
            a->node != b->node || a->name != b->name ||
            memcmp(&a->lexeme, &b->lexeme, sizeof(a->lexeme)) != 0)
                return false;
        for (uint32_t i = 0; i < a->depth; i++)
                if (!frame_equal(&a->frames[i], &b->frames[i]))
                        return false;
        return true;
}

/* A copy of the reading at the end of the list; valid until the next one. */
static struct reading *add(struct readings *r, const struct reading *from) {
        if (vec_reserve((void **)&r->list.p, r->list.n, &r->list.room, sizeof(*r->list.p)) < 0)
                return NULL;
        copy_reading(&r->list.p[r->list.n], from);
        return &r->list.p[r->list.n++];
}

int readings_add(struct readings *r, const struct reading *from) {
        return add(r, from) ? 0 : -ENOMEM;
}

int readings_begin(struct readings *r, const struct grammar *g) {
        struct reading first = { .phase = PHASE_VALUE, .space = SPACE_FULL, .node = g->root };

        return add(r, &first) ? 0 : -ENOMEM;
}

void readings_done(struct readings *r) {
        VEC_DONE(&r->list);
}

/* --- objects and arrays --- */

static uint32_t room_left(const struct reading *r) {
        return GRAMMAR_DEPTH - r->depth;
}

static uint32_t item_node(const struct grammar *g, const struct frame *f) {
        const struct array_rule *a = &g->arrays.p[f->rule];

        if (f->at >= a->max)
                return GRAMMAR_NONE;
        return f->at < a->n ? g->items.p[a->first + f->at] : a->others;
}

static bool item_possible(const struct grammar *g, const struct reading *r) {
        uint32_t node = item_node(g, &r->frames[r->depth - 1]);

        return node != GRAMMAR_NONE && g->nodes.p[node].height <= room_left(r);
}

static struct member_place place_of(const struct reading *r) {
        const struct frame *f = &r->frames[r->depth - 1];

        return (struct member_place){ .rule = f->rule, .at = f->at, .members = f->members,
                                      .room = room_left(r) };
}

/* Does the name that is being read end, or can it, as one that its object does not have yet? */
static bool name_possible(const struct grammar *g, struct names *names, const struct reading *r,
                          const struct lexeme *l) {
        return names_possible(names, g, r->frames[r->depth - 1].used, r->name, l);
}

/* A name that begins behind the text, in one of the ways of lexeme_begin_name. */
static bool name_begins(const struct grammar *g, struct names *names, const struct reading *r,
                        uint32_t way, struct lexeme *ret, uint32_t *ret_ways) {
        struct member_place place = place_of(r);

        return lexeme_begin_name(g, &place, way, ret, ret_ways) &&
               names_possible(names, g, r->frames[r->depth - 1].used, (uint32_t)names->text.n, ret);
}

static bool member_possible(const struct grammar *g, struct names *names,
                            const struct reading *r) {
        struct lexeme l;
        uint32_t ways = 1;

        for (uint32_t way = 0; way < ways; way++)
                if (name_begins(g, names, r, way, &l, &ways))
                        return true;
        return false;
}

static bool more_possible(const struct grammar *g, struct names *names, const struct reading *r) {
        return r->frames[r->depth - 1].array ? item_possible(g, r) : member_possible(g, names, r);
}

static bool is_complete(const struct grammar *g, const struct frame *f) {
        return f->array ? f->at >= g->arrays.p[f->rule].min
                        : lexeme_object_whole(g, f->rule, f->at, f->members);
}

/* Counts go on only as far as they make a difference, so that long arrays have few states. */
static uint32_t saturate(uint32_t count, uint32_t min, uint32_t max, uint32_t n) {
        uint32_t most = MAX(MAX(min, n), max == GRAMMAR_NONE ? 0 : max);

        return MIN(count, most);
}

static void count_item(const struct grammar *g, struct frame *f) {
        const struct array_rule *a = &g->arrays.p[f->rule];

        f->at = saturate(f->at + 1, a->min, a->max, a->n);
}

static void value_ended(struct reading *r) {
        r->phase = r->depth == 0 ? PHASE_DONE : PHASE_NEXT;
        r->space = r->depth == 0 ? SPACE_FULL : SPACE_NONE;
        r->node = 0;
        r->lexeme = (struct lexeme){ 0 };
}

int reading_leave_name(const struct grammar *g, struct names *names, struct reading *r,
                       uint32_t property) {
        struct frame *f = &r->frames[r->depth - 1];
        const struct object_rule *o = &g->objects.p[f->rule];
        int error = property == GRAMMAR_NONE ? names_add(names, f->used, r->name, &f->used) : 0;

        r->node = property == GRAMMAR_NONE ? g->classes.p[r->lexeme.class].value
                                           : g->properties.p[property].value;
        f->at = property == GRAMMAR_NONE ? o->n : property - o->first + 1;
        f->members = saturate(f->members + 1, o->min, o->max, 0);
        r->phase = PHASE_COLON;
        r->name = 0;
        r->lexeme = (struct lexeme){ 0 };
        return error;
}

int reading_leave(const struct grammar *g, struct names *names, struct reading *r) {
        if (r->phase == PHASE_NAME)
                return reading_leave_name(g, names, r, lexeme_property(g, &r->lexeme));
        value_ended(r);
        return 0;
}

/* --- steps --- */

static enum phase text_phase(uint8_t byte) {
        return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r' ? PHASE_TEXT_BEGINS
                                                                          : PHASE_TEXT;
}

static int begin_value(struct readings *out, const struct grammar *g, const struct reading *from,
                       uint32_t node, uint8_t byte) {
        struct reading *r;
        struct lexeme l;

        for (uint32_t i = g->nodes.p[node].first; i != GRAMMAR_NONE; i = g->arms.p[i].next) {
                const struct arm *arm = &g->arms.p[i];
                bool array = arm->kind == ARM_ARRAY;
                bool compound = array || arm->kind == ARM_OBJECT, text = arm->kind == ARM_TEXT;

                if (arm->height == GRAMMAR_NONE || arm->height > room_left(from))
                        continue;
                if (text ? byte == '{'
                         : compound ? byte != (array ? '[' : '{')
                                    : !lexeme_begin(g, arm, byte, &l))
                        continue;
                r = add(out, from);
                if (!r)
                        return -ENOMEM;
                r->node = 0;
                r->space = SPACE_NONE;
                r->phase = PHASE_INSIDE;
                if (text) {
                        r->phase = (uint8_t)text_phase(byte);
                } else if (compound) {
                        r->phase = PHASE_FIRST;
                        r->frames[r->depth++] = (struct frame){ .rule = arm->index,
                                                                .array = array };
                } else {
                        r->lexeme = l;
                }
        }
        return 0;
}

/* After a member or item the space belongs to the bracket, which must be possible then. */
static bool space_possible(const struct grammar *g, const struct reading *r) {
        if (r->phase == PHASE_NEXT)
                return is_complete(g, &r->frames[r->depth - 1]);
        return r->phase == PHASE_MEMBER || r->phase == PHASE_FIRST || r->phase == PHASE_COMMA;
}

/* White space where it may be. False: the byte is none, or may not stand there. */
static bool take_space(const struct grammar *g, struct reading *r, uint8_t byte) {
        bool lines = r->phase != PHASE_MEMBER;

        if ((byte != ' ' && byte != '\n') || !space_possible(g, r))
                return false;
        if (r->space == SPACE_NONE && (byte == ' ' || (byte == '\n' && lines))) {
                r->space = byte == ' ' ? SPACE_FULL : SPACE_LINE;
                return true;
        }
        if (r->space >= SPACE_LINE && r->space < SPACE_LINE + READING_INDENT_MAX && byte == ' ') {
                r->space++;
                return true;
        }
        return false;
}

static int begin_name(struct readings *out, const struct grammar *g, const struct reading *from) {
        uint32_t ways = 1;
        struct lexeme l;

        for (uint32_t way = 0; way < ways; way++) {
                struct reading *r;

                if (!name_begins(g, out->names, from, way, &l, &ways))
                        continue;
                r = add(out, from);
                if (!r)
                        return -ENOMEM;
                r->phase = PHASE_NAME;
                r->space = SPACE_NONE;
                r->name = (uint32_t)out->names->text.n;
                r->lexeme = l;
        }
        return 0;
}

/* After { [ or a comma: a member, an item, or the end. */
static int step_first(struct readings *out, const struct grammar *g, const struct reading *from,
                      uint8_t byte) {
        const struct frame *f = &from->frames[from->depth - 1];
        bool closes = byte == (f->array ? ']' : '}');
        struct reading *r;

        if (closes) {
                if (from->phase == PHASE_COMMA || !is_complete(g, f))
                        return 0;
                r = add(out, from);
                if (!r)
                        return -ENOMEM;
                r->depth--;
                value_ended(r);
                return 0;
        }
        if (f->array) {
                struct reading item;

                if (!item_possible(g, from))
                        return 0;
                copy_reading(&item, from);
                count_item(g, &item.frames[item.depth - 1]);
                return begin_value(out, g, &item, item_node(g, f), byte);
        }
        return byte == '"' ? begin_name(out, g, from) : 0;
}

static int step_next(struct readings *out, const struct grammar *g, const struct reading *from,
                     uint8_t byte) {
        struct reading *r;

        if (byte == ']' || byte == '}')
                return step_first(out, g, from, byte);
        if (byte != ',' || from->space != SPACE_NONE)
                return 0;
        if (!more_possible(g, out->names, from))
                return 0;
        r = add(out, from);
        if (!r)
                return -ENOMEM;
        r->phase = PHASE_COMMA;
        r->space = SPACE_NONE;
        return 0;
}

/* A lexeme goes on, or it is whole and the byte belongs to what follows. */
static int step_inside(struct readings *out, const struct grammar *g, const struct reading *from,
                       uint8_t byte) {
        struct lexeme l = from->lexeme;
        struct reading left, *r;
        int error;

        if (lexeme_step(g, &l, byte)) {
                if (from->phase == PHASE_NAME && !name_possible(g, out->names, from, &l))
                        return 0;
                r = add(out, from);
                if (!r)
                        return -ENOMEM;
                r->lexeme = l;
                return 0;
        }
        if (!lexeme_whole(g, &from->lexeme))
                return 0;
        copy_reading(&left, from);
        error = reading_leave(g, out->names, &left);
        return error < 0 ? error : reading_step(out, g, &left, byte);
}

static int step_to(struct readings *out, const struct reading *from, enum phase phase) {
        struct reading *r = add(out, from);

        if (!r)
                return -ENOMEM;
        r->phase = (uint8_t)phase;
        r->space = SPACE_NONE;
        return 0;
}

int reading_step(struct readings *out, const struct grammar *g, const struct reading *from,
                 uint8_t byte) {
        struct reading copy; /* the list may move while it grows */

        copy_reading(&copy, from);
        from = &copy;
        if (take_space(g, &copy, byte))
                return add(out, &copy) ? 0 : -ENOMEM;
        switch ((enum phase)from->phase) {
        case PHASE_VALUE:
        case PHASE_MEMBER:
                return begin_value(out, g, from, from->node, byte);
        case PHASE_INSIDE:
        case PHASE_NAME:
                return step_inside(out, g, from, byte);
        case PHASE_COLON:
                return byte == ':' ? step_to(out, from, PHASE_MEMBER) : 0;
        case PHASE_FIRST:
        case PHASE_COMMA:
                return step_first(out, g, from, byte);
        case PHASE_NEXT:
                return step_next(out, g, from, byte);
        case PHASE_TEXT_BEGINS:
                return byte == '{' ? 0 : step_to(out, from, text_phase(byte));
        case PHASE_TEXT:
                return step_to(out, from, PHASE_TEXT);
        case PHASE_DONE:
                break;
        }
        return 0;
}

bool reading_whole(const struct grammar *g, const struct reading *r) {
        if (r->phase == PHASE_INSIDE)
                return r->depth == 0 && lexeme_whole(g, &r->lexeme);
        return r->phase == PHASE_DONE || r->phase == PHASE_TEXT || r->phase == PHASE_TEXT_BEGINS;
}

bool reading_extends(const struct grammar *g, const struct reading *r) {
        if (r->phase == PHASE_INSIDE && r->depth == 0 && lexeme_whole(g, &r->lexeme))
                return r->lexeme.kind == LEXEME_LITERAL &&
                       g->dfa.states.p[r->lexeme.state].n > 0;
        return r->phase != PHASE_DONE;
}
