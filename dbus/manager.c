/* org.bitnetd.Bitnetd1.Manager: starting, listing and cancelling jobs; the catalogue; numbers.
 * Methods return at once. What they show of jobs is the caller's own, unless an administrator asks
 * for all. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dbus/options.h"
#include "dbus/peer.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

int manager_submit(sd_bus_message *m, struct peer *p, enum wire_verb verb,
                   struct session *session, sd_bus_error *e) {
        struct workers *workers = p->owner->settings.workers;
        struct wire_job request = options_default(verb);
        char key[OPTION_KEY_MAX + 1], path[JOB_PATH_SIZE];
        _cleanup_free_ char *own_path = NULL;
        _cleanup_close_ int output = -1;
        struct refusal refusal = {};
        enum error_code error;
        const char *model = session ? session->model : "", *token;
        struct account_id who;
        struct job *job;
        int input, r = 0;

        if (session)
                who = session->charge.account->id; /* its worker has the conversation */
        else
                r = peer_account(p, m, &who, e);
        if (r >= 0)
                r = session ? sd_bus_message_read(m, "h", &input)
                            : sd_bus_message_read(m, "sh", &model, &input);
        if (r < 0)
                return r;
        if (model[0] && !wire_name_valid(model))
                return bus_error(e, ERROR_MODEL_NOT_FOUND, 0, 0);
        snprintf(request.model, sizeof(request.model), "%s", model);
        error = options_read(m, &request, &token, key);
        if (error != ERROR_NONE)
                return option_error(e, error, key);
        r = job_new_path(p, m, token, &own_path);
        if (r != 0)
                return r < 0 ? r : bus_error(e, (enum error_code)r, 0, 0);
        request.client = peer_client(p, m);
        if (session && request.verb != WIRE_VERB_CHAT)
                return option_error(e, ERROR_INVALID_INPUT, "mode");
        request.session = session ? session->id : 0;
        error = control_submit(workers, &who, &request, input, &job, &output, &refusal);
        if (error != ERROR_NONE)
                return peer_refuse(p, who.uid, verb, &refusal, e);
        if (session)
                session_turn(session, job);
        r = job_own(p, job, m, TAKE_PTR(own_path));
        if (r < 0) {
                control_cancel(job, ERROR_CANCELLED);
                return r;
        }
        return sd_bus_reply_method_return(m, "oh", job_path(job, path), output);
}

static int method_generate(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_CHAT, NULL, e);
}

static int method_summarize(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_SUMMARIZE, NULL, e);
}

static int method_rewrite(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_REWRITE, NULL, e);
}

static int method_proofread(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_PROOFREAD, NULL, e);
}

static int method_extract(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_EXTRACT, NULL, e);
}

static int method_classify(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_CLASSIFY, NULL, e);
}

static int method_embed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return manager_submit(m, userdata, WIRE_VERB_EMBED, NULL, e);
}

static const struct store_model *default_of(const struct peer *p, const struct limits *limits) {
        return store_choose(peer_broker(p)->store, limits_text(limits, QUOTA_DEFAULT_MODEL), "");
}

static int method_list_models(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        const struct store *store = peer_broker(p)->store;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        struct account_id who;
        struct limits limits;
        int r = peer_account(p, m, &who, e);

        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        accounts_limits(peer_broker(p)->accounts, &who, &limits);
        r = sd_bus_message_open_container(reply, 'a', "(sttbs)");
        for (uint32_t i = 0; r >= 0 && i < store_count(store); i++) {
                const struct store_model *model = store_get(store, i);

                r = sd_bus_message_append(reply, "(sttbs)", model->name, model->size,
                                          model->created * 1000000,
                                          model == default_of(p, &limits),
                                          model_state_word(model));
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int append_job(sd_bus_message *reply, const struct job *job) {
        char path[JOB_PATH_SIZE];

        return sd_bus_message_append(
                reply, "(oussssttt)", job_path(job, path), job->uid, wire_state_name(job->state),
                job_verb_name(job), job->model, job_priority_name(job), job->created_usec,
                job->progress.tokens_in, job->progress.tokens_out);
}

static int list_jobs(sd_bus_message *m, struct peer *p, bool all, sd_bus_error *e) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const struct job *job;
        uid_t uid;
        int r = peer_uid(p, m, &uid);

        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(oussssttt)");
        for (uint32_t i = 0; r >= 0 && (job = jobs_at(p->owner->jobs, i)); i++)
                if (all || job->uid == uid)
                        r = append_job(reply, job);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int list_all_jobs(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        return list_jobs(m, p, true, e);
}

static int method_list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        bool all;

        if (options_filter(m, &all) < 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (all)
                return authorize(userdata, m, ACTION_INSPECT_OTHERS, list_all_jobs, e);
        return list_jobs(m, userdata, false, e);
}

static int list_all_sessions(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        return session_list(m, p, 0, true);
}

static int method_list_sessions(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        bool all;
        uid_t uid;
        int r;

        if (options_filter(m, &all) < 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (all)
                return authorize(userdata, m, ACTION_INSPECT_OTHERS, list_all_sessions, e);
        r = peer_uid(userdata, m, &uid);
        return r < 0 ? r : session_list(m, userdata, uid, false);
}

static int method_cancel_all(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        uid_t uid;
        int r = peer_uid(p, m, &uid);

        if (r < 0)
                return r;
        return sd_bus_reply_method_return(m, "u",
                                          control_cancel_all(p->owner->settings.workers, uid));
}

/* The verb of a use case: our own word, or that of the proposed desktop portal; 0: unknown. */
static enum wire_verb verb_of(const char *use_case) {
        static const struct {
                const char *name;
                enum wire_verb verb;
        } rows[] = { { "generate", WIRE_VERB_CHAT },
                     { "language.generate", WIRE_VERB_CHAT },
                     { "language.summarize", WIRE_VERB_SUMMARIZE },
                     { "language.rephrase", WIRE_VERB_REWRITE },
                     { "language.extract", WIRE_VERB_EXTRACT },
                     { "language.classify", WIRE_VERB_CLASSIFY },
                     { "language.embed", WIRE_VERB_EMBED } };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strcmp(rows[i].name, use_case) == 0)
                        return rows[i].verb;
        for (unsigned i = 0; i < QUOTA_VERBS; i++)
                if (strcmp(quota_verbs[i], use_case) == 0)
                        return (enum wire_verb)(WIRE_VERB_CHAT + i);
        return (enum wire_verb)0;
}

/* A word for programs, and the error a job would end with. */
static const char *availability(const struct peer *p, const struct account_id *who,
                                enum wire_verb verb, const struct limits *limits,
                                const struct store_model *model, enum error_code *ret) {
        struct account *account = accounts_find(peer_broker(p)->accounts, who);
        bool background = false;

        *ret = ERROR_NONE;
        if (!verb)
                *ret = ERROR_UNSUPPORTED;
        else if (!model)
                *ret = ERROR_MODEL_NOT_FOUND;
        else if (model->state != ERROR_NONE)
                *ret = model->state;
        else if (!limits_allow_job(limits, verb - WIRE_VERB_CHAT, model->name, &background))
                *ret = ERROR_NOT_AUTHORIZED;
        else if (account && account->used[CHARGE_JOB] >= account_limit(account, CHARGE_JOB))
                *ret = ERROR_QUEUE_FULL;
        else if (account && account_next_allowed(account) > 0)
                *ret = ERROR_RATE_LIMITED;
        switch ((unsigned)*ret) {
        case ERROR_NONE:
                return "available";
        case ERROR_UNSUPPORTED:
                return "unsupported";
        case ERROR_MODEL_LOADING:
                return "model-loading";
        case ERROR_NOT_AUTHORIZED:
                return "policy";
        case ERROR_QUEUE_FULL:
        case ERROR_RATE_LIMITED:
                return "quota";
        }
        return "no-model";
}

static int method_get_availability(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        const struct store_model *model;
        const char *use_case, *reason;
        enum error_code error;
        struct account_id who;
        struct limits limits;
        int r = peer_account(p, m, &who, e);

        if (r >= 0)
                r = sd_bus_message_read(m, "s", &use_case);
        if (r < 0)
                return r;
        accounts_limits(peer_broker(p)->accounts, &who, &limits);
        model = default_of(p, &limits);
        reason = availability(p, &who, verb_of(use_case), &limits, model, &error);
        return sd_bus_reply_method_return(m, "bssa{sv}", error == ERROR_NONE, reason,
                                          error == ERROR_NONE ? "" : error_row(error)->text, 1,
                                          "model", "s", model ? model->name : "");
}

static void count_jobs(const struct peer *p, uid_t uid, bool all, uint32_t *ret_running,
                       uint32_t *ret_waiting) {
        const struct job *job;

        *ret_running = *ret_waiting = 0;
        for (uint32_t i = 0; (job = jobs_at(p->owner->jobs, i)); i++) {
                if (job_finished(job) || (!all && job->uid != uid))
                        continue;
                if (job->admission.state == ADMISSION_RUNNING)
                        ++*ret_running;
                else
                        ++*ret_waiting;
        }
}

static int method_get_status(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        struct accounts *accounts = peer_broker(p)->accounts;
        const struct account *account;
        uint32_t running, waiting;
        uint64_t connections;
        struct account_id who;
        struct limits limits;
        uid_t uid;
        int r = peer_account(p, m, &who, e);

        if (r < 0)
                return r;
        uid = who.uid;
        account = accounts_find(accounts, &who);
        accounts_limits(accounts, &who, &limits);
        count_jobs(p, uid, uid == 0, &running, &waiting);
        connections = uid == 0 ? accounts_used(accounts, CHARGE_CONNECTION)
                      : account ? account->used[CHARGE_CONNECTION]
                                : 0;
        return sd_bus_reply_method_return(
                m, "a{sv}", 13, "uid", "u", uid, "jobs-running", "u", running, "jobs-waiting", "u",
                waiting, "connections", "u", (uint32_t)connections, "workers", "u",
                uid == 0 ? workers_count(p->owner->settings.workers)
                         : (uint32_t)(account && workers_find(p->owner->settings.workers, account)),
                "threads", "u", peer_broker(p)->threads, "max-concurrent-jobs", "u",
                (uint32_t)limits.v[QUOTA_MAX_CONCURRENT_JOBS], "max-queued-jobs", "u",
                (uint32_t)limits.v[QUOTA_MAX_QUEUED_JOBS], "max-connections", "u",
                (uint32_t)limits.v[QUOTA_MAX_CONNECTIONS], "max-input-bytes", "t",
                limits.v[QUOTA_MAX_INPUT_BYTES], "max-output-tokens", "u",
                (uint32_t)limits.v[QUOTA_MAX_OUTPUT_TOKENS], "sessions", "u",
                sessions_count(peer_broker(p)->sessions, uid == 0 ? (uid_t)-1 : uid),
                "max-sessions", "u", (uint32_t)limits.v[QUOTA_MAX_SESSIONS]);
}

static int get_interface_version(sd_bus *bus, const char *path, const char *interface,
                                 const char *property, sd_bus_message *reply, void *userdata,
                                 sd_bus_error *e) {
        return sd_bus_message_append(reply, "u", BUS_INTERFACE_VERSION);
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "as", 15, "generate", "summarize", "events", "quota",
                                     "residency", "detach", "sessions", "count", "token", "rewrite",
                                     "proofread", "extract", "classify", "embed", "receipt");
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", BITNETD_VERSION);
}

static int get_socket_path(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *e) {
        const struct peer *p = userdata;

        return sd_bus_message_append(reply, "s", p->owner->settings.api_socket);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Generate",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_generate,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Summarize",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_summarize,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Rewrite",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_rewrite,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Proofread",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_proofread,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Extract",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_extract,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Classify",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_classify,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Embed",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_embed,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CountTokens",
                                SD_BUS_ARGS("s", model, "h", input, "a{sv}", options),
                                SD_BUS_RESULT("t", tokens, "t", context), count_method_tokens,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListModels", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sttbs)", models),
                                method_list_models, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_ARGS("a{sv}", filter),
                                SD_BUS_RESULT("a(oussssttt)", jobs), method_list_jobs,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListWorkers", SD_BUS_ARGS("a{sv}", filter),
                                SD_BUS_RESULT("aa{sv}", workers), worker_method_list,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateSession", SD_BUS_ARGS("s", model, "a{sv}", options),
                                SD_BUS_RESULT("o", session), session_method_create,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListSessions", SD_BUS_ARGS("a{sv}", filter),
                                SD_BUS_RESULT("a(oustttttub)", sessions), method_list_sessions,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CancelAll", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", count),
                                method_cancel_all, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Prepare", SD_BUS_ARGS("s", model, "a{sv}", options),
                                SD_BUS_RESULT("s", name), residency_method_prepare,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("s", model), SD_BUS_NO_RESULT,
                                residency_method_release, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetAvailability",
                                SD_BUS_ARGS("s", use_case, "a{sv}", options),
                                SD_BUS_RESULT("b", available, "s", reason, "s", message, "a{sv}",
                                              details),
                                method_get_availability, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetStatus", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", status),
                                method_get_status, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetQuota", SD_BUS_ARGS("u", uid),
                                SD_BUS_RESULT("a{sv}", quota), quota_method_get,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetQuota", SD_BUS_ARGS("u", uid, "a{sv}", limits, "b", persistent),
                                SD_BUS_NO_RESULT, quota_method_set, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, quota_method_reload,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("InstallModel", SD_BUS_ARGS("h", file, "a{sv}", options),
                                SD_BUS_RESULT("o", job), model_method_install,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveModel", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", job),
                                model_method_remove, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("VerifyModel", SD_BUS_ARGS("s", name),
                                SD_BUS_RESULT("o", job), model_method_verify,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("InterfaceVersion", "u", get_interface_version, 0,
                        SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("SocketPath", "s", get_socket_path, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

int manager_register(struct peer *p) {
        return sd_bus_add_object_vtable(p->bus, NULL, BUS_ROOT, BUS_NAME ".Manager", vtable, p);
}
