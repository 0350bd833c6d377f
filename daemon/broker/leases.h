/* The CPU leases of policy/lease.h on the clock and the links of this daemon. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "policy/lease.h"

struct leases;

struct leases_settings {
        uint32_t threads;
        /* Deliver a lease to the worker this domain is part of. */
        void (*send)(struct lease_domain *domain, uint64_t usec, uint64_t seq);
        /* It has not given its lease back in time; hopeless: its worker is to be ended. */
        void (*overran)(struct lease_domain *domain, bool hopeless);
};

int leases_new(struct leases **ret, sd_event *event, const struct leases_settings *settings);
struct leases *leases_free(struct leases *l);

/* Thread-microseconds charged since the start. */
uint64_t leases_total(const struct leases *l);

void leases_add(struct leases *l, struct lease_domain *d);
void leases_remove(struct leases *l, struct lease_domain *d);
void leases_set_weight(struct leases *l, struct lease_domain *d, uint32_t weight);
void leases_set_class(struct leases *l, struct lease_domain *d, enum lease_class class);
void leases_used(struct leases *l, struct lease_domain *d, bool want, bool stopped, uint64_t seq);
