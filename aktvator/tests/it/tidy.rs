//! The repository's own lints: who may depend on whom, and what every file looks like.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate, where it lives, and which of our crates it may depend on (ARCHITECTURE.md has the
/// reasons).
const CRATES: &[(&str, &str, &[&str])] = &[
    ("schemas", "schemas", &[]),
    ("engine", "crates/engine", &["schemas"]),
    ("storage", "crates/storage", &["schemas", "engine"]),
    ("access", "crates/access", &["schemas", "engine", "storage"]),
    ("serve", "crates/serve", &[]),
    ("ingest-edge", "ingest-edge", SERVICE),
    ("evaluator", "evaluator", SERVICE),
    ("dispatcher", "dispatcher", SERVICE),
    ("control-api", "control-api", SERVICE),
    ("aktvator", "aktvator", ALL),
    ("simulator", "crates/simulator", ALL),
    ("bench", "bench", ALL),
];

const SERVICE: &[&str] = &["schemas", "engine", "storage", "access", "serve"];

const ALL: &[&str] = &[
    "schemas",
    "engine",
    "storage",
    "access",
    "serve",
    "ingest-edge",
    "evaluator",
    "dispatcher",
    "control-api",
];

/// All that the engine and the schemas may pull in: nothing there waits, reads a clock or rolls dice.
const PURE: &[&str] =
    &["bytes", "jiff", "prost", "rustc-hash", "serde", "serde_json", "sha2", "thiserror", "utoipa"];

/// Database and broker clients, which only `storage` may name.
const VENDORS: &[&str] = &["clickhouse", "fjall", "rdkafka", "rusqlite", "scylla"];

/// Lines a source file may have.
const LINES_MAX: usize = 500;

/// Files that are longer; the list may only shrink.
const LONGER: &[&str] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let table = manifest.get(table).and_then(toml::Value::as_table);
    table.into_iter().flat_map(|t| t.keys().cloned()).collect()
}

/// Every Rust file of the workspace, relative to its root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = CRATES.iter().map(|(_, path, _)| root().join(path)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    let ours: BTreeSet<_> = CRATES.iter().map(|(name, _, _)| *name).collect();
    let mut wrong = Vec::new();
    for (name, path, allowed) in CRATES {
        let manifest = read(&root().join(path).join("Cargo.toml"));
        for dependency in dependencies(&manifest, "dependencies") {
            if ours.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_workspace_has_no_crate_that_the_table_does_not_name() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("TOML");
    let members = manifest["workspace"]["members"].as_array().expect("members");
    let members: BTreeSet<_> = members.iter().filter_map(toml::Value::as_str).collect();
    let named: BTreeSet<_> = CRATES.iter().map(|(_, path, _)| *path).collect();
    assert_eq!(members, named);
}

#[test]
fn the_engine_and_the_schemas_stay_pure() {
    for (name, path) in [("engine", "crates/engine"), ("schemas", "schemas")] {
        let manifest = read(&root().join(path).join("Cargo.toml"));
        let extra: Vec<_> = dependencies(&manifest, "dependencies")
            .into_iter()
            .filter(|d| d != "schemas" && !PURE.contains(&d.as_str()))
            .collect();
        assert!(extra.is_empty(), "{name} must not depend on {extra:?}");
    }
}

/// But for the bench, whose floors use a vendor's client bare.
#[test]
fn only_storage_names_a_vendor() {
    let others = CRATES.iter().filter(|(name, _, _)| !["storage", "bench"].contains(name));
    for (name, path, _) in others {
        let manifest = read(&root().join(path).join("Cargo.toml"));
        for table in ["dependencies", "dev-dependencies"] {
            let named = dependencies(&manifest, table);
            let vendors: Vec<_> = VENDORS.iter().filter(|v| named.contains(**v)).collect();
            assert!(vendors.is_empty(), "{name} names {vendors:?}");
        }
    }
}

#[test]
fn files_say_what_they_are_and_fit_in_the_head() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = read(&root().join(&path));
        let name = path.display().to_string();
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: does not start with a //! line"));
        }
        if path.ends_with("mod.rs") {
            wrong.push(format!("{name}: a module is named by its own file"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX && !LONGER.contains(&name.as_str()) {
            wrong.push(format!("{name}: {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_select_is_biased() {
    // An unbiased select! draws from a random source of its own; with it one seed of the simulator
    // would give many traces.
    let needle = concat!("select", "! {");
    let mut wrong = Vec::new();
    for path in sources() {
        let text = read(&root().join(&path));
        for (at, _) in text.match_indices(needle) {
            if !text[at + needle.len()..].trim_start().starts_with("biased;") {
                let line = text[..at].lines().count();
                wrong.push(format!("{}:{line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_architecture_names_every_crate() {
    let text = read(&root().join("ARCHITECTURE.md"));
    for (name, path, _) in CRATES {
        assert!(text.contains(&format!("`{path}`")), "ARCHITECTURE.md does not mention {name}");
    }
}

#[test]
fn operations_lists_every_metric() {
    let listed = read(&root().join("docs/operations.md"));
    let mut missing = Vec::new();
    for path in sources().iter().filter(|p| p.ends_with("metrics.rs")) {
        let text = read(&root().join(path));
        for (at, _) in text.match_indices("\"aktvator_") {
            let name = text[at + 1..].split('"').next().unwrap_or_default();
            if !listed.contains(&format!("`{name}`")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "docs/operations.md does not list {missing:#?}");
}
