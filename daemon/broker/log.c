/* The log sink: the one mutable global of the daemon, set once before the loop runs. Each event
 * has a constant id for `journalctl MESSAGE_ID=` and a constant sentence with three integers at
 * most. */
#include <inttypes.h>
#include <stdio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#include "daemon/broker/log.h"
#include "engine/base/model_error.h"

struct row {
        const char *id; /* last four hex digits of the message id */
        int level;
        unsigned numbers;
        const char *text; /* printed before the numbers */
        const char *names[3];
};

static const struct row rows[_LOG_MAX] = {
        [LOG_READY] = { "0001", LOG_INFO, 1, "ready", { "models" } },
        [LOG_STOPPING] = { "0002", LOG_INFO, 0, "stopping", {} },
        [LOG_RELOADED] = { "0003", LOG_INFO, 0, "configuration reloaded", {} },
        [LOG_CONFIG_BAD] = { "0004", LOG_ERR, 0, NULL, {} },
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
        [LOG_MODEL_BAD] = { "0021", LOG_ERR, 0, NULL, {} },
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
};

static bool to_journal;

void log_to_journal(bool yes) {
        to_journal = yes;
}

static void write_line(const struct row *row, const char *line) {
        if (to_journal)
                sd_journal_send("MESSAGE=%s", line, "PRIORITY=%i", row->level,
                                "MESSAGE_ID=b17e7d0000000000000000000000%s", row->id, NULL);
        else
                fprintf(stderr, "bitnetd: %s\n", line);
}

void log_event(enum log_event event, uint64_t a, uint64_t b, uint64_t c) {
        const struct row *row = &rows[event];
        const uint64_t v[] = { a, b, c };
        char line[256];
        size_t n = 0;

        n = (size_t)snprintf(line, sizeof(line), "%s", row->text);
        for (unsigned i = 0; i < row->numbers; i++)
                n += (size_t)snprintf(line + n, sizeof(line) - n, " %s=%" PRIu64, row->names[i],
                                      v[i]);
        write_line(row, line);
}

void log_model_bad(const char *name, uint32_t code, uint64_t position, uint64_t value,
                   uint64_t limit) {
        char line[384];

        snprintf(line, sizeof(line),
                 "model \"%s\" refused: %s (code=%" PRIu32 " position=%" PRIu64 " value=%" PRIu64
                 " limit=%" PRIu64 ")",
                 name, model_error_text((enum model_error_code)code), code, position, value, limit);
        write_line(&rows[LOG_MODEL_BAD], line);
}

void log_config_bad(const struct config_problem *problem) {
        char line[CONFIG_PATH_MAX + 128];

        snprintf(line, sizeof(line), "configuration refused, the old one stays: %s:%u: %s",
                 problem->path, problem->line, problem->reason);
        write_line(&rows[LOG_CONFIG_BAD], line);
}
