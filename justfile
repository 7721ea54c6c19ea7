# Recipes for people; `scripts/test` needs none of them.

# All tests, with servers and without.
test:
    ./scripts/test

# Everything that can happen to processes and servers, with the invariants checked: half an hour.
faults:
    ./scripts/faults

# Every figure beside its floor, on this machine.
bench:
    cargo build --release -p aktvator -p bench
    target/release/bench ingest
    target/release/bench evaluator
    target/release/bench decide

# The whole CDNOW purchase log, in order and under kill -9.
replay:
    cargo build --release -p aktvator -p bench
    bench/cdnow/fetch
    target/release/bench replay cdnow
    target/release/bench replay cdnow --tiered
    target/release/bench replay cdnow --chaos

# Format, lints, and who may depend on whom (cargo-deny must be installed).
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check bans licenses sources

# The servers for tests: `just services up`, `down` or `status`.
services action:
    ./scripts/services {{action}}

# Which changes to the engine's files that move money no test notices (hours; or `just mutants wallet`).
mutants *files:
    scripts/mutants {{files}}
