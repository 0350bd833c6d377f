/* Developer program: the prompt of a chat with one user message, as token ids (a JSON list), read
 * from a GGUF file's own tokenizer. `chat-tokens MODEL.gguf TEXT…` prints one line per text. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "engine/base/macro.h"
#include "engine/model/gguf.h"
#include "engine/text/chat.h"

static void print_tokens(const struct vocab *v, const char *text) {
        const struct chat_message message = {CHAT_USER, text, strlen(text)};
        struct tokens out = {0};

        if (chat_encode(v, (enum chat_format)vocab_chat_format(v), &message, 1, 0, &out) < 0)
                exit(1);
        for (size_t i = 0; i < out.n; i++)
                printf("%s%d", i ? ", " : "[", out.ids[i]);
        puts("]");
        tokens_done(&out);
}

int main(int argc, char **argv) {
        struct model_error err = {0};
        struct vocab *v = NULL;
        struct gguf *g = NULL;
        char message[256];
        struct stat st;
        void *map;
        int fd;

        if (argc < 3) {
                fputs("usage: chat-tokens MODEL.gguf TEXT…\n", stderr);
                return 2;
        }
        fd = open(argv[1], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                perror(argv[1]);
                return 1;
        }
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED ||
            gguf_parse(&g, (struct view){map, (size_t)st.st_size}, &err) < 0 ||
            vocab_load(&v, g, &err) < 0) {
                fprintf(stderr, "%s\n", model_error_format(&err, message, sizeof(message)));
                return 1;
        }
        for (int i = 2; i < argc; i++)
                print_tokens(v, argv[i]);
        vocab_free(v);
        gguf_free(g);
        return 0;
}
