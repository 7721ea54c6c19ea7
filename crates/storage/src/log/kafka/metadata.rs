//! What the brokers say of topics, asked by a Metadata request of our own: the client library does
//! not show the topic id (`docs/adr/0005-log-identity-on-kafka.md`).
//!
//! Wire format: Kafka protocol, Metadata (api key 3) version 10, which brokers have had since 2.8.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Error, Kind};

/// For one broker to answer; then the next is asked.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes: five topics of 4,096 partitions are below a tenth.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const METADATA: i16 = 3;
const VERSION: i16 = 10;
/// Error code of a topic that is not there.
const UNKNOWN_TOPIC: i16 = 3;
/// Whatever number; one request is one connection.
const CORRELATION: i32 = 1;

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// Drawn when the topic was created, folded to 64 bits.
    pub(crate) identity: u64,
    pub(crate) partitions: usize,
    /// Copies of the partition that has fewest.
    pub(crate) replication: usize,
}

/// Asks the brokers in turn until one answers. By name, in their order; `None` is not there.
pub(crate) async fn ask(
    brokers: &str,
    topics: &[String],
) -> Result<Vec<Option<TopicFacts>>, Error> {
    let mut last = None;
    for broker in brokers.split(',').map(str::trim) {
        let answer = tokio::time::timeout(ANSWER_MAX, ask_one(broker, topics)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(facts) => return Ok(facts),
            Err(e) => last = Some(format!("{broker}: {e}")),
        }
    }
    let why = last.unwrap_or_default();
    Err(Error::determinate("metadata", Kind::Unavailable).because(why))
}

async fn ask_one(broker: &str, topics: &[String]) -> io::Result<Vec<Option<TopicFacts>>> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_all(&request(topics)).await?;
    let len = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    if len > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer of Kafka's"));
    }
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).await?;
    parse(&answer, topics)
}

fn request(topics: &[String]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((-1_i16).to_be_bytes()); // no client id
    body.push(0); // no tagged fields
    put_len(&mut body, topics.len());
    for topic in topics {
        body.extend([0; 16]); // asked by name, not by id
        put_len(&mut body, topic.len());
        body.extend(topic.as_bytes());
        body.push(0);
    }
    // Neither creation of topics, nor operations of the cluster or the topics; no tagged fields.
    body.extend([0; 4]);
    let mut request = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    request.append(&mut body);
    request
}

/// A compact length: one more, as an unsigned varint.
fn put_len(to: &mut Vec<u8>, len: usize) {
    let mut rest = len + 1;
    while rest >= 0x80 {
        to.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn parse(answer: &[u8], topics: &[String]) -> io::Result<Vec<Option<TopicFacts>>> {
    let cut_short = || io::Error::new(io::ErrorKind::InvalidData, "an answer cut short");
    let mut facts = vec![None; topics.len()];
    let mut scan = Scan(answer);
    let entries = scan.entries().ok_or_else(cut_short)?;
    for _ in 0..entries {
        let entry = scan.topic().ok_or_else(cut_short)?;
        let Some(at) = topics.iter().position(|topic| topic.as_bytes() == entry.name) else {
            continue;
        };
        facts[at] = entry.facts()?;
    }
    Ok(facts)
}

/// One topic of the answer.
struct Entry<'a> {
    error: i16,
    name: &'a [u8],
    id: [u8; 16],
    partitions: usize,
    replication: usize,
}

impl Entry<'_> {
    fn facts(&self) -> io::Result<Option<TopicFacts>> {
        match self.error {
            0 => {}
            UNKNOWN_TOPIC => return Ok(None),
            code => return Err(io::Error::other(format!("error code {code}"))),
        }
        let (high, low) = self.id.split_at(8);
        let fold = |half: &[u8]| half.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        if self.id == [0; 16] {
            return Err(io::Error::other("the broker gives topics no id; it is older than 2.8"));
        }
        Ok(Some(TopicFacts {
            identity: fold(high) ^ fold(low),
            partitions: self.partitions,
            replication: self.replication,
        }))
    }
}

/// What is left of an answer. Methods take from its front; `None` when it is too short.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    /// Everything before the topics; their number.
    fn entries(&mut self) -> Option<usize> {
        self.take(4)?; // correlation
        self.tags()?;
        self.take(4)?; // throttle time
        for _ in 0..self.len()? {
            self.take(4)?; // node
            self.bytes()?; // host
            self.take(4)?; // port
            self.bytes()?; // rack
            self.tags()?;
        }
        self.bytes()?; // cluster
        self.take(4)?; // controller
        self.len()
    }

    fn topic(&mut self) -> Option<Entry<'a>> {
        let error = i16::from_be_bytes(self.take(2)?.try_into().ok()?);
        let name = self.bytes()?;
        let id = self.take(16)?.try_into().ok()?;
        self.take(1)?; // internal
        let partitions = self.len()?;
        let mut replication = usize::MAX;
        for _ in 0..partitions {
            self.take(2 + 4 + 4 + 4)?; // error, number, leader, leader's epoch
            let replicas = self.len()?;
            self.take(replicas.checked_mul(4)?)?;
            replication = replication.min(replicas);
            for _ in ["in sync", "offline"] {
                let nodes = self.len()?;
                self.take(nodes.checked_mul(4)?)?;
            }
            self.tags()?;
        }
        self.take(4)?; // operations
        self.tags()?;
        Some(Entry { error, name, id, partitions, replication })
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A compact length; null is as good as empty here.
    fn len(&mut self) -> Option<usize> {
        Some(self.varint()?.saturating_sub(1))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.take(len)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as a broker writes it: one broker, then topics of two partitions.
    fn answer(topics: &[(i16, &str, [u8; 16])]) -> Vec<u8> {
        let mut to = Vec::new();
        to.extend([0, 0, 0, 1, 0]); // correlation, tags
        to.extend([0; 4]);
        to.extend([2, 0, 0, 0, 1, 5]);
        to.extend(b"host");
        to.extend([0, 0, 0x23, 0x84, 0, 0]); // port, no rack, tags
        put_len(&mut to, 3);
        to.extend(b"abc");
        to.extend([0, 0, 0, 1]);
        put_len(&mut to, topics.len());
        for (error, name, id) in topics {
            to.extend(error.to_be_bytes());
            put_len(&mut to, name.len());
            to.extend(name.as_bytes());
            to.extend(id);
            to.push(0);
            to.push(3);
            for partition in 0..2_u8 {
                to.extend([0, 0, 0, 0, 0, partition, 0, 0, 0, 1, 0, 0, 0, 0]);
                put_len(&mut to, usize::from(3 - partition));
                to.extend(vec![0; 4 * usize::from(3 - partition)]);
                to.extend([1, 1, 1, 7, 2, 9, 9]); // none in sync, none offline, one tag
            }
            to.extend([0; 5]);
        }
        to.extend([0; 5]);
        to
    }

    fn names() -> Vec<String> {
        vec!["x.events".into(), "x.clicks".into()]
    }

    #[test]
    fn topics_are_found_by_name_with_their_ids() {
        let mut id = [0; 16];
        id[7] = 5;
        id[15] = 6;
        let answer = answer(&[(UNKNOWN_TOPIC, "x.clicks", [0; 16]), (0, "x.events", id)]);
        let facts = parse(&answer, &names()).unwrap();
        let events = TopicFacts { identity: 3, partitions: 2, replication: 2 };
        assert_eq!(facts, [Some(events), None]);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        let id = [1; 16];
        let whole = answer(&[(0, "x.events", id)]);
        for len in 0..whole.len() - 5 {
            parse(&whole[..len], &names()).unwrap_err();
        }
        parse(&answer(&[(0, "x.events", [0; 16])]), &names()).unwrap_err();
        parse(&answer(&[(29, "x.events", id)]), &names()).unwrap_err();
    }

    #[test]
    fn lengths_are_varints_of_one_more() {
        for len in [0, 126, 127, 128, 16_382, 16_383, 2_000_000] {
            let mut to = Vec::new();
            put_len(&mut to, len);
            assert_eq!(Scan(&to).len(), Some(len));
        }
    }
}
