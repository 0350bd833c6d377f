/* Building, reloading and ending the daemon. Order: configuration, places, processes, modules,
 * sockets, then READY; models are prepared while clients already connect. At SIGTERM nothing new is
 * taken and jobs have a moment to end with an error their clients can read; then all is torn down
 * in the opposite order, which leaves no socket file and no process. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/control.h"
#include "daemon/broker/counts.h"
#include "daemon/broker/idle.h"
#include "daemon/broker/log.h"
#include "daemon/broker/tasks.h"
#include "engine/base/macro.h"
#include "kernels/cpu.h"
#include "policy/quota_key.h"

static int fail(int status, const char *what, int error) {
        fprintf(stderr, "bitnetd: %s: %s\n", what, strerror(-error));
        return status;
}

static uint32_t cpu_count(void) {
        cpu_set_t set;
        int n = sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : CPU_COUNT(&set);

        return (uint32_t)MIN(n, WIRE_MAX_THREADS);
}

static uint32_t cpu_mask(enum cpu_level level) {
        static const uint32_t masks[_CPU_LEVEL_MAX] = {
                [CPU_LEVEL_C] = 0,
                [CPU_LEVEL_AVX2] = CPU_AVX2,
                [CPU_LEVEL_AVXVNNI] = CPU_AVX2 | CPU_AVXVNNI,
                [CPU_LEVEL_AVX512VL] = CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512VL,
                [CPU_LEVEL_AVX512VNNI] = CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512VL | CPU_AVX512VNNI,
                [CPU_LEVEL_AVX512VBMI] = CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512VL | CPU_AVX512VNNI |
                                         CPU_AVX512VBMI,
                [CPU_LEVEL_ALL] = CPU_ALL,
        };

        return masks[level];
}

/* The user database did not answer when somebody's limits were looked for. */
static int on_ask_again(sd_event_source *source, uint64_t usec, void *userdata) {
        struct broker *b = userdata;

        b->ask_again = sd_event_source_unref(b->ask_again);
        accounts_resolve(b->accounts);
        workers_limits_changed(b->workers);
        return 0;
}

static void resolve(const struct account_id *id, struct limits *ret, void *userdata) {
        struct broker *b = userdata;

        if (settings_resolve(b->settings.config, &b->settings.identities, id, ret, NULL) < 0 &&
            !b->ask_again)
                sd_event_add_time_relative(b->event, &b->ask_again, CLOCK_MONOTONIC,
                                           IDENTITY_AGAIN_USEC, 1000000, on_ask_again, b);
}

/* Groups are those of the user database: a process may choose among its own. Only who has no entry
 * there belongs to the group that the kernel told; without any, or an answer, to himself. */
static struct domain domain_of(const struct account *account, void *userdata) {
        struct broker *b = userdata;
        enum isolation kind = config_broker(b->settings.config)->isolation;
        struct domain d = { .kind = ISOLATION_UID, .id = account->id.uid };
        const struct identity *who;

        memcpy(d.slice, account->id.slice, sizeof(d.slice));
        if (kind == ISOLATION_HOST) {
                d.kind = ISOLATION_HOST;
                d.id = 0;
        } else if (kind == ISOLATION_GROUP &&
                   identities_get(&b->settings.identities, account->id.uid, &who) == 0 &&
                   (who->name || account->gid != (gid_t)-1)) {
                d.kind = ISOLATION_GROUP;
                d.id = who->name ? who->gid : account->gid;
        }
        return d;
}

/* What [Default], and a section about the slice, says of a worker of several users. */
static void limits_of_domain(const struct domain *d, struct limits *ret, void *userdata) {
        struct account_id nobody = { .uid = (uid_t)-1 };

        memcpy(nobody.slice, d->slice, sizeof(nobody.slice));
        resolve(&nobody, ret, userdata);
}

static struct quota_clock clocks(void *userdata) {
        return (struct quota_clock){ .monotonic = now_monotonic(), .realtime = now_realtime() };
}

static void on_used(void *userdata) {
        const struct broker *b = userdata;

        if (b->quota_file)
                quota_file_touch(b->quota_file);
}

static struct worker *worker_of(struct lease_domain *domain) {
        return (struct worker *)((char *)domain - offsetof(struct worker, lease));
}

static void on_overrun(struct lease_domain *domain, bool hopeless) {
        struct worker *w = worker_of(domain);
        bool power_of_two = (domain->overruns & (domain->overruns - 1)) == 0;

        if (hopeless || power_of_two)
                log_event(LOG_WORKER_OVERRUN, w->first_uid, (uint64_t)w->pid,
                          domain->overruns);
        if (hopeless)
                worker_doom(w, FAILURE_OVERRUN);
}

static void send_lease(struct lease_domain *domain, uint64_t usec, uint64_t seq) {
        struct worker *w = worker_of(domain);
        union wire_message m = { .lease = { .h.type = WIRE_LEASE, .seq = seq, .usec = usec } };

        worker_send(w, &m, -1);
}

static void on_models_changed(void *userdata) {
        struct broker *b = userdata;

        workers_models_changed(b->workers);
}

static void on_model_settled(const struct store_model *model, enum error_code how,
                             void *userdata) {
        struct broker *b = userdata;

        tasks_settled(b->tasks, model, how);
}

static void on_unavailable(int fd, void *userdata) {
        struct broker *b = userdata;
        struct refusal why = { .code = workers_stopping(b->workers) ? ERROR_STOPPING
                                                                    : ERROR_UNAVAILABLE };

        if (b->api)
                listener_refuse(b->api, fd, &why);
        else
                close(fd);
}

static void on_all_gone(void *userdata) {
        struct broker *b = userdata;

        sd_event_exit(b->event, 0);
}

/* The private bus is the only place where one client can make us hold many descriptors. */
static void on_exhausted(void *userdata) {
        struct broker *b = userdata;

        if (b->bus)
                bus_drop_idle(b->bus);
}

static bool in_use(const struct store_model *model, void *userdata) {
        const struct broker *b = userdata;

        return workers_use_model(b->workers, model->name);
}

/* In the order of what it costs to have it back: a beginning is read again, a worker starts in
 * tens of milliseconds, weights come from the disk. */
static void on_pressure(enum pressure_step step, void *userdata) {
        struct broker *b = userdata;

        if (step != b->metrics.pressure_step)
                log_event(LOG_PRESSURE, step, workers_count(b->workers), 0);
        b->metrics.pressure_step = step;
        b->metrics.relief[step]++;
        if (step >= PRESSURE_CACHES)
                workers_drop_caches(b->workers);
        if (step >= PRESSURE_WORKERS)
                workers_end_idle(b->workers, step >= PRESSURE_WEIGHTS);
        if (step >= PRESSURE_WEIGHTS)
                store_forget_unused(b->store, in_use, b);
}

/* Without such a file (a kernel without PSI) there is nothing to react to. */
static int watch_pressure(struct broker *b) {
        const char *path = b->options.pressure_file;
        int r;

        if (path && !*path)
                return 0;
        r = pressure_new(&b->pressure, b->event, path, on_pressure, b);
        if (r < 0)
                log_event(LOG_NO_PRESSURE, (uint64_t)-r, 0, 0);
        return r < 0 && path ? r : 0;
}

static void add_models(struct broker *b) {
        const struct options *o = &b->options;
        struct limits everybody;
        int r;

        for (unsigned i = 0; i < o->n_models; i++) {
                r = store_add_file(b->store, o->models[i]);
                if (r < 0 && r != -EEXIST)
                        fprintf(stderr, "bitnetd: --model %s: %s\n", o->models[i], strerror(-r));
        }
        for (unsigned i = 0; i < o->n_model_dirs; i++) {
                r = store_add_dir(b->store, o->model_dirs[i]);
                if (r < 0)
                        fprintf(stderr, "bitnetd: --model-dir %s: %s\n", o->model_dirs[i],
                                strerror(-r));
        }
        if (o->n_models == 0 && o->n_model_dirs == 0)
                store_add_dir(b->store, BITNETD_MODELDIR);
        r = store_add_installed(b->store);
        if (r < 0)
                fprintf(stderr, "bitnetd: installed models: %s\n", strerror(-r));
        resolve(&(struct account_id){ .uid = (uid_t)-1 }, &everybody, b);
        store_set_default(b->store, limits_text(&everybody, QUOTA_DEFAULT_MODEL));
        store_start(b->store);
}

static enum wire_kv wire_kv(enum kv_type type) {
        return type == KV_TYPE_S8 ? WIRE_KV_S8 : type == KV_TYPE_F16 ? WIRE_KV_F16 : WIRE_KV_S16;
}

static int build_modules(struct broker *b) {
        const struct config_broker *config = config_broker(b->settings.config);
        const struct options *o = &b->options;
        uint32_t wanted = o->threads ? o->threads : config->threads;
        uint32_t threads = wanted ? wanted : cpu_count();
        uint32_t mask = cpu_mask(o->cpu_given ? o->cpu : config->cpu);
        struct store_settings store = {
                .state_dir = b->places.state_dir, .spawn = &b->spawn, .cpu_mask = mask,
                .i2s = o->i2s, .packing = o->packing,
                .changed = on_models_changed, .settled = on_model_settled, .userdata = b };
        struct workers_settings workers = {
                .spawn = &b->spawn, .threads = threads, .cpu_mask = mask,
                .kv = wire_kv(o->kv_given ? o->kv : config->kv),
                .domain = domain_of, .limits = limits_of_domain,
                .unavailable = on_unavailable, .exhausted = on_exhausted,
                .all_gone = on_all_gone, .userdata = b };
        struct leases_settings leases = {
                .threads = threads, .send = send_lease, .overran = on_overrun };
        struct accounts_settings accounts = { .resolve = resolve, .now = clocks,
                                              .changed = on_used, .userdata = b };
        int r = sd_event_default(&b->event);

        /* Pings while the loop turns, when the unit asks for it (WatchdogSec=). */
        if (r >= 0)
                r = sd_event_set_watchdog(b->event, true);
        if (r >= 0)
                r = accounts_new(&b->accounts, &accounts);
        if (r >= 0)
                r = quota_file_new(&b->quota_file, b->event, b->places.state_dir,
                                   QUOTA_FILE_USEC, b->accounts);
        if (r >= 0)
                r = receipt_key_load(b->places.state_dir, workers.receipt_secret);
        if (r >= 0)
                r = jobs_new(&b->jobs, b->event, &b->metrics);
        if (r >= 0)
                r = sessions_new(&b->sessions, b->event);
        if (r >= 0)
                r = counts_new(&b->counts, b->event);
        if (r >= 0)
                r = tasks_new(&b->tasks, b->event, b->jobs, b->accounts);
        if (r >= 0)
                r = store_new(&b->store, b->event, &store);
        if (r >= 0)
                r = leases_new(&b->leases, b->event, &leases);
        if (r < 0)
                return r;
        tasks_set_store(b->tasks, b->store);
        workers.event = b->event;
        workers.store = b->store;
        workers.jobs = b->jobs;
        workers.leases = b->leases;
        workers.accounts = b->accounts;
        workers.metrics = &b->metrics;
        workers.holds = &b->holds;
        workers.sessions = b->sessions;
        workers.counts = b->counts;
        workers.settings = &b->settings;
        workers.tasks = b->tasks;
        return workers_new(&b->workers, &workers);
}

static int open_socket(const char *path, mode_t mode, int *fd, bool *ret_own) {
        int r;

        if (*fd >= 0)
                return 0;
        r = places_listen(path, mode, fd);
        if (r < 0)
                return r;
        *ret_own = true;
        return 0;
}

static int open_sockets(struct broker *b) {
        mode_t mode = b->options.socket_mode ? b->options.socket_mode
                                             : b->options.user ? 0600 : 0666;
        _cleanup_close_ int api = -1, bus = -1, admin = -1;
        struct bus_settings settings = {
                .system = !b->options.user, .workers = b->workers, .broker = b,
                .api_socket = b->places.api_socket };
        int r = places_inherited(&api, &bus, &admin);

        if (r >= 0)
                r = open_socket(b->places.api_socket, mode, &api, &b->own_api_socket);
        if (r >= 0)
                r = open_socket(b->places.bus_socket, mode, &bus, &b->own_bus_socket);
        if (r >= 0)
                r = open_socket(b->places.admin_socket, 0600, &admin, &b->own_admin_socket);
        if (r >= 0)
                r = admin_new(&b->admin, b->event, admin, b->workers);
        if (r < 0)
                return r;
        admin = -1;
        r = listener_new(&b->api, b->event, api, b->workers, on_exhausted, b);
        if (r < 0)
                return r;
        api = -1;
        r = bus_new(&b->bus, b->event, bus, &settings);
        if (r >= 0)
                bus = -1;
        return r;
}

/* Takes the configuration: from here on it is in force. */
static void put_in_force(struct broker *b, struct config *config) {
        struct config *old = b->settings.config;

        b->settings.config = config;
        accounts_resolve(b->accounts);
        config_free(old); /* no account has texts of it any more */
        workers_limits_changed(b->workers);
        add_models(b);
        on_models_changed(b);
        log_event(LOG_RELOADED, 0, 0, 0);
}

int broker_reload(struct broker *b, struct config_problem *ret_problem) {
        identities_forget(&b->settings.identities);
        return broker_set_quota(b, 0, NULL, 0, false, ret_problem);
}

int broker_set_quota(struct broker *b, uid_t uid, const struct settings_change *changes, size_t n,
                     bool persistent, struct config_problem *ret_problem) {
        struct config *config;
        int r = n > 0 ? settings_change(&b->settings, uid, changes, n, persistent, &config,
                                        ret_problem)
                      : settings_read(&b->settings, &config, ret_problem);

        if (r < 0)
                log_config_bad(ret_problem);
        else {
                put_in_force(b, config);
                if (n > 0)
                        log_event(LOG_QUOTA_CHANGED, uid, n, persistent);
        }
        return r;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct config_problem problem;

        broker_reload(userdata, &problem);
        return 0;
}

static void remove_sockets(struct broker *b) {
        if (b->own_api_socket)
                unlink(b->places.api_socket);
        if (b->own_bus_socket)
                unlink(b->places.bus_socket);
        if (b->own_admin_socket)
                unlink(b->places.admin_socket);
}

void broker_close_sockets(struct broker *b) {
        remove_sockets(b);
        if (!b->own_api_socket)
                listener_pause(b->api);
        if (!b->own_bus_socket)
                bus_stop_accepting(b->bus);
        b->own_api_socket = b->own_bus_socket = b->own_admin_socket = false;
}

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* The first signal asks everybody to end, a second one does not wait for them. */
static int on_stop(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct broker *b = userdata;

        if (workers_stopping(b->workers))
                return sd_event_exit(b->event, 0);
        log_event(LOG_STOPPING, 0, 0, 0);
        sd_notify(0, "STOPPING=1");
        remove_sockets(b);
        listener_stop(b->api, !b->own_api_socket);
        bus_stop_accepting(b->bus);
        control_stop(b->workers);
        if (workers_count(b->workers) == 0)
                return sd_event_exit(b->event, 0);
        return sd_event_add_time_relative(b->event, &b->stop_timer, CLOCK_MONOTONIC,
                                          LIMIT_STOP_USEC, 0, on_stop_timer, b);
}

static int watch_signals(struct broker *b) {
        int r = sd_event_add_signal(b->event, NULL, SIGTERM, on_stop, b);

        if (r >= 0)
                r = sd_event_add_signal(b->event, NULL, SIGINT, on_stop, b);
        if (r >= 0)
                r = sd_event_add_signal(b->event, NULL, SIGHUP, on_reload, b);
        return r;
}

/* Each connection costs a descriptor until its worker has it; soft limits of 1024 are too few. */
static void raise_descriptor_limit(void) {
        struct rlimit l;

        if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
                l.rlim_cur = MIN(l.rlim_max, 16384);
                setrlimit(RLIMIT_NOFILE, &l);
        }
}

static int read_settings(struct broker *b) {
        struct config_problem problem;
        int r = settings_init(&b->settings, &b->options, &b->places);

        if (r == 0)
                r = settings_read(&b->settings, &b->settings.config, &problem);
        if (r != -EINVAL)
                return r < 0 ? fail(EX_CONFIG, "configuration", r) : 0;
        fprintf(stderr, "bitnetd: %s:%u: %s\n", problem.path, problem.line, problem.reason);
        return EX_CONFIG;
}

/* Whoever starts the daemon by hand ends it by hand. */
static uint64_t idle_seconds(const struct broker *b) {
        const struct config_broker *config = config_broker(b->settings.config);

        if (b->options.idle_given)
                return b->options.idle_exit;
        if (config->idle_given)
                return config->idle_exit;
        return b->options.user || b->own_api_socket ? 0 : IDLE_EXIT_SEC;
}

static int prepare(struct broker *b) {
        int r = places_init(&b->places, &b->options);

        if (r < 0)
                return fail(EX_CANTCREAT, "runtime or state folder", r);
        r = read_settings(b);
        if (r != 0)
                return r;
        r = spawn_init(&b->spawn, !b->options.user, b->options.debug);
        if (r < 0)
                return fail(EX_UNAVAILABLE, "worker program", r);
        r = build_modules(b);
        if (r >= 0)
                r = watch_signals(b);
        if (r < 0)
                return fail(EX_OSERR, "start", r);
        r = open_sockets(b);
        if (r < 0)
                return fail(EX_CANTCREAT, "sockets", r);
        r = watch_pressure(b);
        if (r < 0)
                return fail(EX_NOINPUT, "pressure file", r);
        r = idle_watch(b, idle_seconds(b));
        if (r < 0)
                return fail(EX_OSERR, "start", r);
        add_models(b);
        return 0;
}

static void tear_down(struct broker *b) {
        remove_sockets(b);
        b->stop_timer = sd_event_source_disable_unref(b->stop_timer);
        b->idle.timer = sd_event_source_disable_unref(b->idle.timer);
        b->pressure = pressure_free(b->pressure);
        b->api = listener_free(b->api);
        b->admin = admin_free(b->admin);
        b->tasks = tasks_free(b->tasks);
        b->store = store_free(b->store); /* with its packer: the next line waits for all children */
        if (b->bus)
                bus_end_residencies(b->bus);
        b->workers = workers_free(b->workers);
        b->bus = bus_free(b->bus);
        b->leases = leases_free(b->leases);
        b->jobs = jobs_free(b->jobs);
        b->sessions = sessions_free(b->sessions);
        b->counts = counts_free(b->counts);
        b->quota_file = quota_file_free(b->quota_file);
        b->accounts = accounts_free(b->accounts);
        settings_done(&b->settings);
        spawn_done(&b->spawn);
        b->event = sd_event_unref(b->event);
}

int broker_run(struct broker *b) {
        int r;

        raise_descriptor_limit();
        r = prepare(b);
        if (r == 0) {
                log_event(LOG_READY, store_count(b->store), 0, 0);
                sd_notify(0, "READY=1\nSTATUS=Serving.");
                r = sd_event_loop(b->event);
                r = r < 0 ? fail(EX_OSERR, "event loop", r) : 0;
        }
        tear_down(b);
        return r;
}
