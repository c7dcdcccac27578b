# The project's two commands are `make demo` and `make test`. Both install
# what they need (as root, with apt) and leave nothing behind but target/.

SHELL := /bin/sh
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export CARGO_TERM_COLOR ?= auto

.PHONY: demo demo-down test fresh soak bench check build guard image deps nextest clean install uninstall

# Where `make install` puts things; DESTDIR goes before all of them, for packages.
PREFIX ?= /usr/local
PROGRAM ?= target/release/hostctl
BINDIR = $(PREFIX)/bin
UNITDIR ?= /etc/systemd/system
MANDIR = $(PREFIX)/share/man/man1
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
UNITS = hostctl-hold.service hostctl-firewall.service hostctl.service hostctl-vm@.service hostctl-audit.service nftables.service.d/hostctl.conf

# KEEP=1 leaves the demo's host up and says how to look around.
demo: deps image
	cargo build --features testbed --bins
	target/debug/hostctl-demo $(if $(KEEP),--keep)

# Takes down what `make demo KEEP=1` left up.
demo-down:
	target/debug/hostctl-demo --down

# The tests' PATH holds what install-dependencies.sh declares, and no more
# (.cargo/config.toml), in a directory that programs of other users see too.
test: deps nextest image
	directory=$$(mktemp -d) && chmod 755 "$$directory" && \
	trap 'rm -rf "$$directory"' EXIT && trap 'exit 1' HUP INT TERM && \
	HOSTCTL_TEST_PATH=$$(tests/fresh_machine/link-declared-programs.sh "$$directory/declared") && \
	export HOSTCTL_TEST_PATH && \
	cargo nextest run --features testbed --no-fail-fast && \
	cargo test --doc --features testbed

# `make test` and `make demo` on minimal machines of Debian 12 and 13, or of
# SUITE (bookworm, trixie); what isn't committed isn't there.
fresh:
	@tests/fresh_machine/run.sh $(SUITE)

# Random hosts against the reachability model, then hostile guests with random
# parameters, then frames with random virtio headers, each for MINUTES (10),
# from SEED (a new one); docs/proof.md.
soak: deps
	$(if $(SEED),HOSTCTL_SEED=$(SEED)) HOSTCTL_MINUTES=$(or $(MINUTES),10) \
		cargo test --features testbed --test all proof::soak::for_minutes -- --ignored --exact --nocapture
	$(if $(SEED),HOSTCTL_SEED=$(SEED)) HOSTCTL_MINUTES=$(or $(MINUTES),10) \
		cargo test --features testbed --test all adversary::soak::for_minutes -- --ignored --exact --nocapture
	$(if $(SEED),HOSTCTL_SEED=$(SEED)) HOSTCTL_MINUTES=$(or $(MINUTES),10) \
		cargo test --features testbed --test all guard::fuzz::for_minutes -- --ignored --exact --nocapture

# Measures and writes docs/performance.md; QUESTION=packets asks one only, and
# ROUNDS=5 SIZES=5,10000 makes a quick run that writes nothing.
bench: deps image
	@benches/install-dependencies.sh
	cargo bench --features testbed --bench performance -- $(QUESTION)

check:
	cargo fmt --check
	cargo clippy --all-targets --features testbed -- -D warnings
	cargo clippy --no-default-features -- -D warnings

build:
	cargo build --release

# The program that judges guests' virtio headers, as it is committed.
guard: deps
	bpf/build.sh bpf/guard.bpf.o

# The guests of demo and tests.
image: deps
	vm-images/build.sh --arch x86_64
	vm-images/build.sh --arch aarch64

deps:
	@vm-images/install-dependencies.sh

nextest:
	@cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked --root target/tools

# The program, its manual pages, completions and units; nothing is started.
# After `make build`.
install:
	@test -x "$(PROGRAM)" || { echo "there is no $(PROGRAM): run make build" >&2; exit 1; }
	install -D -m 755 "$(PROGRAM)" "$(DESTDIR)$(BINDIR)/hostctl"
	install -d -m 755 "$(DESTDIR)$(MANDIR)"
	umask 022 && "$(PROGRAM)" man "$(DESTDIR)$(MANDIR)"
	"$(PROGRAM)" completions bash | install -D -m 644 /dev/stdin "$(DESTDIR)$(BASHDIR)/hostctl"
	"$(PROGRAM)" completions zsh | install -D -m 644 /dev/stdin "$(DESTDIR)$(ZSHDIR)/_hostctl"
	"$(PROGRAM)" completions fish | install -D -m 644 /dev/stdin "$(DESTDIR)$(FISHDIR)/hostctl.fish"
	for unit in $(UNITS); do \
	    install -D -m 644 "templates/systemd/$$unit" "$(DESTDIR)$(UNITDIR)/$$unit" && \
	    sed -i 's|@hostctl@|$(BINDIR)/hostctl|' "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done

# What install made; specs, images, disks and a running host stay.
uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/hostctl" "$(DESTDIR)$(MANDIR)/hostctl.1" "$(DESTDIR)$(MANDIR)"/hostctl-*.1
	rm -f "$(DESTDIR)$(BASHDIR)/hostctl" "$(DESTDIR)$(ZSHDIR)/_hostctl" "$(DESTDIR)$(FISHDIR)/hostctl.fish"
	for unit in $(UNITS); do rm -f "$(DESTDIR)$(UNITDIR)/$$unit"; done
	-rmdir "$(DESTDIR)$(UNITDIR)/nftables.service.d" 2>/dev/null

clean:
	cargo clean
