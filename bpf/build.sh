#!/bin/sh
# Compiles guard.bpf.c into the file that is named. hostctl's own object,
# guard.bpf.o, is what clang 14 (Debian 12) makes of it; another compiler may be
# named by CLANG, with its llvm-strip by LLVM_STRIP.
set -eu
to=$(realpath -m "$1")
cd "$(dirname "$0")"
# No path of this machine's gets into the object; what remains of -g is BTF, by
# which the loader finds the kernel's fields.
${CLANG:-clang-14} -target bpfel -mcpu=v3 -O2 -g -Wall -Wextra -Werror \
    -fdebug-compilation-dir=/hostctl -c guard.bpf.c -o "$to"
${LLVM_STRIP:-llvm-strip-14} -g "$to"
