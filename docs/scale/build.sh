#!/bin/sh
# Builds dunlin-sim for campaigns of CPU-days: once to learn which code runs how often, and once laid out for that.
# It runs a fifth to a third faster than a plain release build, and the same seeds give the same hashes.
#   docs/scale/build.sh          into target/profiled/release; takes three times as long as a plain build
# Wants rustup, of which it takes the tool that reads profiles.
set -eu
cd "$(dirname "$0")/../.."
SEEDS=${SEEDS:-100}
TARGET=$PWD/target/profiled
PROFILE=$TARGET/profile
rm -rf "$PROFILE"
rustup component add llvm-tools
build() { CARGO_ENCODED_RUSTFLAGS="$1" cargo build --release --locked -p dunlin-sim --bin dunlin-sim --target-dir "$TARGET"; }
build "-Cprofile-generate=$PROFILE"
"$TARGET/release/dunlin-sim" run --seeds "$SEEDS" > /dev/null
"$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata" \
    merge -o "$PROFILE/all.profdata" "$PROFILE"
build "-Cprofile-use=$PROFILE/all.profdata"
echo "built $TARGET/release/dunlin-sim"
