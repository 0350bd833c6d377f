/* Why a model file was refused: one code per rule of formats-and-models 1.3, plus what a person
 * needs to act: the byte position in the file, the offending value and the limit. Codes and
 * numbers only, so that they can cross the worker link; the text comes from the table here. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum model_error_code {
        MODEL_OK = 0,
        /* container */
        MODEL_E_TRUNCATED,      /* value bytes wanted, limit bytes left */
        MODEL_E_MAGIC,
        MODEL_E_VERSION,
        MODEL_E_BYTE_ORDER,
        MODEL_E_TENSOR_COUNT,
        MODEL_E_KV_COUNT,
        MODEL_E_KEY,            /* empty, too long, not printable */
        MODEL_E_KEY_DUPLICATE,
        MODEL_E_VALUE_TYPE,
        MODEL_E_BOOL,
        MODEL_E_STRING_SIZE,
        MODEL_E_ARRAY_TYPE,
        MODEL_E_ARRAY_COUNT,
        MODEL_E_ALIGNMENT,
        MODEL_E_SPLIT,
        /* tensor table */
        MODEL_E_TENSOR_NAME,
        MODEL_E_TENSOR_DUPLICATE,
        MODEL_E_DIMS,
        MODEL_E_DIM_ZERO,
        MODEL_E_ELEMENTS,
        MODEL_E_TENSOR_TYPE,
        MODEL_E_TYPE_UNSUPPORTED,
        MODEL_E_BLOCK,
        MODEL_E_TENSOR_SIZE,
        MODEL_E_OFFSET,
        MODEL_E_OVERLAP,
        MODEL_E_TENSOR_UNKNOWN,
        MODEL_E_TENSOR_MISSING,
        MODEL_E_SHAPE,
        /* metadata */
        MODEL_E_META_MISSING,
        MODEL_E_META_TYPE,
        MODEL_E_META_RANGE,
        MODEL_E_ARCHITECTURE,
        MODEL_E_ACTIVATION,
        MODEL_E_FEATURE,        /* a key that needs something we do not implement */
        /* contents */
        MODEL_E_NOT_FINITE,
        MODEL_E_TRIT,           /* a code that is no trit */
        /* tokenizer */
        MODEL_E_TOKENIZER,      /* tokenizer.ggml.model not supported */
        MODEL_E_PRETOKENIZER,   /* tokenizer.ggml.pre not supported */
        MODEL_E_TOKENS,
        MODEL_E_MERGES,
        MODEL_E_SPECIAL_TOKEN,
        /* packed file */
        MODEL_E_NOT_PACKED,
        MODEL_E_PACK_VERSION,
        /* the system */
        MODEL_E_MEMORY,
        MODEL_E_IO,
        MODEL_E_CHANGED,        /* while it was read */
        _MODEL_E_MAX,
};

struct model_error {
        enum model_error_code code;
        uint64_t position; /* byte in the file, 0 when not known */
        uint64_t value;
        uint64_t limit;
        char name[64];     /* key or tensor or architecture; for developer programs, never sent */
};

/* Fixed text for a code, e.g. "tensor reaches past the end of the file". */
const char *model_error_text(enum model_error_code code);

/* Fill *err (which may be NULL) and return -EBADMSG (-ENOMEM, -EIO for the last two codes), so
 * that `return model_fail(err, …)` reads well. name may be NULL; n bytes are copied, cut at 63. */
int model_fail(struct model_error *err, enum model_error_code code, uint64_t position,
               uint64_t value, uint64_t limit, const char *name, size_t n);

/* "TEXT at byte P (value V, limit L, NAME)" into buf, for developer programs. Returns buf. */
const char *model_error_format(const struct model_error *err, char *buf, size_t size);
