/* JSON Schema (draft 2020-12, a part of it) to a grammar. Whatever the grammar allows is valid
 * under the schema, and no object in it has a name twice. A keyword that is not understood is
 * refused by name, never ignored.
 *
 * Understood: type, enum, const; properties, required, additionalProperties, patternProperties,
 * propertyNames, minProperties, maxProperties; items, prefixItems, minItems, maxItems; minLength,
 * maxLength, pattern (regex.h), format; minimum, maximum, exclusiveMinimum, exclusiveMaximum,
 * multipleOf; anyOf, allOf, oneOf whose alternatives differ for certain, not with types only; $ref
 * into the same schema, $defs, definitions, $anchor; boolean schemas.
 * Words about the schema are passed over: title, description, default, examples, deprecated,
 * readOnly, writeOnly, discriminator, content…, $comment, $schema, and $id at the root.
 * Formats are kept to: date, time, date-time, uuid, ipv4, email (the last three without their rare
 * forms, times without leap seconds); others are refused.
 * Refused, unless their value says nothing: contains, minContains, maxContains, uniqueItems, if,
 * then, else, dependentRequired, dependentSchemas, unevaluatedItems, unevaluatedProperties, other
 * forms of not, $dynamicRef, and every keyword that JSON Schema does not have.
 *
 * Narrower than the schema: members come in its order, numbers have at most 18 digits (with a
 * fraction and a limit 15 in all), values at most 64 levels. */
#pragma once

#include <jansson.h>

#include "daemon/worker/request_error.h"
#include "engine/grammar/grammar.h"

enum {
        SCHEMA_SET_MAX = 64,     /* schemas that hold for one value at the same time */
        SCHEMA_WORK_MAX = 1 << 22, /* values, schemas and names that are looked at while compiling
                                    * all schemas of a grammar */
};

/* The errors of all functions: -ENOMEM, or -EBADMSG with *e; its param is `where`, followed by the
 * place in the schema, in which names that the schema chose are numbers (/properties/#2). */

/* A grammar for one schema. */
int schema_compile(const json_t *schema, const char *where, struct grammar **ret,
                   struct request_error *e);
/* Any JSON object. */
int schema_any_object(struct grammar **ret);
/* A node of a grammar that is being built, for the values of a schema. */
int schema_add(struct grammar *g, const json_t *schema, const char *where, uint32_t *ret,
               struct request_error *e);
/* What is wrong with a grammar that is built: limits, or nothing that could be written. */
int schema_settle(struct grammar *g, const char *where, struct request_error *e);
