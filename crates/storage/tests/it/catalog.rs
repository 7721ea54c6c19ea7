//! The catalog's contract, sentence by sentence, over a file and in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use schemas::id::OrganizationId;
use schemas::partition::Mode;
use schemas::time::Timestamp;
use storage::catalog::{
    Catalog, CatalogError, CatalogFault, Change, Document, Expected, FaultyCatalog, FieldFilter,
    Kind, ListFilter, Page, SqliteCatalog,
};
use storage::{Certainty, Kind as ErrorKind};

/// A file that is not there yet, in a directory of its own.
pub(crate) fn fresh_file(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("catalog").join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory.join("catalog.sqlite")
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs each case over every backend; a case is an `async fn(Catalog)`.
macro_rules! every {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[test]
                fn $case() {
                    let file = $crate::catalog::fresh_file(stringify!($case));
                    $crate::catalog::run(async {
                        super::$case(storage::Catalog::open(&file).unwrap()).await;
                        super::$case(storage::Catalog::memory().unwrap()).await;
                    });
                }
            )+
        }
        mod cluster {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    let log = storage::memory::Memory::new(4, 7).broker();
                    let cluster = storage::memory::Cluster::new(3);
                    let catalog = cluster.open_catalog(log, $crate::world::own(0)).await.unwrap();
                    super::$case(catalog).await;
                }
            )+
        }
        mod cql {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "set AKTVATOR_TEST_CQL to a node's host:port"]
                async fn $case() {
                    let options = $crate::keyspace::fresh().await;
                    let (log, _) = storage::memory::Memory::new(4, 7).open();
                    let (_, catalog) = storage::cql::connect(&options, log).await.unwrap();
                    super::$case(catalog).await;
                    $crate::keyspace::leave(&options).await;
                }
            )+
        }
    };
}
pub(crate) use every;

pub(crate) fn organization(n: u128) -> OrganizationId {
    OrganizationId::from_u128(n)
}

pub(crate) fn link(id: &str, created_at: i64, json: &str) -> Document {
    Document {
        kind: Kind::Link,
        organization: Some(organization(1)),
        mode: Some(Mode::Live),
        id: id.to_owned(),
        parent: Some("camp_1".to_owned()),
        version: 1,
        created_at: Timestamp::from_ms(created_at),
        json: json.to_owned(),
    }
}

pub(crate) fn page_of(limit: usize) -> Page {
    Page { limit, ..Page::default() }
}

pub(crate) fn new(document: Document) -> Change {
    Change { document, expected: Expected::Absent, uniques: vec![], command: None }
}

pub(crate) fn named(document: Document, names: &[&str]) -> Change {
    Change { uniques: names.iter().map(ToString::to_string).collect(), ..new(document) }
}

pub(crate) fn with_command(document: Document, partition: u16, record: &'static [u8]) -> Change {
    Change { command: Some((partition, Bytes::from_static(record))), ..new(document) }
}

pub(crate) fn ids(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|d| d.id.as_str()).collect()
}

async fn what_was_applied_is_read_back_whole(catalog: Catalog) {
    let nobodys = Document {
        kind: Kind::Organization,
        organization: None,
        mode: None,
        parent: None,
        ..link("org_1", -5, r#"{"name":"Ünï"}"#)
    };
    catalog.apply(vec![new(nobodys.clone()), new(link("a", 7, "{}"))]).await.unwrap();
    assert_eq!(catalog.get(Kind::Organization, "org_1").await.unwrap(), Some(nobodys));
    assert_eq!(catalog.get(Kind::Link, "a").await.unwrap(), Some(link("a", 7, "{}")));
    assert_eq!(catalog.get(Kind::Gig, "a").await.unwrap(), None);
    assert_eq!(catalog.get(Kind::Link, "b").await.unwrap(), None);
}

async fn a_change_is_refused_when_the_document_is_not_as_expected(catalog: Catalog) {
    let at = |version| Document { version, ..link("a", 7, r#"{"v":2}"#) };
    catalog.apply(vec![new(at(1))]).await.unwrap();
    let refused = [
        (at(2), Expected::Absent),
        (at(2), Expected::Version(2)),
        (at(1), Expected::Version(1)),
        (Document { id: "b".into(), ..at(2) }, Expected::Version(1)),
    ];
    for (document, expected) in refused {
        let change = Change { expected, ..new(document) };
        let result = catalog.apply(vec![change.clone()]).await;
        assert!(matches!(result, Err(CatalogError::Stale)), "{change:?}");
        assert_eq!(catalog.get(Kind::Link, "a").await.unwrap(), Some(at(1)));
    }
    let change = Change { expected: Expected::Version(1), ..new(at(2)) };
    catalog.apply(vec![change]).await.unwrap();
    assert_eq!(catalog.get(Kind::Link, "a").await.unwrap(), Some(at(2)));
}

async fn only_version_and_json_of_a_document_change(catalog: Catalog) {
    catalog.apply(vec![new(link("a", 7, "{}"))]).await.unwrap();
    let moved = Document {
        organization: Some(organization(2)),
        mode: Some(Mode::Test),
        parent: None,
        version: 2,
        ..link("a", 9, r#"{"x":1}"#)
    };
    let change = Change { expected: Expected::Version(1), ..new(moved) };
    catalog.apply(vec![change]).await.unwrap();
    let want = Document { version: 2, ..link("a", 7, r#"{"x":1}"#) };
    assert_eq!(catalog.get(Kind::Link, "a").await.unwrap(), Some(want));
}

async fn a_name_has_one_holder_for_ever(catalog: Catalog) {
    let first = named(link("a", 1, "{}"), &["code:X", "code:Y"]);
    catalog.apply(vec![first]).await.unwrap();
    // Changing the holder neither frees its names nor minds that it claims one again.
    let next = Document { version: 2, ..link("a", 1, r#"{"archived":true}"#) };
    let again =
        Change { expected: Expected::Version(1), ..named(next.clone(), &["code:Y", "code:Z"]) };
    catalog.apply(vec![again]).await.unwrap();
    for name in ["code:X", "code:Y", "code:Z"] {
        assert_eq!(catalog.named(name).await.unwrap(), Some(next.clone()), "{name}");
        let result = catalog.apply(vec![named(link("b", 2, "{}"), &["free", name])]).await;
        match result {
            Err(CatalogError::Taken { name: taken }) => assert_eq!(taken, name),
            other => panic!("{other:?}"),
        }
        assert_eq!(catalog.get(Kind::Link, "b").await.unwrap(), None);
        assert_eq!(catalog.named("free").await.unwrap(), None);
    }
    assert_eq!(catalog.named("code:x").await.unwrap(), None);
}

async fn a_call_is_all_or_nothing_and_its_changes_see_one_another(catalog: Catalog) {
    let second = Document { version: 2, ..link("a", 1, "{}") };
    let pair = vec![
        named(link("a", 1, "{}"), &["n"]),
        Change { expected: Expected::Version(1), ..new(second.clone()) },
    ];
    catalog.apply(pair).await.unwrap();
    assert_eq!(catalog.named("n").await.unwrap(), Some(second));

    let refused = vec![with_command(link("b", 1, "{}"), 3, b"b"), new(link("a", 1, "{}"))];
    assert!(matches!(catalog.apply(refused).await, Err(CatalogError::Stale)));
    assert_eq!(catalog.get(Kind::Link, "b").await.unwrap(), None);
    assert!(catalog.outbox(9).await.unwrap().is_empty());
}

async fn only_recorded_answers_are_swept_and_only_old_ones_the_oldest_first(catalog: Catalog) {
    let at = Timestamp::from_ms;
    let answer = |id: &str, created_at| {
        new(Document { kind: Kind::Idempotency, parent: None, ..link(id, created_at, "{}") })
    };
    let made = [("new", 30), ("oldest", 10), ("old", 20), ("older", 15)];
    let answers = made.map(|(id, created_at)| answer(id, created_at));
    catalog.apply(answers.into()).await.unwrap();
    catalog.apply(vec![new(link("kept", 1, "{}"))]).await.unwrap();

    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Idempotency) {
        let error = catalog.sweep(kind, at(99), 9).await.unwrap_err();
        let refused = (error.kind, error.certainty);
        assert_eq!(refused, (ErrorKind::Conflict, Certainty::Determinate), "{kind:?}");
    }
    let left = async || {
        let found = catalog.list(Kind::Idempotency, ListFilter::default(), page_of(9)).await;
        found.unwrap().into_iter().map(|document| document.id).collect::<Vec<_>>()
    };
    let seen = catalog.revision(Kind::Idempotency);
    assert_eq!(catalog.sweep(Kind::Idempotency, at(20), 1).await.unwrap(), 1);
    assert_eq!(left().await, ["older", "old", "new"]);
    assert!(catalog.revision(Kind::Idempotency) > seen);
    assert_eq!(catalog.sweep(Kind::Idempotency, at(20), 9).await.unwrap(), 1);
    assert_eq!(catalog.sweep(Kind::Idempotency, at(20), 9).await.unwrap(), 0);
    assert_eq!(left().await, ["old", "new"]);
    assert!(catalog.get(Kind::Link, "kept").await.unwrap().is_some());
    // A key that was swept may be used again.
    catalog.apply(vec![answer("oldest", 40)]).await.unwrap();
}

async fn a_revision_rises_with_its_own_kind(catalog: Catalog) {
    let before = Kind::ALL.map(|kind| catalog.revision(kind));
    catalog.apply(vec![new(link("a", 1, "{}"))]).await.unwrap();
    for kind in Kind::ALL {
        let rose = catalog.revision(kind) > before[kind as usize];
        assert_eq!(rose, kind == Kind::Link, "{kind:?}");
    }
    let seen = catalog.revision(Kind::Link);
    catalog.clone().apply(vec![new(link("b", 1, "{}"))]).await.unwrap();
    assert!(catalog.revision(Kind::Link) > seen);
}

async fn a_setting_is_made_once(catalog: Catalog) {
    let made = catalog.setting("click key", || vec![1, 0, 255]).await.unwrap();
    assert_eq!(made, [1, 0, 255]);
    let again = catalog.setting("click key", || panic!("made twice")).await.unwrap();
    assert_eq!(again, made);
    assert_eq!(catalog.setting("other", Vec::new).await.unwrap(), [] as [u8; 0]);
}

/// Ten documents, made pairwise at the same time, so that the id decides within a pair.
async fn ten(catalog: &Catalog) {
    let changes = (0..10).map(|n| new(link(&format!("l{n}"), n / 2, "{}"))).collect();
    catalog.apply(changes).await.unwrap();
}

async fn pages_follow_one_another_in_both_directions(catalog: Catalog) {
    ten(&catalog).await;
    let list = async |page| catalog.list(Kind::Link, ListFilter::default(), page).await.unwrap();
    for newest_first in [false, true] {
        let mut want: Vec<String> = (0..10).map(|n| format!("l{n}")).collect();
        if newest_first {
            want.reverse();
        }
        let whole = list(Page { limit: 99, newest_first, ..Page::default() }).await;
        assert_eq!(ids(&whole), want);
        for limit in 1..=4 {
            for at in 0..10 {
                let cursor = Some(want[at].clone());
                let after = Page { limit, after: cursor.clone(), newest_first, before: None };
                assert_eq!(ids(&list(after).await), want[at + 1..(at + 1 + limit).min(10)]);
                let before = Page { limit, before: cursor, newest_first, after: None };
                assert_eq!(ids(&list(before).await), want[at.saturating_sub(limit)..at]);
            }
        }
        let between = Page {
            limit: 99,
            after: Some(want[2].clone()),
            before: Some(want[6].clone()),
            newest_first,
        };
        assert_eq!(ids(&list(between).await), want[3..6]);
    }
}

async fn a_cursor_must_be_a_document_of_the_list_s_owner(catalog: Catalog) {
    ten(&catalog).await;
    let of = |n, mode| ListFilter {
        organization: Some(organization(n)),
        mode: Some(mode),
        ..ListFilter::default()
    };
    let page = |id: &str| Page { limit: 9, after: Some(id.to_owned()), ..Page::default() };
    let refused = [
        (Kind::Link, of(1, Mode::Live), page("unknown")),
        (Kind::Link, of(2, Mode::Live), page("l1")),
        (Kind::Link, of(1, Mode::Test), page("l1")),
        (Kind::Gig, of(1, Mode::Live), page("l1")),
    ];
    for (kind, filter, page) in refused {
        let error = catalog.list(kind, filter.clone(), page).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{kind:?} {filter:?}");
    }
    let found = catalog.list(Kind::Link, of(1, Mode::Live), page("l7")).await.unwrap();
    assert_eq!(ids(&found), ["l8", "l9"]);
}

async fn filters_must_all_hold(catalog: Catalog) {
    let field = |field: &str, values: &[&str], exclude| FieldFilter {
        field: field.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
        exclude,
    };
    let by = |fields: Vec<FieldFilter>| ListFilter { fields, ..ListFilter::default() };
    let made = |from: Option<i64>, to: Option<i64>| ListFilter {
        created_from: from.map(Timestamp::from_ms),
        created_to: to.map(Timestamp::from_ms),
        ..ListFilter::default()
    };
    let any = ListFilter::default;
    let cases = [
        (any(), "abcd"),
        (ListFilter { organization: Some(organization(1)), ..any() }, "abc"),
        (ListFilter { organization: Some(organization(3)), ..any() }, ""),
        (ListFilter { mode: Some(Mode::Test), ..any() }, "c"),
        (ListFilter { parent: Some("camp_1".into()), ..any() }, "abc"),
        (ListFilter { parent: Some("camp_2".into()), mode: Some(Mode::Live), ..any() }, "d"),
        (by(vec![field("status", &["active"], false)]), "a"),
        (by(vec![field("status", &["active", "draft"], false)]), "ab"),
        (by(vec![field("status", &["active"], true)]), "bcd"),
        (by(vec![field("status", &["active", "draft"], true)]), "cd"),
        (by(vec![field("status", &[], false)]), ""),
        (by(vec![field("status", &[], true)]), "abcd"),
        (by(vec![field("open", &["true"], false)]), "a"),
        (by(vec![field("open", &["false"], false)]), "b"),
        (by(vec![field("open", &["1"], false)]), "c"),
        (by(vec![field("n", &["7"], false)]), "d"),
        (by(vec![field("status", &["x' OR 1=1 --"], false)]), "c"),
        (
            by(vec![field("status", &["active", "draft"], false), field("open", &["true"], true)]),
            "b",
        ),
        (made(Some(2), None), "bcd"),
        (made(None, Some(3)), "ab"),
        (made(Some(2), Some(3)), "b"),
    ];
    let test = Document { mode: Some(Mode::Test), ..link("c", 3, "") };
    let other = Document {
        organization: Some(organization(2)),
        parent: Some("camp_2".to_owned()),
        ..link("d", 4, r#"{"status":null,"n":7}"#)
    };
    let stored = vec![
        new(link("a", 1, r#"{"status":"active","open":true}"#)),
        new(link("b", 2, r#"{"status":"draft","open":false}"#)),
        new(Document { json: r#"{"status":"x' OR 1=1 --","open":1}"#.into(), ..test }),
        new(other),
    ];
    catalog.apply(stored).await.unwrap();
    for (filter, want) in &cases {
        let page = Page { limit: 99, ..Page::default() };
        let found = catalog.list(Kind::Link, filter.clone(), page).await.unwrap();
        assert_eq!(ids(&found).concat(), *want, "{filter:?}");
    }
    for name in ["", "a.b", "a'", "ä", "a b", "$", "a1"] {
        let filter = by(vec![field(name, &["x"], false)]);
        let error = catalog.list(Kind::Link, filter, Page::default()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{name:?}");
    }
}

#[test]
fn one_of_many_racing_claims_wins() {
    let file = fresh_file("race");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let catalog = Catalog::open(&file).unwrap();
    runtime.block_on(async {
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..64 {
            let catalog = catalog.clone();
            racers.spawn(async move {
                let change = named(link(&format!("l{n}"), n, "{}"), &["code:WIN"]);
                catalog.apply(vec![change]).await
            });
        }
        let results = racers.join_all().await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
        let lost = |r: &&_| matches!(r, Err(CatalogError::Taken { .. }));
        assert_eq!(results.iter().filter(lost).count(), 63);
        let page = Page { limit: 99, ..Page::default() };
        let stored = catalog.list(Kind::Link, ListFilter::default(), page).await.unwrap();
        assert_eq!(stored.len(), 1);

        let mut racers = tokio::task::JoinSet::new();
        for n in 0..64 {
            let catalog = catalog.clone();
            racers.spawn(async move { catalog.setting("raced", || vec![n]).await.unwrap() });
        }
        let values = racers.join_all().await;
        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    });
}

#[test]
fn a_file_opened_again_has_everything_and_is_private() {
    let file = fresh_file("reopened");
    let cleared = run(async {
        let catalog = Catalog::open(&file).unwrap();
        let changes = vec![
            named(link("a", 1, "{}"), &["code:A"]),
            with_command(link("b", 2, "{}"), 4, b"kept"),
            with_command(link("c", 2, "{}"), 4, b"cleared"),
        ];
        let queued = catalog.apply(changes).await.unwrap();
        catalog.outbox_clear(&queued[1..]).await.unwrap();
        catalog.setting("secret", || vec![7]).await.unwrap();
        for suffix in ["", "-wal", "-shm"] {
            let path = PathBuf::from(format!("{}{suffix}", file.display()));
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        queued[1]
    });
    run(async {
        let catalog = Catalog::open(&file).unwrap();
        assert_eq!(catalog.named("code:A").await.unwrap(), Some(link("a", 1, "{}")));
        let outbox = catalog.outbox(9).await.unwrap();
        assert_eq!(outbox.len(), 1);
        assert_eq!(&outbox[0].record[..], b"kept");
        assert_eq!(catalog.setting("secret", || panic!("made twice")).await.unwrap(), [7]);
        let next = catalog.apply(vec![with_command(link("d", 3, "{}"), 4, b"d")]).await.unwrap();
        assert!(next[0] > cleared);
    });
}

#[test]
fn what_is_no_catalog_is_refused() {
    let file = fresh_file("refused");
    std::fs::write(&file, "not a database, but long enough to have a header of one".repeat(9))
        .unwrap();
    let error = Catalog::open(&file).err().unwrap();
    assert_eq!((error.kind, error.certainty), (ErrorKind::Corrupt, Certainty::Determinate));
    let nowhere = file.with_file_name("missing").join("catalog.sqlite");
    assert_eq!(Catalog::open(&nowhere).err().unwrap().kind, ErrorKind::Unavailable);
}

#[test]
fn faults_follow_the_script() {
    run(async {
        let faulty = FaultyCatalog::new(SqliteCatalog::memory().unwrap());
        let catalog = Catalog::Fault(faulty.clone());
        faulty.script([
            Some(CatalogFault::Before(ErrorKind::Full)),
            Some(CatalogFault::After(ErrorKind::Unavailable)),
            None,
        ]);
        for (id, certainty, stored) in
            [("a", Certainty::Determinate, false), ("b", Certainty::Indeterminate, true)]
        {
            match catalog.apply(vec![new(link(id, 1, "{}"))]).await {
                Err(CatalogError::Storage(error)) => assert_eq!(error.certainty, certainty),
                other => panic!("{other:?}"),
            }
            assert_eq!(catalog.get(Kind::Link, id).await.unwrap().is_some(), stored);
        }
        catalog.apply(vec![new(link("c", 1, "{}"))]).await.unwrap();
        catalog.apply(vec![new(link("d", 1, "{}"))]).await.unwrap();
    });
}

every!(
    what_was_applied_is_read_back_whole,
    a_change_is_refused_when_the_document_is_not_as_expected,
    only_version_and_json_of_a_document_change,
    a_name_has_one_holder_for_ever,
    a_call_is_all_or_nothing_and_its_changes_see_one_another,
    only_recorded_answers_are_swept_and_only_old_ones_the_oldest_first,
    a_revision_rises_with_its_own_kind,
    a_setting_is_made_once,
    pages_follow_one_another_in_both_directions,
    a_cursor_must_be_a_document_of_the_list_s_owner,
    filters_must_all_hold,
);
