#!/bin/sh
# Fuzz the open of a cowfile with libFuzzer. sh run.sh [options of libFuzzer], such as -max_total_time=600
#
# No nightly compiler and no cargo-fuzz: these are the flags of `cargo fuzz run --sanitizer none open`, which
# works too. Sanitizers would need a nightly compiler; for Rust without unsafe code they would find little.
# It needs a C++ compiler. What is found stays in target/fuzz, the corpus in the sources is only read.
set -eu
cd "$(dirname "$0")"
target=$(rustc -vV | sed -n 's/^host: //p')
built=$(realpath -m "${CARGO_TARGET_DIR:-../../target}/fuzz")
coverage='-Cpasses=sancov-module -Ccodegen-units=1'
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
	coverage="$coverage -Cllvm-args=-sanitizer-coverage-$argument"
done
mkdir -p "$built/corpus" "$built/found"
# With --target: build scripts are not to be instrumented.
RUSTFLAGS="--cfg fuzzing $coverage" cargo build --release --locked \
	--target "$target" --target-dir "$built" --bin open
exec "$built/$target/release/open" -artifact_prefix="$built/found/" -max_len=65536 \
	-rss_limit_mb=512 -timeout=10 "$@" "$built/corpus" ../testdata/corpus
