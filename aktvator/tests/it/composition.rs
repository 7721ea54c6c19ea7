//! The configuration that docker-compose.yml gives to the roles is one that they take.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::node::BINARY;

#[test]
fn every_role_takes_the_configuration_of_the_composition() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/aktvator.toml");
    let written: toml::Table = fs::read_to_string(&file).expect("a file").parse().expect("TOML");
    for role in ["edge", "evaluator", "dispatcher", "control"] {
        let done = Command::new(BINARY)
            .args(["serve", "--role", role, "--print-config", "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{role}: {said}");
        let printed = String::from_utf8(done.stdout).expect("text");
        let printed: toml::Table = printed.parse().expect("TOML");
        assert_within("", &toml::Value::Table(written.clone()), &toml::Value::Table(printed));
    }
}

/// Each value of `part` is in `whole`, under the same key.
fn assert_within(key: &str, part: &toml::Value, whole: &toml::Value) {
    let toml::Value::Table(part) = part else {
        assert_eq!(part, whole, "{key}");
        return;
    };
    for (name, value) in part {
        let found = whole.get(name).unwrap_or_else(|| panic!("{key}{name} is not in force"));
        assert_within(&format!("{key}{name}."), value, found);
    }
}
