//! Settings from a file, the environment and the command line; what is said about wrong ones.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serve::config::{ConfigError, Size, Span, load, print};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    data_dir: PathBuf,
    listen: std::net::SocketAddr,
    evaluator: Evaluator,
    logs: Vec<Log>,
    format: Format,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Evaluator {
    batch_len_max: u16,
    tick: Span,
    buffer: Size,
    strict: bool,
    ratio: f64,
    names: Vec<String>,
    secret: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Log {
    target: String,
    level: u8,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "./data".into(),
            listen: ([127, 0, 0, 1], 8080).into(),
            evaluator: Evaluator::default(),
            logs: Vec::new(),
            format: Format::Text,
        }
    }
}

impl Default for Evaluator {
    fn default() -> Self {
        Self {
            batch_len_max: 512,
            tick: Span::from_secs(1),
            buffer: Size(64 << 10),
            strict: true,
            ratio: 0.5,
            names: vec!["a".into()],
            secret: None,
        }
    }
}

/// Loads `file` under the name `app.toml`, so that messages do not depend on where it is.
fn read(file: &str, env: &[(&str, &str)], flags: &str) -> Result<Settings, String> {
    let dir = std::env::temp_dir().join(format!("serve-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let name = format!("{:?}.toml", std::thread::current().id());
    let path = dir.join(name);
    std::fs::write(&path, file).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let loaded = load(Some(&path), "APP", env, flags.parse().unwrap());
    loaded.map_err(|error| error.to_string().replace(&path.display().to_string(), "app.toml"))
}

#[test]
fn nothing_set_means_the_defaults() {
    assert_eq!(read("", &[("HOME", "/"), ("APPLE__X", "1")], ""), Ok(Settings::default()));
    let none: Settings = load(None, "APP", std::iter::empty(), toml::Table::new()).unwrap();
    assert_eq!(none, Settings::default());
}

#[test]
fn later_sources_win() {
    let file = "data_dir = 'file'\nlisten = '0.0.0.0:1'\nformat = 'json'\n\
        [evaluator]\ntick = '250ms'\nbatch_len_max = 7\nsecret = 's'\n[[logs]]\ntarget = 'x'\nlevel = 3\n";
    let env = [
        ("APP__LISTEN", "0.0.0.0:2"),
        ("APP__DATA_DIR", "1"),
        ("APP__EVALUATOR__BATCH_LEN_MAX", "8"),
        ("APP__EVALUATOR__STRICT", "false"),
        ("APP__EVALUATOR__RATIO", "2"),
        ("APP__EVALUATOR__NAMES", "b, 3,"),
        ("APP__EVALUATOR__BUFFER", "2MiB"),
    ];
    let got = read(file, &env, "listen = '0.0.0.0:3'\nevaluator.tick = '2s'").unwrap();
    let want = Settings {
        data_dir: "1".into(),
        listen: ([0, 0, 0, 0], 3).into(),
        logs: vec![Log { target: "x".into(), level: 3 }],
        format: Format::Json,
        evaluator: Evaluator {
            batch_len_max: 8,
            tick: Span::from_secs(2),
            buffer: Size(2 << 20),
            strict: false,
            ratio: 2.0,
            names: vec!["b".into(), "3".into()],
            secret: Some("s".into()),
        },
    };
    assert_eq!(got, want);
    let names = [("APP__EVALUATOR__NAMES", r#"["x,y"]"#)];
    assert_eq!(read("", &names, "").unwrap().evaluator.names, ["x,y"]);
}

#[test]
fn every_fault_is_told_at_once_with_its_place_and_remedy() {
    let file = "\nlsiten = '0.0.0.0:1'\nformat = 'xml'\n\n[evaluator]\nbatch_len_max = 70000\n\
        tick = 5\nsecrt = 's'\n[[logs]]\ntarget = 'x'\nlvl = 1\n[[logs]]\nlevel = 'high'\n\n[unheard.of]\nx = 1\n";
    let env = [("APP__EVALUATOR__STRICT", "maybe"), ("APP__EVALUATER__TICK", "1s")];
    let said = read(file, &env, "listen = 'here'").unwrap_err();
    let want = "\
app.toml:2: `lsiten`: unknown key; did you mean `listen`?
app.toml:3: `format`: unknown variant `xml`, expected `text` or `json`
app.toml:6: `evaluator.batch_len_max`: invalid value: integer `70000`, expected u16
app.toml:7: `evaluator.tick`: invalid type: integer `5`, expected a string
app.toml:8: `evaluator.secrt`: unknown key; did you mean `secret`?
app.toml:11: `logs.lvl`: unknown key; did you mean `level`?
app.toml:13: `logs`: invalid type: string \"high\", expected u8
app.toml:15: `unheard`: unknown key; known here: data_dir, listen, evaluator, logs, format
environment variable APP__EVALUATER__TICK: `evaluater`: unknown key; did you mean `evaluator`?
environment variable APP__EVALUATOR__STRICT: `evaluator.strict`: invalid type: string \"maybe\", expected a boolean
command line: `listen`: invalid socket address syntax";
    assert_eq!(said, want, "\n{said}");
}

#[test]
fn wrong_units_say_what_is_right() {
    let said =
        read("evaluator.tick = '5 minutes'\nevaluator.buffer = '64KB'", &[], "").unwrap_err();
    assert_eq!(
        said,
        "app.toml:1: `evaluator.tick`: `5 minutes`: must be a duration like 250ms, 15s, 5m, 2h or 7d\n\
         app.toml:2: `evaluator.buffer`: `64KB`: must be a size like 512B, 64KiB, 16MiB or 2GiB"
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let said = read("listen = '0.0.0.0:1'\nformat = \n[evaluator\n", &[], "").unwrap_err();
    assert_eq!(
        said,
        "app.toml:2: not valid TOML: string values must be quoted, expected literal string\n\
         app.toml:3: not valid TOML: unclosed table, expected `]`"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = PathBuf::from("/nowhere/app.toml");
    let error = load::<Settings>(Some(&missing), "APP", std::iter::empty(), toml::Table::new());
    let error = error.unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("/nowhere/app.toml"), "{error}");
}

#[test]
fn what_is_printed_is_read_back() {
    let settings = Settings {
        format: Format::Json,
        logs: vec![Log { target: "x".into(), level: 1 }],
        evaluator: Evaluator { tick: Span::from_ms(1_500), ..Evaluator::default() },
        ..Settings::default()
    };
    let text = print(&settings).unwrap();
    assert!(text.contains("tick = \"1500ms\"") && text.contains("buffer = \"64KiB\""), "{text}");
    assert_eq!(read(&text, &[], ""), Ok(settings));
}
