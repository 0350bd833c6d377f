/* The text of every reason to refuse a model file. Codes and numbers travel between processes,
 * never strings: this table is what turns them into words at the far end. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/base/model_error.h"

static const char *const texts[] = {
        [MODEL_OK] = "no error",
        [MODEL_E_TRUNCATED] = "file ends inside a value",
        [MODEL_E_MAGIC] = "not a GGUF file",
        [MODEL_E_VERSION] = "GGUF version not supported (2 and 3 are)",
        [MODEL_E_BYTE_ORDER] = "file is big-endian",
        [MODEL_E_TENSOR_COUNT] = "too many tensors",
        [MODEL_E_KV_COUNT] = "too many metadata entries",
        [MODEL_E_KEY] = "bad metadata key",
        [MODEL_E_KEY_DUPLICATE] = "metadata key stands twice",
        [MODEL_E_VALUE_TYPE] = "unknown metadata value type",
        [MODEL_E_BOOL] = "boolean is neither 0 nor 1",
        [MODEL_E_STRING_SIZE] = "string too long",
        [MODEL_E_ARRAY_TYPE] = "array of an unsupported element type",
        [MODEL_E_ARRAY_COUNT] = "array too long",
        [MODEL_E_ALIGNMENT] = "bad alignment",
        [MODEL_E_SPLIT] = "model is split over several files",
        [MODEL_E_TENSOR_NAME] = "bad tensor name",
        [MODEL_E_TENSOR_DUPLICATE] = "tensor stands twice",
        [MODEL_E_DIMS] = "bad number of dimensions",
        [MODEL_E_DIM_ZERO] = "dimension is zero",
        [MODEL_E_ELEMENTS] = "too many elements",
        [MODEL_E_TENSOR_TYPE] = "unknown tensor type",
        [MODEL_E_TYPE_UNSUPPORTED] = "tensor type not supported",
        [MODEL_E_BLOCK] = "row is not a multiple of the type's block",
        [MODEL_E_TENSOR_SIZE] = "tensor size does not fit its type",
        [MODEL_E_OFFSET] = "tensor lies outside the file or is not aligned",
        [MODEL_E_OVERLAP] = "tensors overlap",
        [MODEL_E_TENSOR_UNKNOWN] = "layer has a tensor this version does not know",
        [MODEL_E_TENSOR_MISSING] = "tensor is missing",
        [MODEL_E_SHAPE] = "tensor has the wrong shape",
        [MODEL_E_META_MISSING] = "metadata entry is missing",
        [MODEL_E_META_TYPE] = "metadata entry has the wrong type",
        [MODEL_E_META_RANGE] = "metadata value out of range",
        [MODEL_E_ARCHITECTURE] = "architecture not supported",
        [MODEL_E_ACTIVATION] = "activation function not supported or not known",
        [MODEL_E_FEATURE] = "model needs a feature this version does not have",
        [MODEL_E_NOT_FINITE] = "weight or scale is not a finite number",
        [MODEL_E_TRIT] = "ternary data holds a code that is no trit",
        [MODEL_E_TOKENIZER] = "tokenizer model not supported",
        [MODEL_E_PRETOKENIZER] = "pre-tokenizer not supported",
        [MODEL_E_TOKENS] = "bad token table",
        [MODEL_E_MERGES] = "bad merge table",
        [MODEL_E_SPECIAL_TOKEN] = "bad special token",
        [MODEL_E_NOT_PACKED] = "file is not a packed model",
        [MODEL_E_PACK_VERSION] = "packed by another version",
        [MODEL_E_MEMORY] = "out of memory",
        [MODEL_E_IO] = "reading or writing failed",
        [MODEL_E_CHANGED] = "the file changed while it was copied",
};

_Static_assert(ARRAY_SIZE(texts) == _MODEL_E_MAX, "a text for every code");

const char *model_error_text(enum model_error_code code) {
        if ((unsigned)code >= ARRAY_SIZE(texts))
                return "unknown error";
        return texts[code];
}

int model_fail(struct model_error *err, enum model_error_code code, uint64_t position,
               uint64_t value, uint64_t limit, const char *name, size_t n) {
        if (err) {
                *err = (struct model_error){
                        .code = code, .position = position, .value = value, .limit = limit};
                if (name)
                        memcpy(err->name, name, MIN(n, sizeof(err->name) - 1));
        }
        if (code == MODEL_E_MEMORY)
                return -ENOMEM;
        return code == MODEL_E_IO ? -EIO : -EBADMSG;
}

const char *model_error_format(const struct model_error *err, char *buf, size_t size) {
        snprintf(buf, size,
                 "%s at byte %" PRIu64 " (value %" PRIu64 ", limit %" PRIu64 "%s%s)",
                 model_error_text(err->code), err->position, err->value, err->limit,
                 err->name[0] ? ", " : "", err->name);
        return buf;
}
