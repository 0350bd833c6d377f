#!/bin/sh
# security.sh BUILD_DIR: the built units keep their exposure, as systemd-analyze counts it (in
# tenths), and verify. Needs no root. Exits with 77 where systemd-analyze is missing or too old.
set -u
units=$1/systemd
failed=0

if ! systemd-analyze security --help 2>/dev/null | grep -q offline; then
        echo "skipped: no systemd-analyze that can check files"
        exit 77
fi
check() {
        if ! out=$(systemd-analyze security --no-pager --offline=yes --threshold="$2" \
                   "$units/$1" 2>&1); then
                echo "$out" | grep -v '✓'
                failed=1
        fi
        echo "$out" | tail -n 1
}
check bitnetd.service 4
check bitnetd-worker@.service 1
exit $failed
