//! What an embedded catalog and analytics store give out, page by page, is all they hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use schemas::id::{AktvatorId, CampaignId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;
use storage::analytics::{Analytics, BUCKET_MS, Fact, Source, SqliteAnalytics};
use storage::catalog::{Catalog, Change, Document, Entry, Expected, Kind, SqliteCatalog};

fn document(kind: Kind, id: &str) -> Document {
    Document {
        kind,
        organization: Some(OrganizationId::from_u128(1)),
        mode: None,
        id: id.to_owned(),
        parent: Some("parent".to_owned()),
        version: 3,
        created_at: Timestamp::from_ms(7),
        json: "{}".to_owned(),
    }
}

#[tokio::test]
async fn a_catalog_gives_out_every_document_with_its_names() {
    let catalog = SqliteCatalog::memory().unwrap();
    let port = Catalog::Sqlite(catalog.clone());
    let names = [vec!["code:A", "code:B"], vec![], vec!["code:C"]];
    for (id, uniques) in ["a", "b", "c"].into_iter().zip(&names) {
        let uniques = uniques.iter().map(|&name| name.to_owned()).collect();
        let document = document(Kind::Code, id);
        let change = Change { document, expected: Expected::Absent, uniques, command: None };
        port.apply(vec![change]).await.unwrap();
    }
    let document = |id, names: &[&str]| Entry {
        document: document(Kind::Code, id),
        names: names.iter().map(|&name| name.to_owned()).collect(),
    };
    let first = catalog.export(Kind::Code, None, 2).await.unwrap();
    assert_eq!(first, [document("a", &names[0]), document("b", &names[1])]);
    let rest = catalog.export(Kind::Code, Some("b".to_owned()), 2).await.unwrap();
    assert_eq!(rest, [document("c", &names[2])]);
    assert_eq!(catalog.export(Kind::Code, Some("c".to_owned()), 2).await.unwrap(), []);
    assert_eq!(catalog.export(Kind::Link, None, 2).await.unwrap(), []);

    assert_eq!(catalog.settings().await.unwrap(), []);
    for (name, value) in [("two", [2]), ("one", [1])] {
        port.setting(name, || value.to_vec()).await.unwrap();
    }
    let settings = [("one".to_owned(), vec![1]), ("two".to_owned(), vec![2])];
    assert_eq!(catalog.settings().await.unwrap(), settings);
}

/// One of a few thousand facts, which meet in fewer sums.
fn fact(n: u128) -> Fact {
    let id = n % 5;
    Fact {
        scope: Scope {
            organization: OrganizationId::from_u128(n % 3),
            mode: if n.is_multiple_of(2) { Mode::Live } else { Mode::Test },
        },
        campaign: CampaignId::from_u128(1),
        gig: (id > 0).then(|| GigId::from_u128(id)),
        aktvator: (id > 1).then(|| AktvatorId::from_u128(id)),
        link: (id > 2).then(|| LinkId::from_u128(id)),
        code: (id > 3).then(|| "CODE".to_owned()),
        event_type: (id != 2).then(|| "purchase".to_owned()),
        at: Timestamp::from_ms((n as i64 % 7) * BUCKET_MS - 3 * BUCKET_MS),
        clicks: 1,
        conversions: 2,
        revenue: n as i64,
        rewards: 1,
        reward_amount: -1,
    }
}

async fn export(analytics: &SqliteAnalytics, page: usize) -> Vec<Fact> {
    let mut all: Vec<Fact> = Vec::new();
    loop {
        let facts = analytics.export(all.last().cloned(), page).await.unwrap();
        if facts.is_empty() {
            return all;
        }
        all.extend(facts);
    }
}

#[tokio::test]
async fn sums_make_the_same_store_again_whatever_the_pages() {
    let (from, to) = (SqliteAnalytics::memory().unwrap(), SqliteAnalytics::memory().unwrap());
    let facts: Vec<_> = (0..2_000).map(fact).collect();
    let port = Analytics::Sqlite(from.clone());
    port.apply(Source::Outcomes, 0, 0, 2_000, 1, &facts).await.unwrap();
    let sums = export(&from, 1_000).await;
    assert!(sums.len() > 100 && sums.len() < facts.len(), "{}", sums.len());
    assert_eq!(export(&from, 7).await, sums);
    let scopes: Vec<_> = sums.iter().map(|fact| fact.scope).collect();
    assert!(scopes.is_sorted(), "those of a scope stand together");
    let port = Analytics::Sqlite(to.clone());
    port.apply(Source::Moved, 0, 0, sums.len() as u64, 1, &sums).await.unwrap();
    assert_eq!(export(&to, 1_000).await, sums);
}
