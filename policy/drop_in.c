/* Line by line: assignments of the key in the section of the user are left out, and the new one
 * comes directly after the section's first line, so that a section somebody has added below is
 * never hit. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "policy/drop_in.h"
#include "policy/quota_key.h"

enum { HEADER_MAX = 32 };

static bool assigns(const char *line, size_t n, const char *name) {
        size_t k = strlen(name);

        if (n < k || strncmp(line, name, k) != 0)
                return false;
        while (k < n && (line[k] == ' ' || line[k] == '\t'))
                k++;
        return k < n && line[k] == '=';
}

static bool is_header(const char *line, size_t n, const char *header) {
        return n >= strlen(header) && strncmp(line, header, strlen(header)) == 0;
}

/* Copies what stays; true when the section was there and got its assignment. */
static bool copy_lines(FILE *f, const char *old, const char *header, const char *name,
                       const char *value) {
        bool inside = false, found = false;

        for (const char *p = old; *p;) {
                size_t n = strcspn(p, "\n");

                if (*p == '[')
                        inside = is_header(p, n, header);
                if (!inside || !assigns(p, n, name))
                        fprintf(f, "%.*s\n", (int)n, p);
                if (*p == '[' && inside && !found) {
                        found = true;
                        if (value[0])
                                fprintf(f, "%s = %s\n", name, value);
                }
                p += n + (p[n] == '\n');
        }
        return found;
}

int drop_in_set(const char *old, uint32_t uid, enum quota_key key, const char *value, char **ret) {
        const char *name = quota_row(key)->name;
        char header[HEADER_MAX], *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        bool ok;

        if (!f)
                return -ENOMEM;
        snprintf(header, sizeof(header), "[User %u]", uid);
        if (!copy_lines(f, old, header, name, value) && value[0])
                fprintf(f, "%s\n%s = %s\n", header, name, value);
        ok = !ferror(f);
        if (fclose(f) != 0 || !ok) {
                free(text);
                return -ENOMEM;
        }
        *ret = text;
        return 0;
}
