/* A job, shared by the files that make it: job.c (its life) and job_work.c (what it runs). */
#pragma once

#include "daemon/worker/embed.h"
#include "daemon/worker/job.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/stop.h"

enum job_step { STEP_NEW, STEP_ADMIT, STEP_QUEUED, STEP_RUNNING, STEP_ZOMBIE, STEP_ENDED };

/* Why a running job was asked to stop. */
enum job_ending { ENDING_NO, ENDING_STOP_STRING, ENDING_ERROR };

struct job {
        struct job *next;
        struct worker *w;
        const struct job_events *events; /* NULL: abandoned */
        void *userdata;
        struct job_spec spec;
        char model_name[WIRE_NAME_MAX];
        const struct model *model;
        uint64_t ref, id;
        enum job_step step;
        enum job_ending ending;
        uint64_t deadline;               /* 0: none */

        struct tokens prompt;            /* until the generation takes it */
        uint64_t tokens_in, tokens_wanted;
        struct constraint *constraint;   /* until the generation takes it */
        struct generation *generation;
        struct summarize *summarize;
        struct task *task;
        struct tokens *inputs;           /* embed: [messages.n], until it takes them */
        struct embed *embed;
        bool paused, held;               /* by its reader; by interactive work */
        bool busy;                       /* the summary has more to do at once */
        struct stop_filter stop;
        struct receipt *receipt;         /* wanted; or NULL */
        struct secure_buf out;           /* one text event on its way */
        struct job_progress progress;
        bool progress_new;
        uint64_t progress_sent;
        struct job_result result;
};

/* job.c. The job ends, with j->result or with this error. */
void job_finish(struct job *j);
void job_fail(struct job *j, enum error_code code);
/* j->progress has changed. */
void job_report(struct job *j);

/* job_work.c. For the estimate, and (with callbacks) to start. */
struct summarize_request job_summary_request(struct job *j);
struct task_request job_task_request(struct job *j);
/* The limit that applies to the answer. */
uint64_t job_max_tokens(const struct job *j);
/* Start what the verb says; it ends the job. */
void job_work(struct job *j);
