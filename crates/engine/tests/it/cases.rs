//! The case tables: one case per line, what it must show last.

use engine::key::BLOCK_LEN;
use serde_json::{Value, json};

use crate::script::Script;

/// Lines that are not blank and not `#` comments, with their numbers, split at `=>`.
fn lines(table: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    table.lines().enumerate().filter_map(|(number, line)| {
        let line = line.trim();
        let (case, want) = line.rsplit_once("=>").filter(|_| !line.starts_with('#'))?;
        Some((number + 1, case.trim(), want.trim()))
    })
}

pub(crate) fn check(name: &str, table: &str, least: usize, show: impl Fn(&str) -> String) {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for (number, case, want) in lines(table) {
        cases += 1;
        let got = show(case);
        if got != want {
            wrong.push(format!("{name}:{number}: {case}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(cases >= least, "{name} holds {cases} cases, and should hold {least}");
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! script_tables {
    ($($name:ident: $least:literal;)*) => {$(
        #[test]
        fn $name() {
            let table = include_str!(concat!("../cases/", stringify!($name), ".txt"));
            check(stringify!($name), table, $least, |steps| Script::new().run(steps));
        }
    )*};
}

script_tables! {
    active: 10;
    amounts: 20;
    attempts: 12;
    attribution: 20;
    binding: 8;
    campaigns: 10;
    caps: 20;
    claims: 10;
    combine: 15;
    funding: 10;
    items: 15;
    life: 20;
    matching: 10;
    past: 12;
    payouts: 40;
    periods: 15;
    recurring: 10;
    reversals: 30;
    scopes: 15;
    tiers: 25;
    uniqueness: 10;
    versions: 6;
}

/// A setting of no holds per step is one of one: releasing comes to an end.
#[test]
fn no_holds_per_step() {
    let mut script = Script::new();
    script.world.settings.holds_per_step = 0;
    let shown = script.run("rules {} ; events a=1 b=1 c=1 ; credit 1 25 ; wallet");
    assert_eq!(shown, "rewarded rewarded rewarded, applied 2, 5/20/10");
}

/// A full row whose events are all forgotten goes; the last one, which still grows, keeps its places.
#[test]
fn a_full_row_of_forgotten_claims_goes() {
    let mut script = Script::new();
    let keys = |range: std::ops::Range<u64>| range.map(|n| format!(" e{n}")).collect::<String>();
    script.run(&format!(
        "rules {{}} ; events{} ; now 2026-06-09T12:00:00.001Z",
        keys(0..BLOCK_LEN + 2)
    ));
    let last = BLOCK_LEN;
    let shown = script.run(&format!(
        "index 0 ; expire 0 ; expire {last} ; index 0 ; index {last} ; events z ; index {last}"
    ));
    let full = keys(0..BLOCK_LEN).trim().to_owned();
    assert_eq!(shown, format!("{full}, none, - -, amount_missing, - - z"));
}

/// `CONDITION | EVENT FIELDS => true|false|unknown`: unknown is when neither it nor its negation
/// matches.
#[test]
fn conditions() {
    check("conditions", include_str!("../cases/conditions.txt"), 60, |case| {
        let (condition, fields) = case.split_once(" | ").unwrap_or((case, ""));
        let condition: Value = serde_json::from_str(condition.trim()).expect(condition);
        match (matches(&condition, fields), matches(&json!({"not": condition}), fields)) {
            (true, false) => "true",
            (false, true) => "false",
            (false, false) => "unknown",
            (true, true) => "a contradiction",
        }
        .to_owned()
    });
}

fn matches(condition: &Value, fields: &str) -> bool {
    let rules = json!({"rules": [{"when": condition, "reward": {"type": "flat", "amount": 1}}]});
    let steps = format!("rules {rules} ; event e {}", fields.trim());
    match Script::new().run(&steps).as_str() {
        "rewarded 1 held" => true,
        "conditions_not_met" => false,
        other => panic!("{steps}: {other}"),
    }
}
