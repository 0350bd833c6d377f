/* A C program on the session bus: sd-bus and nothing of the project. "hold": starts a job that
 * reads from a pipe without end, prints its path, and keeps it until standard input ends. */
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define NAME "org.bitnetd.Bitnetd1"
#define ROOT "/org/bitnetd/Bitnetd1"

struct answer {
        char path[128], text[4096];
        unsigned parts;
        uint64_t tokens_in, tokens_out;
        char result[32];
};

struct completed {
        char path[128], result[32];
        unsigned count;
};

static int on_completed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct completed *c = userdata;
        const char *result;

        assert(sd_bus_message_read(m, "s", &result) > 0);
        snprintf(c->path, sizeof(c->path), "%s", sd_bus_message_get_path(m));
        snprintf(c->result, sizeof(c->result), "%s", result);
        c->count++;
        return 0;
}

static int document(const char *text) {
        int fd = memfd_create("input", MFD_CLOEXEC);

        assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
        return fd;
}

/* The output's descriptor; takes the input. */
static int generate(sd_bus *bus, const char *model, int input, char path[128], sd_bus_error *e) {
        sd_bus_message *reply = NULL;
        int r = sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", e, &reply,
                                   "sha{sv}", model, input, 1, "max-output-tokens", "u", 40);
        const char *p;
        int output = -1;

        close(input);
        if (r >= 0) {
                assert(sd_bus_message_read(reply, "oh", &p, &output) > 0);
                snprintf(path, 128, "%s", p);
                output = fcntl(output, F_DUPFD_CLOEXEC, 3);
        }
        sd_bus_message_unref(reply);
        return output;
}

static void read_details(sd_bus_message *m, struct answer *a) {
        const char *key;

        assert(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert(sd_bus_message_read(m, "s", &key) > 0);
                if (strcmp(key, "tokens-in") == 0)
                        assert(sd_bus_message_read(m, "v", "t", &a->tokens_in) > 0);
                else if (strcmp(key, "tokens-out") == 0)
                        assert(sd_bus_message_read(m, "v", "t", &a->tokens_out) > 0);
                else
                        assert(sd_bus_message_skip(m, "v") > 0);
                assert(sd_bus_message_exit_container(m) > 0);
        }
}

static void wait_for(sd_bus *bus, struct answer *a) {
        sd_bus_message *reply = NULL;
        const char *result;

        assert(sd_bus_call_method(bus, NAME, a->path, NAME ".Job", "Wait", NULL, &reply, "") >= 0);
        assert(sd_bus_message_read(reply, "s", &result) > 0);
        snprintf(a->result, sizeof(a->result), "%s", result);
        read_details(reply, a);
        sd_bus_message_unref(reply);
}

static void ask(sd_bus *bus, const char *question, struct answer *a) {
        int output;
        size_t n = 0;
        ssize_t r;

        memset(a, 0, sizeof(*a));
        output = generate(bus, "", document(question), a->path, NULL);
        assert(output >= 0);
        while ((r = read(output, a->text + n, sizeof(a->text) - n - 1)) > 0) {
                n += (size_t)r;
                a->parts++;
        }
        close(output);
        wait_for(bus, a);
}

static void refused(sd_bus *bus, const char *model, const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char path[128];

        assert(generate(bus, model, document("Hello"), path, &e) < 0);
        assert(strcmp(e.name, error) == 0);
        sd_bus_error_free(&e);
}

/* A job that reads for ever; *ret_writing keeps it so. */
static int endless(sd_bus *bus, char path[128], int *ret_writing) {
        int ends[2], output;

        assert(pipe2(ends, O_CLOEXEC) == 0);
        output = generate(bus, "", ends[0], path, NULL);
        assert(output >= 0);
        *ret_writing = ends[1];
        return output;
}

static void cancel(sd_bus *bus) {
        struct answer a = { .path = "" };
        int writing, output = endless(bus, a.path, &writing);
        char c;

        assert(sd_bus_call_method(bus, NAME, a.path, NAME ".Job", "Cancel", NULL, NULL, "") >= 0);
        wait_for(bus, &a);
        assert(strcmp(a.result, "cancelled") == 0);
        assert(read(output, &c, 1) == 0);
        close(output);
        close(writing);
}

static int hold(sd_bus *bus) {
        char path[128], c;
        int writing, output = endless(bus, path, &writing);

        puts(path);
        fflush(stdout);
        while (read(0, &c, 1) > 0)
                continue;
        close(output);
        close(writing);
        return 0;
}

int main(int argc, char **argv) {
        static const char match[] = "type='signal',interface='" NAME ".Job',member='Completed'";
        static const char question[] = "What is the capital of France?";
        struct completed completed = { .count = 0 };
        struct answer first, again;
        sd_bus *bus = NULL;

        assert(sd_bus_open_user(&bus) >= 0);
        if (argc > 1)
                return hold(bus);
        assert(sd_bus_add_match(bus, NULL, match, on_completed, &completed) >= 0);
        ask(bus, question, &first);
        assert(strstr(first.text, "Paris") && first.parts > 1);
        assert(strcmp(first.result, "done") == 0 && first.tokens_in > 0 && first.tokens_out > 0);
        while (completed.count == 0)
                if (sd_bus_process(bus, NULL) == 0)
                        assert(sd_bus_wait(bus, 10000000) >= 0);
        assert(strcmp(completed.path, first.path) == 0 && strcmp(completed.result, "done") == 0);
        refused(bus, "no-such-model", NAME ".Error.ModelNotFound");
        cancel(bus);
        ask(bus, question, &again);
        assert(strcmp(first.text, again.text) == 0 && first.tokens_out == again.tokens_out);
        sd_bus_flush_close_unref(bus);
        puts("ok");
        return 0;
}
