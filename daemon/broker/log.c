/* The log sink. Each event has a constant id for `journalctl MESSAGE_ID=`, a constant sentence and
 * up to four integers, which are fields of their own in the journal (BITNETD_UID=) and words in the
 * sentence. bitnetd.catalog explains every event to the administrator.
 *
 * The mutable state of this file is the only one of the daemon that is global: where entries go,
 * set once before the loop runs, and how many refusals were told in this minute, because a
 * client can be refused as often as it likes. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <time.h>

#include "daemon/broker/log.h"
#include "engine/base/model_error.h"

enum { REFUSALS_PER_MINUTE = 30 };

struct row {
        const char *id; /* last four hex digits of the message id */
        int level;
        unsigned numbers;
        const char *text; /* printed before the numbers; NULL: somebody else writes the line */
        const char *names[LOG_NUMBERS];
};

static const struct row rows[_LOG_MAX] = {
        [LOG_READY] = { "0001", LOG_INFO, 1, "ready", { "models" } },
        [LOG_STOPPING] = { "0002", LOG_INFO, 0, "stopping", {} },
        [LOG_RELOADED] = { "0003", LOG_INFO, 0, "configuration reloaded", {} },
        [LOG_CONFIG_BAD] = { "0004", LOG_ERR, 1, NULL, { "line" } },
        [LOG_BUS_MISSING] = { "0005", LOG_NOTICE, 1, "no message bus, only the private socket",
                              { "errno" } },
        [LOG_BUS_LOST] = { "0006", LOG_WARNING, 1, "message bus lost", { "errno" } },
        [LOG_ACCEPT_FAILED] = { "0007", LOG_WARNING, 1, "cannot accept a connection",
                                { "errno" } },
        [LOG_WORKER_STARTED] = { "0010", LOG_DEBUG, 2, "worker started", { "uid", "pid" } },
        [LOG_WORKER_READY] = { "0011", LOG_INFO, 3, "worker ready", { "uid", "pid", "landlock" } },
        [LOG_WORKER_IDLE] = { "0012", LOG_INFO, 2, "worker idle, ending it", { "uid", "pid" } },
        [LOG_WORKER_FAILED] = { "0013", LOG_WARNING, 3, "worker failed",
                                { "uid", "pid", "reason" } },
        [LOG_WORKER_EXITED] = { "0014", LOG_DEBUG, 2, "worker process ended",
                                { "pid", "status" } },
        [LOG_WORKER_FAULT] = { "0015", LOG_WARNING, 3, "worker reports a fault",
                               { "uid", "pid", "code" } },
        [LOG_WORKER_OVERRUN] = { "0016", LOG_WARNING, 3, "worker keeps computing after its lease",
                                 { "uid", "pid", "times" } },
        [LOG_START_FAILED] = { "0017", LOG_ERR, 2, "cannot start a worker", { "uid", "errno" } },
        [LOG_MODEL_READY] = { "0020", LOG_INFO, 2, "model ready", { "index", "bytes" } },
        [LOG_MODEL_BAD] = { "0021", LOG_ERR, 4, NULL, { "code", "position", "value", "limit" } },
        [LOG_MODEL_CHANGED] = { "0022", LOG_WARNING, 1, "packed model does not match its digest",
                                { "index" } },
        [LOG_PACK_STARTED] = { "0023", LOG_INFO, 2, "packing model", { "index", "bytes" } },
        [LOG_PACK_FAILED] = { "0024", LOG_WARNING, 3, "packing failed",
                              { "index", "errno", "attempt" } },
        [LOG_IDENTITY_UNKNOWN] = { "0030", LOG_WARNING, 2, "the user database does not answer",
                                   { "uid", "errno" } },
        [LOG_QUOTA_FILE] = { "0031", LOG_WARNING, 1, "cannot keep what was used today",
                             { "errno" } },
        [LOG_IDLE] = { "0008", LOG_INFO, 0, "nobody is there, ending", {} },
        [LOG_PRESSURE] = { "0009", LOG_NOTICE, 2, "memory pressure", { "step", "workers" } },
        [LOG_NO_PRESSURE] = { "000a", LOG_INFO, 1, "memory pressure cannot be read",
                              { "errno" } },
        [LOG_MODEL_COLD] = { "0025", LOG_INFO, 2, "reading a packed model again",
                             { "index", "bytes" } },
        [LOG_WORKER_ENDED] = { "0018", LOG_INFO, 3, "worker ended",
                               { "uid", "pid", "cpu_usec" } },
        [LOG_JOB_LOST] = { "0019", LOG_WARNING, 3, "job lost with its worker",
                           { "uid", "job", "verb" } },
        [LOG_JOB_REFUSED] = { "001a", LOG_INFO, 4, "refused", { "uid", "verb", "job", "error" } },
        [LOG_REFUSALS] = { "001b", LOG_INFO, 1, "more refusals that were not logged",
                           { "count" } },
        [LOG_QUOTA_CHANGED] = { "0032", LOG_NOTICE, 3, "quota changed",
                                { "uid", "keys", "persistent" } },
};

static struct {
        bool to_journal;
        time_t minute;
        unsigned told, held_back;
} state;

void log_to_journal(bool yes) {
        state.to_journal = yes;
}

static void add_number(struct log_entry *e, const char *name, uint64_t value) {
        char *field = e->fields[e->n++];
        size_t n = (size_t)snprintf(field, LOG_FIELD_SIZE, "BITNETD_");

        for (; *name && n < LOG_FIELD_SIZE - 24; name++)
                field[n++] = (char)toupper(*name);
        snprintf(field + n, LOG_FIELD_SIZE - n, "=%" PRIu64, value);
}

void log_build(struct log_entry *e, enum log_event event, const char *line,
               const uint64_t v[LOG_NUMBERS]) {
        const struct row *row = &rows[event];
        char *text = e->fields[0];
        size_t n = (size_t)snprintf(text, LOG_FIELD_SIZE, "MESSAGE=%s", line ? line : row->text);

        for (unsigned i = 0; !line && i < row->numbers; i++)
                n += (size_t)snprintf(text + n, LOG_FIELD_SIZE - n, " %s=%" PRIu64, row->names[i],
                                      v[i]);
        snprintf(e->fields[1], LOG_FIELD_SIZE, "PRIORITY=%i", row->level);
        snprintf(e->fields[2], LOG_FIELD_SIZE, "MESSAGE_ID=b17e7d0000000000000000000000%s",
                 row->id);
        e->n = 3;
        for (unsigned i = 0; i < row->numbers; i++)
                add_number(e, row->names[i], v[i]);
}

static void write_entry(enum log_event event, const char *line, const uint64_t v[LOG_NUMBERS]) {
        struct iovec iov[LOG_FIELDS];
        struct log_entry e;

        log_build(&e, event, line, v);
        for (unsigned i = 0; i < e.n; i++)
                iov[i] = (struct iovec){ e.fields[i], strlen(e.fields[i]) };
        if (state.to_journal)
                sd_journal_sendv(iov, (int)e.n);
        else
                fprintf(stderr, "bitnetd: %s\n", e.fields[0] + strlen("MESSAGE="));
}

void log_event(enum log_event event, uint64_t a, uint64_t b, uint64_t c) {
        write_entry(event, NULL, (const uint64_t[LOG_NUMBERS]){ a, b, c });
}

/* The first ones of a minute; how many more there were is said with the first of another minute. */
void log_refused(uint64_t uid, uint32_t verb, uint64_t job, uint32_t error) {
        time_t minute = time(NULL) / 60;

        if (minute != state.minute) {
                unsigned more = state.held_back;

                state.minute = minute;
                state.told = state.held_back = 0;
                if (more > 0)
                        log_event(LOG_REFUSALS, more, 0, 0);
        }
        if (state.told++ < REFUSALS_PER_MINUTE)
                write_entry(LOG_JOB_REFUSED, NULL,
                            (const uint64_t[LOG_NUMBERS]){ uid, verb, job, error });
        else
                state.held_back++;
}

void log_model_bad(const char *name, uint32_t code, uint64_t position, uint64_t value,
                   uint64_t limit) {
        char line[384];

        snprintf(line, sizeof(line),
                 "model \"%s\" refused: %s (code=%" PRIu32 " position=%" PRIu64 " value=%" PRIu64
                 " limit=%" PRIu64 ")",
                 name, model_error_text((enum model_error_code)code), code, position, value, limit);
        write_entry(LOG_MODEL_BAD, line,
                    (const uint64_t[LOG_NUMBERS]){ code, position, value, limit });
}

void log_config_bad(const struct config_problem *problem) {
        char line[CONFIG_PATH_MAX + 128];

        snprintf(line, sizeof(line), "configuration refused, the old one stays: %s:%u: %s",
                 problem->path, problem->line, problem->reason);
        write_entry(LOG_CONFIG_BAD, line, (const uint64_t[LOG_NUMBERS]){ problem->line });
}
