/* Inside values and names. Strings have two layers: the way characters are written (one escape for
 * each character that needs one, none for the others), and what the string may contain, which sees
 * the characters' bytes. Invariant: after each step that succeeds, some continuation leads to the
 * end; a backslash is let through only when some escaped character could follow.
 *
 * Names of members run through the sorted names of their object: the interval of names that begin
 * with the bytes so far. A name that is none of them belongs to the object's other members, if it
 * has any and all required ones are passed. */
#include "engine/grammar/lexeme.h"

/* --- names --- */

static const struct property *sorted_property(const struct grammar *g, uint32_t i) {
        return &g->properties.p[g->sorted.p[i]];
}

static bool property_fits(const struct grammar *g, const struct property *p, uint32_t room) {
        return p->writable && g->nodes.p[p->value].height <= room;
}

/* What would hold for the members after property `at` - 1. */
struct rest {
        uint32_t required, possible;
};

static struct rest count_rest(const struct grammar *g, const struct object_rule *o, uint32_t at,
                              uint32_t room) {
        struct rest rest = { 0 };

        for (uint32_t i = at; i < o->n; i++) {
                const struct property *p = &g->properties.p[o->first + i];

                rest.required += p->required;
                rest.possible += property_fits(g, p, room);
        }
        return rest;
}

/* Can as many members with other names follow that there are enough? */
static bool others_fill(const struct grammar *g, const struct object_rule *o, uint32_t room,
                        uint32_t members) {
        return members >= o->min || o->min - members <= grammar_others(g, o, room);
}

bool lexeme_object_whole(const struct grammar *g, uint32_t rule, uint32_t at, uint32_t members) {
        const struct object_rule *o = &g->objects.p[rule];

        return members >= o->min && count_rest(g, o, at, 0).required == 0;
}

/* May the property be the next member? `index` counts from the object's first. */
static bool may_be_next(const struct grammar *g, const struct lexeme *l, uint32_t index) {
        const struct object_rule *o = &g->objects.p[l->rule];
        struct rest rest;

        if (index < l->at || !property_fits(g, &g->properties.p[o->first + index], l->room))
                return false;
        for (uint32_t i = l->at; i < index; i++)
                if (g->properties.p[o->first + i].required)
                        return false;
        rest = count_rest(g, o, index + 1, l->room);
        return l->members + 1 + rest.required <= o->max &&
               others_fill(g, o, l->room, l->members + 1 + rest.possible);
}

/* May a member with another name, of the lexeme's class, be next? */
bool lexeme_may_be_other(const struct grammar *g, const struct lexeme *l) {
        const struct object_rule *o = &g->objects.p[l->rule];

        return l->class != GRAMMAR_NONE && grammar_class_height(g, l->class) <= l->room &&
               l->members < o->max && count_rest(g, o, l->at, 0).required == 0 &&
               others_fill(g, o, l->room, l->members);
}

static bool any_may_be_next(const struct grammar *g, const struct lexeme *l) {
        for (uint32_t i = l->state; i < l->last; i++)
                if (may_be_next(g, l, g->sorted.p[i] - g->objects.p[l->rule].first))
                        return true;
        return false;
}

bool lexeme_begin_name(const struct grammar *g, const struct member_place *place, uint32_t way,
                       struct lexeme *ret, uint32_t *ret_ways) {
        const struct object_rule *o = &g->objects.p[place->rule];
        bool patterns = o->n_classes > 0 && g->classes.p[o->first_class].pattern != GRAMMAR_NONE;

        *ret_ways = patterns ? o->n_classes + 1 : 1;
        *ret = (struct lexeme){ .kind = LEXEME_NAME, .utf8 = UTF8_NONE, .state = o->first,
                                .last = o->first + o->n, .rule = place->rule, .at = place->at,
                                .room = place->room, .members = place->members,
                                .class = GRAMMAR_NONE };
        if (!patterns && o->n_classes > 0)
                ret->class = o->first_class;
        if (way == 0)
                return any_may_be_next(g, ret) || lexeme_may_be_other(g, ret);
        ret->class = o->first_class + way - 1;
        if (!lexeme_may_be_other(g, ret))
                return false;
        *ret = (struct lexeme){ .kind = LEXEME_OTHER, .utf8 = UTF8_NONE, .class = ret->class,
                                .state = g->classes.p[ret->class].pattern };
        return true;
}

static void become_other(struct lexeme *l) {
        *l = (struct lexeme){ .kind = LEXEME_OTHER, .utf8 = l->utf8, .state = GRAMMAR_NONE,
                              .class = l->class };
}

static bool step_name(const struct grammar *g, struct lexeme *l, uint8_t c) {
        uint32_t lo = l->state, hi;

        l->utf8 = (uint8_t)grammar_utf8(g, l->utf8, c);
        for (; lo < l->last; lo++) {
                struct view name = grammar_name(g, sorted_property(g, lo));

                if (name.n > l->n && name.p[l->n] >= c)
                        break;
        }
        for (hi = lo; hi < l->last; hi++) {
                struct view name = grammar_name(g, sorted_property(g, hi));

                if (name.n <= l->n || name.p[l->n] != c)
                        break;
        }
        l->state = lo;
        l->last = hi;
        l->n++;
        if (lo < hi && any_may_be_next(g, l))
                return true;
        if (l->utf8 == UTF8_BROKEN || !lexeme_may_be_other(g, l))
                return false;
        if (lo == hi)
                become_other(l);
        return true;
}

/* The property whose name the text is, or GRAMMAR_NONE. The first of those that fit is the
 * shortest. */
uint32_t lexeme_property(const struct grammar *g, const struct lexeme *l) {
        if (l->kind == LEXEME_OTHER || l->state == l->last ||
            sorted_property(g, l->state)->name_n > l->n)
                return GRAMMAR_NONE;
        return g->sorted.p[l->state];
}

static bool name_is_whole(const struct grammar *g, const struct lexeme *l) {
        uint32_t property = lexeme_property(g, l);

        if (l->kind == LEXEME_OTHER && l->state != GRAMMAR_NONE)
                return g->dfa.states.p[l->state].accept;
        if (property != GRAMMAR_NONE)
                return may_be_next(g, l, property - g->objects.p[l->rule].first);
        return l->utf8 == UTF8_NONE && (l->kind == LEXEME_OTHER || lexeme_may_be_other(g, l));
}

/* --- strings --- */

static bool step_string(const struct grammar *g, struct lexeme *l, uint8_t c) {
        if (l->utf8 == UTF8_NONE && l->kind == LEXEME_STRING) {
                if (l->left == 0)
                        return false;
                l->left -= l->left != GRAMMAR_NONE;
                l->need -= l->need > 0;
        }
        l->utf8 = (uint8_t)grammar_utf8(g, l->utf8, c);
        return l->utf8 != UTF8_BROKEN;
}

static bool step_automaton(const struct grammar *g, struct lexeme *l, uint8_t byte) {
        int32_t next = dfa_step(&g->dfa, l->state, byte);

        l->state = (uint32_t)next;
        return next >= 0;
}

/* One byte of a character, whichever way it was written. */
static bool step_content(const struct grammar *g, struct lexeme *l, uint8_t c) {
        if (l->kind == LEXEME_NAME)
                return step_name(g, l, c);
        if (l->kind == LEXEME_PATTERN || (l->kind == LEXEME_OTHER && l->state != GRAMMAR_NONE))
                return step_automaton(g, l, c);
        return step_string(g, l, c);
}

static bool content_is_whole(const struct grammar *g, const struct lexeme *l) {
        if (l->kind == LEXEME_PATTERN)
                return g->dfa.states.p[l->state].accept;
        if (l->kind == LEXEME_STRING)
                return l->need == 0 && l->utf8 == UTF8_NONE;
        return name_is_whole(g, l);
}

/* --- escapes --- */

static bool content_takes(const struct grammar *g, const struct lexeme *l, uint8_t c) {
        struct lexeme copy = *l;

        return step_content(g, &copy, c);
}

static bool takes_any(const struct grammar *g, const struct lexeme *l, unsigned lo, unsigned hi) {
        for (unsigned c = lo; c < hi; c++)
                if (!grammar_escape((uint8_t)c) && content_takes(g, l, (uint8_t)c))
                        return true;
        return false;
}

static bool takes_escape(const struct grammar *g, const struct lexeme *l) {
        for (const char *letter = GRAMMAR_LETTERS; *letter; letter++)
                if (content_takes(g, l, grammar_unescape((uint8_t)*letter)))
                        return true;
        return takes_any(g, l, 0, 0x20);
}

static int hex_value(uint8_t byte) {
        if (byte >= '0' && byte <= '9')
                return byte - '0';
        return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool escape_to(struct lexeme *l, enum escape to, bool allowed) {
        l->escape = (uint8_t)to;
        return allowed;
}

static bool end_escape(const struct grammar *g, struct lexeme *l, int c) {
        l->escape = ESCAPE_NONE;
        return c >= 0 && step_content(g, l, (uint8_t)c);
}

static bool step_escape(const struct grammar *g, struct lexeme *l, uint8_t byte) {
        int low = hex_value(byte);

        switch ((enum escape)l->escape) {
        case ESCAPE_BEGUN:
                if (byte == 'u')
                        return escape_to(l, ESCAPE_U, takes_any(g, l, 0, 0x20));
                return grammar_unescape(byte) && end_escape(g, l, grammar_unescape(byte));
        case ESCAPE_U:
                return escape_to(l, ESCAPE_U0, byte == '0');
        case ESCAPE_U0:
                return escape_to(l, ESCAPE_U00, byte == '0');
        case ESCAPE_U00:
                if (byte == '0')
                        return escape_to(l, ESCAPE_U000, takes_any(g, l, 0, 0x10));
                return escape_to(l, ESCAPE_U001, byte == '1' && takes_any(g, l, 0x10, 0x20));
        case ESCAPE_U000:
                return low >= 0 && !grammar_escape((uint8_t)low) && end_escape(g, l, low);
        case ESCAPE_U001:
                return end_escape(g, l, low < 0 ? low : low + 0x10);
        case ESCAPE_NONE:
                break;
        }
        return false;
}

/* --- all of it --- */

bool lexeme_begin(const struct grammar *g, const struct arm *arm, uint8_t byte,
                  struct lexeme *ret) {
        struct string_rule rule;
        int32_t state;

        if (arm->kind == ARM_LITERAL) {
                state = dfa_step(&g->dfa, arm->index, byte);
                *ret = (struct lexeme){ .kind = LEXEME_LITERAL, .state = (uint32_t)state };
                return state >= 0;
        }
        if (byte != '"')
                return false;
        if (arm->kind == ARM_PATTERN) {
                *ret = (struct lexeme){ .kind = LEXEME_PATTERN, .state = arm->index };
                return true;
        }
        rule = g->strings.p[arm->index];
        *ret = (struct lexeme){ .kind = LEXEME_STRING, .utf8 = UTF8_NONE, .left = rule.max,
                                .need = rule.min };
        return true;
}

bool lexeme_step(const struct grammar *g, struct lexeme *l, uint8_t byte) {
        if (l->kind == LEXEME_LITERAL)
                return step_automaton(g, l, byte);
        if (l->closed)
                return false;
        if (l->escape != ESCAPE_NONE)
                return step_escape(g, l, byte);
        if (byte == '"') {
                l->closed = true;
                return content_is_whole(g, l);
        }
        if (byte == '\\')
                return escape_to(l, ESCAPE_BEGUN, takes_escape(g, l));
        return byte >= 0x20 && step_content(g, l, byte);
}

bool lexeme_whole(const struct grammar *g, const struct lexeme *l) {
        return l->kind == LEXEME_LITERAL ? g->dfa.states.p[l->state].accept : l->closed;
}
