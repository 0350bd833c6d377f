/* The path of a control group is read from its start and never trusted beyond the first element
 * that the service manager would not have made there: a slice lies in the slice that its name says
 * (a-b.slice in a.slice, a.slice at the top), so an element that does not is somebody else's, and
 * it and all below prove nothing. A path from outside of our view of the tree begins with "..". */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "policy/slice.h"

#define SUFFIX ".slice"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\"

/* Length without ".slice"; 0 when it does not end so. */
static size_t stem(const char *name) {
        size_t n = strlen(name), suffix = strlen(SUFFIX);

        return n > suffix && strcmp(name + n - suffix, SUFFIX) == 0 ? n - suffix : 0;
}

bool slice_name_valid(const char *name) {
        size_t n = stem(name);

        if (n == 0 || strlen(name) >= SLICE_NAME_SIZE || strspn(name, LETTERS) != strlen(name))
                return false;
        /* no part between dashes is empty */
        for (size_t i = 0; i < n; i++)
                if (name[i] == '-' && (i == 0 || i == n - 1 || name[i - 1] == '-'))
                        return false;
        return true;
}

bool slice_within(const char *inner, const char *outer) {
        size_t n = stem(outer), m = stem(inner);

        return m >= n && memcmp(inner, outer, n) == 0 && (m == n || inner[n] == '-');
}

/* Does a slice of this name lie directly in that one ("": at the top)? */
static bool lies_in(const char *name, const char *parent) {
        size_t n = stem(name), m = stem(parent);

        for (size_t i = m > 0 ? m + 1 : 0; i < n; i++)
                if (name[i] == '-')
                        return false;
        return m == 0 || (slice_within(name, parent) && n > m);
}

/* The line of the hierarchy that is version 2, after "0::"; NULL: there is none. */
static const char *version_2(const char *text) {
        while (strncmp(text, "0::", 3) != 0) {
                text = strchr(text, '\n');
                if (!text)
                        return NULL;
                text++;
        }
        return text + 3;
}

/* One element of the path. Where its name could be mistaken for a file of the kernel's, systemd
 * puts a '_' before it. */
static bool read_element(const char *path, size_t n, char ret[SLICE_NAME_SIZE]) {
        if (n > 0 && *path == '_') {
                path++;
                n--;
        }
        if (n >= SLICE_NAME_SIZE)
                return false;
        memcpy(ret, path, n);
        ret[n] = '\0';
        return slice_name_valid(ret);
}

int slice_from_cgroup(const char *text, char ret[SLICE_NAME_SIZE]) {
        const char *path = version_2(text);
        char name[SLICE_NAME_SIZE];

        ret[0] = '\0';
        if (!path)
                return -ENODATA;
        while (*path == '/') {
                size_t n = strcspn(++path, "/\n");

                if (!read_element(path, n, name) || !lies_in(name, ret))
                        break;
                memcpy(ret, name, sizeof(name));
                path += n;
        }
        return 0;
}

bool slice_managed(const char *text) {
        static const char own[] = "/init.scope";
        const char *path = version_2(text);
        size_t n = path ? strcspn(path, "\n") : 0;

        return n >= strlen(own) && strncmp(path + n - strlen(own), own, strlen(own)) == 0;
}
