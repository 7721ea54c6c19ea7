//! The catalog: settings, then documents with their names.

use futures_util::StreamExt;
use futures_util::stream;
use storage::Catalog;
use storage::catalog::{Change, Entry, Expected, Kind};

use super::Target;
use super::source::Source;
use crate::failure::chain;

/// Documents of one read.
const PAGE: usize = 1_000;
/// Documents on their way at once: each is a few round trips.
const AT_ONCE: usize = 32;

/// Puts everything that is not there yet; how many documents there are.
pub(super) async fn take(source: &Source, target: &Target) -> Result<u64, String> {
    for (name, value) in source.catalog.settings().await.map_err(chain)? {
        let stored = target.catalog.setting(&name, || value.clone()).await.map_err(chain)?;
        if stored != value {
            return Err(format!("the servers have another {name}: they were served before"));
        }
    }
    let mut documents = 0;
    // What is known of the old installation as a whole stays there.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Setting) {
        let mut after = None;
        loop {
            let entries = source.catalog.export(kind, after, PAGE).await.map_err(chain)?;
            let Some(last) = entries.last() else { break };
            after = Some(last.document.id.clone());
            documents += entries.len() as u64;
            let puts = entries.into_iter().map(|entry| put(&target.catalog, entry));
            let mut puts = stream::iter(puts).buffer_unordered(AT_ONCE);
            while let Some(put) = puts.next().await {
                put?;
            }
        }
    }
    Ok(documents)
}

async fn put(catalog: &Catalog, entry: Entry) -> Result<(), String> {
    let Entry { document, names } = entry;
    match catalog.get(document.kind, &document.id).await.map_err(chain)? {
        Some(found) if found == document => Ok(()),
        Some(_) => Err(format!("{} is another one on the servers", document.id)),
        None => {
            let expected = Expected::Absent;
            let change = Change { document, expected, uniques: names, command: None };
            catalog.apply(vec![change]).await.map(drop).map_err(chain)
        }
    }
}
