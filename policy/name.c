/* The one rule for model names. They become parts of file names and object paths, hence no slash,
 * no leading dot and no upper case (two files must not differ in case only). */
#include <string.h>

#include "policy/name.h"

static int is_alphanumeric(char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int model_name_valid(const char *name) {
        size_t n = strnlen(name, MODEL_NAME_SIZE);

        if (n == 0 || n >= MODEL_NAME_SIZE || !is_alphanumeric(name[0]))
                return 0;
        for (size_t i = 1; i < n; i++)
                if (!is_alphanumeric(name[i]) && !strchr("._-", name[i]))
                        return 0;
        return 1;
}
