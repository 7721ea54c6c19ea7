//! Topics: created where they are missing, compared where they are there.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier};
use rdkafka::admin::{OwnedResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{KafkaOptions, RECORD_BYTES_MAX, Report};
use crate::log::{Quiet, TopicFacts, metadata};
use crate::{Error, Kind, Topic};

/// Longest the brokers may take for one request.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Looks at whether the brokers know of new topics.
const LOOKS_MAX: usize = 100;
/// Between two of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn run(options: &KafkaOptions) -> Result<Report, Error> {
    options.check().map_err(|e| e.during("migrate"))?;
    let names = Topic::ALL.map(|topic| options.topic(topic)).to_vec();
    let before = ask(options, &names).await?;
    let admin = options.client().create_with_context(Quiet).map_err(refused)?;
    let missing = Topic::ALL.into_iter().zip(&before).filter(|(_, facts)| facts.is_none());
    let missing: Vec<Topic> = missing.map(|(topic, _)| topic).collect();
    create(&admin, options, &missing).await?;
    let facts = wait_for_all(options, &names).await?;
    compare(&admin, options, &facts).await?;
    let is_new = |topic: &Topic| missing.contains(topic);
    let (created, found): (Vec<Topic>, Vec<Topic>) = Topic::ALL.into_iter().partition(is_new);
    let names = |topics: Vec<Topic>| topics.into_iter().map(|t| options.topic(t)).collect();
    Ok(Report { created: names(created), found: names(found) })
}

async fn ask(options: &KafkaOptions, names: &[String]) -> Result<Vec<Option<TopicFacts>>, Error> {
    metadata::ask(&options.brokers, names).await.map_err(|e| e.during("migrate"))
}

async fn create(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
    topics: &[Topic],
) -> Result<(), Error> {
    let described: Vec<_> =
        topics.iter().map(|topic| (options.topic(*topic), settings(options, *topic))).collect();
    let new = described.iter().map(|(name, settings)| {
        let replication = TopicReplication::Fixed(i32::from(options.replication));
        let topic = NewTopic::new(name, i32::from(options.partitions), replication);
        settings.iter().fold(topic, |topic, setting| topic.set(setting.name, &setting.value))
    });
    let new: Vec<_> = new.collect();
    if new.is_empty() {
        return Ok(());
    }
    for result in admin.create_topics(&new, &patience()).await.map_err(refused)? {
        match result {
            // Someone else did at the same time.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let why = format!("topic {name} cannot be created: {code}");
                return Err(Error::indeterminate("migrate", Kind::Unavailable).because(why));
            }
        }
    }
    Ok(())
}

/// New topics take a moment until every broker knows them.
async fn wait_for_all(options: &KafkaOptions, names: &[String]) -> Result<Vec<TopicFacts>, Error> {
    for _ in 0..LOOKS_MAX {
        // A broker that does not know all of a new topic yet answers with an error.
        if let Ok(facts) = ask(options, names).await
            && let Some(facts) = facts.into_iter().collect::<Option<Vec<_>>>()
        {
            return Ok(facts);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let why = "the brokers do not know of the topics they have created";
    Err(Error::indeterminate("migrate", Kind::Unavailable).because(why))
}

/// Fails with every difference.
async fn compare(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
    facts: &[TopicFacts],
) -> Result<(), Error> {
    let names = Topic::ALL.map(|topic| options.topic(topic));
    let asked = names.each_ref().map(|name| ResourceSpecifier::Topic(name));
    let found = admin.describe_configs(&asked, &patience()).await.map_err(refused)?;
    let mut differences = Vec::new();
    let described = |name: &str| {
        let is_it = |found: &&ConfigResource| matches!(&found.specifier, OwnedResourceSpecifier::Topic(of) if of == name);
        found.iter().flatten().find(is_it).ok_or_else(|| {
            let why = format!("topic {name} cannot be described");
            Error::determinate("migrate", Kind::Unavailable).because(why)
        })
    };
    for ((topic, name), facts) in Topic::ALL.into_iter().zip(&names).zip(facts) {
        let found = described(name)?;
        differences.extend(shape_differences(options, name, facts));
        differences.extend(setting_differences(name, &settings(options, topic), found));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::determinate("migrate", Kind::Conflict).because(differences.join("\n")))
}

fn shape_differences(options: &KafkaOptions, name: &str, facts: &TopicFacts) -> Vec<String> {
    let mut differences = Vec::new();
    if facts.partitions != usize::from(options.partitions) {
        differences.push(format!(
            "topic {name} has {} partitions, not {}. They cannot be changed, because they say where \
             a record goes: set partitions to what is there, or take another topic_prefix.",
            facts.partitions, options.partitions
        ));
    }
    if facts.replication < usize::try_from(options.replication).unwrap_or_default() {
        differences.push(format!(
            "topic {name} has {} copies, fewer than {}. Add some with \
             kafka-reassign-partitions.sh, or lower replication.",
            facts.replication, options.replication
        ));
    }
    differences
}

fn setting_differences(name: &str, settings: &[Setting], found: &ConfigResource) -> Vec<String> {
    let differs = settings.iter().filter_map(|setting| {
        let is = found.get(setting.name).and_then(|entry| entry.value.as_deref()).unwrap_or("");
        (!setting.holds(is)).then(|| {
            format!(
                "topic {name} has {0} = {is}, {1}. Change it with kafka-configs.sh --alter \
                 --entity-type topics --entity-name {name} --add-config {0}={2}",
                setting.name,
                setting.demand(),
                setting.value
            )
        })
    });
    differs.collect()
}

/// What a topic's configuration must say.
struct Setting {
    name: &'static str,
    value: String,
    rule: Rule,
}

enum Rule {
    Exactly,
    AtLeast,
    /// A time in milliseconds, -1 being for ever.
    NoShorter,
}

impl Setting {
    fn holds(&self, is: &str) -> bool {
        let numbers = || Some((is.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        match self.rule {
            Rule::Exactly => is == self.value,
            Rule::AtLeast => numbers().is_some_and(|(is, least)| is >= least),
            Rule::NoShorter => {
                numbers().is_some_and(|(is, least)| is == -1 || (least != -1 && is >= least))
            }
        }
    }

    fn demand(&self) -> String {
        match self.rule {
            Rule::Exactly => format!("which must be {}", self.value),
            Rule::AtLeast => format!("which must be at least {}", self.value),
            Rule::NoShorter => format!("which must be no shorter than {}", self.value),
        }
    }
}

fn settings(options: &KafkaOptions, topic: Topic) -> Vec<Setting> {
    let retention_ms = match topic {
        Topic::Events | Topic::Clicks | Topic::CatalogChanges => options.retention_ms,
        // Whoever has told them lets go of them; Kafka's offsets do not say what is still needed.
        Topic::Outcomes | Topic::DeadLetters => -1,
    };
    let setting = |name, value: String, rule| Setting { name, value, rule };
    vec![
        setting("cleanup.policy", "delete".into(), Rule::Exactly),
        setting("retention.ms", retention_ms.to_string(), Rule::NoShorter),
        setting("retention.bytes", "-1".into(), Rule::Exactly),
        setting("min.insync.replicas", options.min_insync.to_string(), Rule::AtLeast),
        setting("message.timestamp.type", "CreateTime".into(), Rule::Exactly),
        setting("unclean.leader.election.enable", "false".into(), Rule::Exactly),
        setting("max.message.bytes", RECORD_BYTES_MAX.to_string(), Rule::AtLeast),
    ]
}

fn patience() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_MAX)).operation_timeout(Some(ANSWER_MAX))
}

fn refused(e: KafkaError) -> Error {
    Error::indeterminate("migrate", Kind::Unavailable).because(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_says_what_it_takes() {
        let setting = |value: &str, rule| Setting { name: "x", value: value.into(), rule };
        let cases = [
            (setting("delete", Rule::Exactly), "delete", true),
            (setting("delete", Rule::Exactly), "compact", false),
            (setting("2", Rule::AtLeast), "3", true),
            (setting("2", Rule::AtLeast), "1", false),
            (setting("1000", Rule::NoShorter), "1000", true),
            (setting("1000", Rule::NoShorter), "-1", true),
            (setting("1000", Rule::NoShorter), "999", false),
            (setting("-1", Rule::NoShorter), "999", false),
            (setting("-1", Rule::NoShorter), "", false),
        ];
        for (setting, is, holds) in cases {
            assert_eq!(setting.holds(is), holds, "{is} against {}", setting.demand());
        }
    }
}
