#!/bin/sh
# Runs a test's program as on a fresh machine (link-declared-programs.sh).
declared=${0%/*}/../../target/tools/declared
[ ! -d "$declared" ] || PATH=$(cd "$declared" && pwd)
exec "$@"
