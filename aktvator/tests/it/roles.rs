//! Which roles a configuration can have, and what it says where it cannot.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::node::{BINARY, fresh_folder};

/// A configuration file of one test.
struct Settings {
    folder: PathBuf,
}

impl Settings {
    fn new() -> Self {
        Self { folder: fresh_folder() }
    }

    /// Runs a command with `text` as its configuration; exit status and all that was said.
    fn run(&self, text: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let file = self.folder.join("aktvator.toml");
        fs::write(&file, text).expect("a file");
        let done = Command::new(BINARY).args(arguments).arg("--config").arg(&file).output();
        let done = done.expect("it runs");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The settings in force for these roles.
    fn print(&self, text: &str, roles: &str) -> (Option<i32>, String) {
        self.run(text, &["serve", "--print-config", "--role", roles])
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const ALL: &str = "edge,evaluator,dispatcher,control";

#[test]
fn the_data_directory_is_for_one_process_with_every_role() {
    let settings = Settings::new();
    let (code, said) = settings.print("", "edge,control");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("edge, control") && said.contains("storage.backend"), "{said}");
    let (code, said) = settings.print("", ALL);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("[kafka]") && said.contains("min_free"), "{said}");
    let (code, said) = settings.print("", "edges");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("evaluator, dispatcher, control"), "{said}");
    let (code, said) = settings.print("[cql]\nkeyspace = \"shop\"\n", ALL);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("`cql`") && said.contains("storage.backend"), "{said}");
    let (code, said) = settings.run("", &["migrate"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("nothing to migrate") && said.contains("storage.backend"), "{said}");
}

#[test]
fn servers_are_settings_of_one_file_for_every_role() {
    let settings = Settings::new();
    let text = "[storage]\nbackend = \"servers\"\n\
                [kafka]\nbrokers = \"kafka:9092\"\n\
                [cql]\nuser = \"aktvator\"\npassword = \"never-shown\"\n\
                [clickhouse]\nurl = \"http://clickhouse:8123\"\npassword = \"never-shown\"\n";
    for role in ["edge", "evaluator", "dispatcher", "control", ALL] {
        let (code, said) = settings.print(text, role);
        assert_eq!(code, Some(0), "{role}: {said}");
        assert!(said.contains("\"kafka:9092\"") && said.contains("keyspace"), "{said}");
        assert!(!said.contains("min_free") && !said.contains("never-shown"), "{said}");
        assert_eq!(settings.print(&said, role), (Some(0), said.clone()), "it reads back");
    }
    let faulty = [
        ("[storage]\nbackend = \"server\"\n", "aktvator.toml:2", "servers"),
        (
            "[storage]\nbackend = \"servers\"\n[kafka]\nbroker = \"x:1\"\n",
            "aktvator.toml:4",
            "brokers",
        ),
        ("[storage]\nbackend = \"servers\"\n[cql]\nnodes = 7\n", "aktvator.toml:4", "cql.nodes"),
        ("[storage]\nbackend = \"servers\"\n[kafka]\npartitions = 0\n", "`kafka`", "1 to 4096"),
        (
            "[evaluator]\nclaim_retention = \"365d\"\n[storage]\nbackend = \"servers\"\n",
            "kafka.retention_ms",
            "evaluator.claim_retention",
        ),
    ];
    for (text, place, remedy) in faulty {
        for arguments in [&["serve", "--role", "evaluator"][..], &["migrate"]] {
            let (code, said) = settings.run(text, arguments);
            assert_eq!(code, Some(78), "{said}");
            assert!(said.contains(place) && said.contains(remedy), "{said}");
        }
    }
}

#[test]
fn only_roles_that_answer_callers_need_a_certificate() {
    let settings = Settings::new();
    let text = "listen = \"0.0.0.0:8080\"\n[storage]\nbackend = \"servers\"\n";
    for (role, expected) in [("evaluator,dispatcher", 0), ("edge", 78), ("control", 78)] {
        let (code, said) = settings.print(text, role);
        assert_eq!(code, Some(expected), "{role}: {said}");
        assert_eq!(said.contains("tls.certificate"), expected != 0, "{role}: {said}");
    }
}
