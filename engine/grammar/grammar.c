/* Building a grammar, and finding out which of its parts can be written at all.
 *
 * The invariant that a generation rests on: whatever is allowed can be brought to an end. So each
 * arm gets a height, the levels of objects and arrays that its smallest value needs: an object's is
 * one more than the highest of its required members', an array's of its required items'. Heights
 * are the least fixed point, found by counting up; what never gets one (a value that contains
 * itself, a name that the vocabulary cannot spell, an empty union) cannot be written and is never
 * begun. While reading, an arm is allowed where its height fits into the levels that are left. */
#include "engine/grammar/grammar.h"

int grammar_new(struct grammar **ret) {
        struct grammar *g = calloc(1, sizeof(*g));

        if (!g)
                return -ENOMEM;
        *ret = g;
        return 0;
}

struct grammar *grammar_free(struct grammar *g) {
        if (!g)
                return NULL;
        dfa_done(&g->dfa);
        VEC_DONE(&g->nodes);
        VEC_DONE(&g->arms);
        VEC_DONE(&g->strings);
        VEC_DONE(&g->objects);
        VEC_DONE(&g->arrays);
        VEC_DONE(&g->properties);
        VEC_DONE(&g->sorted);
        VEC_DONE(&g->classes);
        VEC_DONE(&g->items);
        VEC_DONE(&g->names);
        VEC_DONE(&g->decoded);
        free(g);
        return NULL;
}

/* --- building --- */

int grammar_add_node(struct grammar *g, uint32_t *ret) {
        if (g->nodes.n == GRAMMAR_NODES_MAX)
                return -E2BIG;
        *ret = (uint32_t)g->nodes.n;
        return VEC_PUSH(&g->nodes, (struct node){ .first = GRAMMAR_NONE, .last = GRAMMAR_NONE });
}

int grammar_add_arm(struct grammar *g, uint32_t node, enum arm_kind kind, uint32_t index) {
        struct node *n = &g->nodes.p[node];
        uint32_t arm = (uint32_t)g->arms.n;
        int r;

        if (g->arms.n == GRAMMAR_ARMS_MAX)
                return -E2BIG;
        r = VEC_PUSH(&g->arms, (struct arm){ .kind = kind, .index = index, .next = GRAMMAR_NONE });
        if (r < 0)
                return r;
        if (n->last == GRAMMAR_NONE)
                n->first = arm;
        else
                g->arms.p[n->last].next = arm;
        n->last = arm;
        return 0;
}

int grammar_add_literal(struct grammar *g, uint32_t node, const struct nfa *n, uint32_t start,
                        uint32_t end) {
        uint32_t state;
        int r = dfa_add(&g->dfa, n, start, end, &state);

        return r < 0 ? r : grammar_add_arm(g, node, ARM_LITERAL, state);
}

int grammar_add_string(struct grammar *g, uint32_t node, struct string_rule rule) {
        int r = VEC_PUSH(&g->strings, rule);

        return r < 0 ? r : grammar_add_arm(g, node, ARM_STRING, (uint32_t)g->strings.n - 1);
}

int grammar_mark_decoded(struct grammar *g, size_t first) {
        struct decoded d = { .first = (uint32_t)first, .last = (uint32_t)g->dfa.states.n };

        return d.first == d.last ? 0 : VEC_PUSH(&g->decoded, d);
}

int grammar_add_class(struct grammar *g, uint32_t pattern, uint32_t value) {
        return VEC_PUSH(&g->classes, (struct name_class){ .pattern = pattern, .value = value });
}

int grammar_add_property(struct grammar *g, struct view name, uint32_t value, bool required) {
        struct property p = { .name = (uint32_t)g->names.n, .name_n = (uint32_t)name.n,
                              .value = value, .required = required };
        int r = 0;

        for (size_t i = 0; i < name.n && r >= 0; i++)
                r = VEC_PUSH(&g->names, name.p[i]);
        return r < 0 ? r : VEC_PUSH(&g->properties, p);
}

static int compare_names(const struct grammar *g, uint32_t a, uint32_t b) {
        struct view x = grammar_name(g, &g->properties.p[a]);
        struct view y = grammar_name(g, &g->properties.p[b]);
        int r = MIN(x.n, y.n) ? memcmp(x.p, y.p, MIN(x.n, y.n)) : 0;

        return r ? r : x.n < y.n ? -1 : x.n > y.n;
}

/* Insertion sort: at most GRAMMAR_PROPERTIES_MAX names. */
static int sort_names(struct grammar *g, const struct object_rule *rule) {
        for (uint32_t i = 0; i < rule->n; i++) {
                uint32_t *sorted;
                uint32_t at = i;
                int r = VEC_PUSH(&g->sorted, 0);

                if (r < 0)
                        return r;
                sorted = g->sorted.p + rule->first;
                for (; at > 0 && compare_names(g, sorted[at - 1], rule->first + i) > 0; at--)
                        sorted[at] = sorted[at - 1];
                sorted[at] = rule->first + i;
        }
        return 0;
}

int grammar_add_object(struct grammar *g, uint32_t node, struct object_rule rule) {
        int r;

        if (rule.n > GRAMMAR_PROPERTIES_MAX)
                return -E2BIG;
        rule.first = (uint32_t)g->properties.n - rule.n;
        rule.first_class = (uint32_t)g->classes.n - rule.n_classes;
        r = sort_names(g, &rule);
        if (r >= 0)
                r = VEC_PUSH(&g->objects, rule);
        return r < 0 ? r : grammar_add_arm(g, node, ARM_OBJECT, (uint32_t)g->objects.n - 1);
}

int grammar_add_item(struct grammar *g, uint32_t node) {
        return VEC_PUSH(&g->items, node);
}

int grammar_add_array(struct grammar *g, uint32_t node, struct array_rule rule) {
        int r;

        rule.first = (uint32_t)g->items.n - rule.n;
        r = VEC_PUSH(&g->arrays, rule);
        return r < 0 ? r : grammar_add_arm(g, node, ARM_ARRAY, (uint32_t)g->arrays.n - 1);
}

/* --- unions of unions --- */

struct flattening {
        struct grammar *g;
        bool seen[GRAMMAR_NODES_MAX];
        uint32_t stack[GRAMMAR_NODES_MAX];
        VEC(struct arm) arms; /* of the node at hand */
};

static int take_arm(struct flattening *f, const struct arm *arm, uint32_t *n_stack) {
        if (arm->kind == ARM_NODE) {
                if (!f->seen[arm->index])
                        f->stack[(*n_stack)++] = arm->index;
                f->seen[arm->index] = true;
                return 0;
        }
        for (size_t i = 0; i < f->arms.n; i++)
                if (f->arms.p[i].kind == arm->kind && f->arms.p[i].index == arm->index)
                        return 0;
        return VEC_PUSH(&f->arms, *arm);
}

/* All arms that a node has through other nodes become its own. */
static int flatten_node(struct flattening *f, uint32_t node) {
        struct grammar *g = f->g;
        uint32_t n_stack = 1;
        int r = 0;

        memset(f->seen, 0, sizeof(f->seen));
        f->arms.n = 0;
        f->stack[0] = node;
        f->seen[node] = true;
        while (n_stack > 0 && r >= 0) {
                uint32_t arm = g->nodes.p[f->stack[--n_stack]].first;

                for (; arm != GRAMMAR_NONE && r >= 0; arm = g->arms.p[arm].next)
                        r = take_arm(f, &g->arms.p[arm], &n_stack);
        }
        g->nodes.p[node].first = g->nodes.p[node].last = GRAMMAR_NONE;
        for (size_t i = 0; i < f->arms.n && r >= 0; i++)
                r = grammar_add_arm(g, node, f->arms.p[i].kind, f->arms.p[i].index);
        return r;
}

/* Nodes that were flattened have no node arms any more, which is right for the others, too. */
static int flatten(struct grammar *g) {
        struct flattening *f = calloc(1, sizeof(*f));
        int r = f ? 0 : -ENOMEM;

        if (f)
                f->g = g;
        for (uint32_t i = 0; i < g->nodes.n && r >= 0; i++) {
                bool alone = true;

                for (uint32_t a = g->nodes.p[i].first; a != GRAMMAR_NONE; a = g->arms.p[a].next)
                        alone &= g->arms.p[a].kind != ARM_NODE;
                if (!alone)
                        r = flatten_node(f, i);
        }
        if (f)
                VEC_DONE(&f->arms);
        vec_wipe(f, sizeof(*f));
        return r;
}

/* --- heights --- */

static uint32_t property_height(const struct grammar *g, const struct property *p) {
        return p->writable ? g->nodes.p[p->value].height : GRAMMAR_NONE;
}

uint32_t grammar_class_height(const struct grammar *g, uint32_t class) {
        const struct name_class *c = &g->classes.p[class];

        return c->pattern == GRAMMAR_NONE || g->dfa.states.p[c->pattern].live
                       ? g->nodes.p[c->value].height : GRAMMAR_NONE;
}

uint32_t grammar_others(const struct grammar *g, const struct object_rule *rule, uint32_t room) {
        uint64_t n = 0;

        for (uint32_t i = rule->first_class; i < rule->first_class + rule->n_classes; i++) {
                uint32_t pattern = g->classes.p[i].pattern;

                if (grammar_class_height(g, i) <= room)
                        n += pattern == GRAMMAR_NONE ? DFA_ENDLESS : g->dfa.states.p[pattern].texts;
        }
        return (uint32_t)MIN(n, DFA_ENDLESS);
}

/* Can the object be written when its members are at most so high? No name comes twice. */
static bool object_fits(const struct grammar *g, const struct object_rule *rule, uint32_t height) {
        uint32_t members = 0, required = 0;

        for (uint32_t i = rule->first; i < rule->first + rule->n; i++) {
                const struct property *p = &g->properties.p[i];
                bool fits = property_height(g, p) <= height;

                if (p->required && !fits)
                        return false;
                members += fits;
                required += p->required;
        }
        if (rule->min > rule->max || required > rule->max)
                return false;
        return members >= rule->min || rule->min - members <= grammar_others(g, rule, height);
}

static uint32_t object_height(const struct grammar *g, const struct object_rule *rule) {
        for (uint32_t height = 0; height < GRAMMAR_DEPTH; height++)
                if (object_fits(g, rule, height))
                        return height + 1;
        return GRAMMAR_NONE;
}

static uint32_t array_height(const struct grammar *g, const struct array_rule *rule) {
        uint32_t height = 0;

        if (rule->min > rule->max)
                return GRAMMAR_NONE;
        for (uint32_t i = 0; i < MIN(rule->min, rule->n); i++)
                height = MAX(height, g->nodes.p[g->items.p[rule->first + i]].height);
        if (rule->min > rule->n)
                height = MAX(height, rule->others == GRAMMAR_NONE
                                             ? GRAMMAR_NONE
                                             : g->nodes.p[rule->others].height);
        return height < GRAMMAR_DEPTH ? height + 1 : GRAMMAR_NONE;
}

static uint32_t arm_height(const struct grammar *g, const struct arm *arm) {
        switch (arm->kind) {
        case ARM_LITERAL:
        case ARM_PATTERN:
                return g->dfa.states.p[arm->index].live ? 0 : GRAMMAR_NONE;
        case ARM_STRING:
                return g->strings.p[arm->index].min <= g->strings.p[arm->index].max
                               ? 0 : GRAMMAR_NONE;
        case ARM_OBJECT:
                return object_height(g, &g->objects.p[arm->index]);
        case ARM_ARRAY:
                return array_height(g, &g->arrays.p[arm->index]);
        case ARM_TEXT:
                return 0;
        case ARM_NODE:
                break;
        }
        return GRAMMAR_NONE;
}

/* One round; true when something changed. */
static bool lower_heights(struct grammar *g) {
        bool changed = false;

        for (uint32_t i = 0; i < g->nodes.n; i++) {
                uint32_t least = GRAMMAR_NONE;

                for (uint32_t a = g->nodes.p[i].first; a != GRAMMAR_NONE; a = g->arms.p[a].next) {
                        g->arms.p[a].height = arm_height(g, &g->arms.p[a]);
                        least = MIN(least, g->arms.p[a].height);
                }
                changed |= least != g->nodes.p[i].height;
                g->nodes.p[i].height = least;
        }
        return changed;
}

/* --- what the vocabulary can spell --- */

static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = GRAMMAR_LETTERS;

uint8_t grammar_escape(uint8_t character) {
        const char *at = character ? strchr(escaped, character) : NULL;

        return at ? (uint8_t)letters[at - escaped] : 0;
}

uint8_t grammar_unescape(uint8_t letter) {
        const char *at = letter ? strchr(letters, letter) : NULL;

        return at ? (uint8_t)escaped[at - letters] : 0;
}

/* Characters of strings, each as the bytes that stand for it. */
static void usable_characters(const bool usable[256], bool ret[256]) {
        static const char hex[] = "0123456789abcdef";

        for (unsigned c = 0; c < 256; c++) {
                uint8_t letter = grammar_escape((uint8_t)c);

                if (letter)
                        ret[c] = usable['\\'] && usable[letter];
                else if (c < 0x20)
                        ret[c] = usable['\\'] && usable['u'] && usable['0'] &&
                                 usable['0' + c / 16] && usable[(uint8_t)hex[c % 16]];
                else
                        ret[c] = usable[c];
        }
}

static bool can_spell(struct view name, const bool usable[256]) {
        for (size_t i = 0; i < name.n; i++)
                if (!usable[name.p[i]])
                        return false;
        return true;
}

static int revive(struct grammar *g, const bool usable[256], const bool characters[256]) {
        int r = dfa_revive(&g->dfa, 0, (uint32_t)g->dfa.states.n, usable);

        for (size_t i = 0; i < g->decoded.n && r >= 0; i++)
                r = dfa_revive(&g->dfa, g->decoded.p[i].first, g->decoded.p[i].last, characters);
        return r;
}

/* After the first bytes of a character: which byte may follow, and what is awaited then. */
static const struct {
        uint8_t lo, hi;
        enum utf8_state next;
} continuations[_UTF8_STATE_MAX] = {
        [UTF8_ONE] = { 0x80, 0xbf, UTF8_NONE },
        [UTF8_TWO] = { 0x80, 0xbf, UTF8_ONE },
        [UTF8_THREE] = { 0x80, 0xbf, UTF8_TWO },
        [UTF8_AFTER_E0] = { 0xa0, 0xbf, UTF8_ONE },
        [UTF8_AFTER_ED] = { 0x80, 0x9f, UTF8_ONE },
        [UTF8_AFTER_F0] = { 0x90, 0xbf, UTF8_TWO },
        [UTF8_AFTER_F4] = { 0x80, 0x8f, UTF8_TWO },
};

static enum utf8_state after_lead(uint8_t byte) {
        if (byte < 0x80)
                return UTF8_NONE;
        if (byte < 0xc2 || byte > 0xf4)
                return UTF8_BROKEN;
        if (byte < 0xe0)
                return UTF8_ONE;
        if (byte < 0xf0)
                return byte == 0xe0 ? UTF8_AFTER_E0 : byte == 0xed ? UTF8_AFTER_ED : UTF8_TWO;
        return byte == 0xf0 ? UTF8_AFTER_F0 : byte == 0xf4 ? UTF8_AFTER_F4 : UTF8_THREE;
}

enum utf8_state grammar_utf8(const struct grammar *g, enum utf8_state at, uint8_t byte) {
        enum utf8_state next = UTF8_BROKEN;

        if (at == UTF8_NONE)
                next = after_lead(byte);
        else if (byte >= continuations[at].lo && byte <= continuations[at].hi)
                next = continuations[at].next;
        return g->utf8_live[next] ? next : UTF8_BROKEN;
}

/* Can a character be ended from each state? What is awaited later has the lower number. */
void grammar_settle_utf8(struct grammar *g, const bool usable[256]) {
        memset(g->utf8_live, 0, sizeof(g->utf8_live));
        g->utf8_live[UTF8_NONE] = true;
        for (unsigned s = UTF8_ONE; s < _UTF8_STATE_MAX; s++)
                for (unsigned b = continuations[s].lo; b <= continuations[s].hi; b++)
                        g->utf8_live[s] |= usable[b] && g->utf8_live[continuations[s].next];
}

/* Whatever the schema, without these nothing can be written; every tokenizer has them. */
static bool has_ascii(const bool usable[256]) {
        for (unsigned c = 0x20; c < 0x7f; c++)
                if (!usable[c])
                        return false;
        return true;
}

int grammar_settle(struct grammar *g, const bool usable[256]) {
        bool characters[256];
        int r = g->settled ? 0 : flatten(g);

        usable_characters(usable, characters);
        grammar_settle_utf8(g, usable);
        if (r >= 0)
                r = revive(g, usable, characters);
        if (r < 0)
                return r;
        g->settled = true;
        for (size_t i = 0; i < g->properties.n; i++)
                g->properties.p[i].writable =
                        can_spell(grammar_name(g, &g->properties.p[i]), characters);
        for (size_t i = 0; i < g->nodes.n; i++)
                g->nodes.p[i].height = GRAMMAR_NONE;
        while (lower_heights(g))
                ;
        return has_ascii(usable) && g->nodes.p[g->root].height != GRAMMAR_NONE ? 0 : -EDOM;
}
