# cowroot. `make` alone says what there is.

# Root has no rustc, mostly, and needs none to install.
TARGET := $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(shell uname -m)-unknown-linux-gnu)
BUILT := $(abspath $(or $(CARGO_TARGET_DIR),target))
BINARY := $(BUILT)/$(TARGET)/dist/cowroot
DEB = $(BUILT)/debian/$(shell sh tools/deb.sh name)
# The test bed; it boots the binary that `build` made.
BED = COWROOT_BIN=$(BINARY) COWROOT_DEB=$(DEB) cargo test --locked --test vm --
BENCH = COWROOT_BENCH=$(dir $(BINARY))examples/bench $(BED)
SHELL_FILES := $(shell find tests tools dracut-module -name '*.sh') .ci/run \
	$(shell find mkinitcpio-hook initramfs-tools-hook sysvinit tests/vm/shim -type f ! -name '*.service' ! -name '*.conf' ! -name '*.sh')

# One step after the other: `deps` installs what `build` needs.
.NOTPARALLEL:
.PHONY: help mirror deps build install uninstall deb generated demo test lint unit crash crash-long fuzz vm vm-list powercut kill-long bench bench-stick bench-merge bench-merge-here bench-program bench-engine bench-open clean

help: ## say what there is (default)
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo 'CASE=part picks VM cases. DEBIAN_MIRROR=http://... where apt knows no Debian mirror.'
	@echo 'COWROOT_CACHE=dir and COWROOT_ACCEL=kvm|tcg: see tests/vm/README.md.'

mirror:
	@DEBIAN_MIRROR='$(DEBIAN_MIRROR)' sh tools/deps.sh check-mirror

deps: ## install what building and testing need and is not there
	@sh tools/deps.sh

# --target: without it crt-static would also apply to build scripts, which then cannot load libclang.
build: ## the static binary that is shipped
	@sh tools/deps.sh check-build
	RUSTFLAGS="-C target-feature=+crt-static" \
		cargo build --profile dist --locked --target $(TARGET) --bin cowroot
	@if readelf -lW $(BINARY) | grep -q INTERP; then \
		echo '$(BINARY) needs a dynamic loader: not a static binary' >&2; exit 1; fi
	@echo "$(BINARY): static, $$(stat -c %s $(BINARY)) bytes"

install: ## put binary, man pages, completions, initramfs pieces below DESTDIR; see tools/install.sh
	@BINARY='$(BINARY)' sh tools/install.sh install

uninstall: ## take them away again
	@BINARY='$(BINARY)' sh tools/install.sh uninstall

deb: build ## a Debian package of the same
	@sh tools/deb.sh make '$(BINARY)' '$(TARGET)' '$(DEB)'

generated: ## write man pages and completions anew, from src/cli.rs and the README
	COWROOT_GENERATE=1 cargo test --locked --test generated

demo: mirror deps build ## boot a live Debian from an ISO, in this terminal
	$(BED) demo

test: mirror ## all that CI runs: lint, unit, crash and vm
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory crash
	@$(MAKE) --no-print-directory vm

lint: ## formatting, clippy, shellcheck
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test vm -- -D warnings
	shellcheck -x $(SHELL_FILES)
	shfmt -d $(SHELL_FILES)

unit: ## the tests that need no VM
	cargo test --locked

# A million and more different states; the seeds are half the same every time, half new.
crash: ## power cuts, deaths and errors at any command of the persistent store, and broken rules
	COWROOT_CRASH=$(or $(CRASH),90) cargo test --locked --lib simulation::crash -- --nocapture

crash-long: ## the same, ten times as long and more
	@$(MAKE) --no-print-directory crash CRASH=$(or $(CRASH),1000)

fuzz: ## feed opens with cowfiles that are made to do harm, TIME= seconds of it
	sh tests/fuzz/run.sh -max_total_time=$(or $(TIME),300)

vm: deb ## boot the VM cases, or those that CASE= picks
	$(BED) run '$(CASE)'

vm-list: ## name the VM cases
	@sh tools/deps.sh check-build
	@$(BED) list

powercut: build ## cut a stick's power 500 times on each medium, in hours; make vm CASE=powercut is a sample
	$(BED) powercut $(or $(IMAGES),500) $(PART)

kill-long: build ## kill daemons 10,000 times under load, on each store and kernel, in hours; make vm CASE=kills is a sample
	$(BED) kills $(or $(KILLS),10000)

bench-program: mirror deps build
	RUSTFLAGS="-C target-feature=+crt-static" \
		cargo build --profile dist --locked --target $(TARGET) --example bench

bench: bench-program ## compare with dm-snapshot and overlayfs, in half an hour: docs/performance.md
	$(BENCH) bench $(ROUNDS)

bench-stick: bench-program ## cowfiles beside dm-snapshot on a slow stick, in half an hour: docs/performance.md
	$(BENCH) bench-stick $(ROUNDS)

bench-merge: bench-program ## merges beside snapshot-merge and qemu-img commit, on a slow stick, in two hours: docs/performance.md
	$(BENCH) bench-merge $(ROUNDS)

bench-merge-here: build ## the same beside qemu-img on this machine, in FOLDER=: docs/performance.md
	cargo build --release --locked --example merge-bench
	$(BUILT)/release/examples/merge-bench $(BINARY) '$(or $(FOLDER),$(BUILT))' $(ROUNDS)

bench-engine: ## what the persistent store costs, in three minutes: docs/performance.md
	cargo run --release --locked --example engine-bench $(GIB)

bench-open: deps build ## how long a cowfile with 16 GiB of changes takes to open from a slow disk
	mkdir -p target/images
	cargo run --release --locked --example engine-bench 16 images target/images
	COWROOT_IMAGES=$(abspath target/images) $(BED) bench-open

clean: ## remove what was built; the cache of packages and roots stays
	cargo clean
