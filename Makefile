# The project's two commands are `make demo` and `make test`. Both install
# what they need (as root, with apt) and leave nothing behind but target/.

SHELL := /bin/sh
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export CARGO_TERM_COLOR ?= auto

.PHONY: demo demo-down test soak check build image deps nextest clean

# KEEP=1 leaves the demo's host up and says how to look around.
demo: deps image
	cargo build --features testbed --bins
	target/debug/hostctl-demo $(if $(KEEP),--keep)

# Takes down what `make demo KEEP=1` left up.
demo-down:
	target/debug/hostctl-demo --down

test: deps nextest image
	cargo nextest run --features testbed --no-fail-fast
	cargo test --doc --features testbed

# Random hosts against the reachability model for MINUTES (10), from SEED (a
# new one); docs/proof.md.
soak: deps
	$(if $(SEED),HOSTCTL_SEED=$(SEED)) HOSTCTL_MINUTES=$(or $(MINUTES),10) \
		cargo test --features testbed --test proof soak::for_minutes -- --ignored --exact --nocapture

check:
	cargo fmt --check
	cargo clippy --all-targets --features testbed -- -D warnings

build:
	cargo build --release

# The guests of demo and tests.
image: deps
	vm-images/build.sh --arch x86_64
	vm-images/build.sh --arch aarch64

deps:
	@vm-images/install-dependencies.sh

nextest:
	@cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked --root target/tools

clean:
	cargo clean
