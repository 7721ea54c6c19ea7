//! What rules may ask about: an attributed conversion, and its fields as values.

use std::cell::OnceCell;

use schemas::id::{AktvatorId, CampaignId, GigId};
use schemas::partition::Scope;
use schemas::proto;
use serde_json::Value as Json;

use crate::calendar::{Bucket, LocalDate, Period};
use crate::entry::Conversion;
use crate::rulebook::Rulebook;

/// A conversion event attributed to an aktvator and a gig, before judgement.
pub(crate) struct Facts<'a> {
    pub(crate) scope: Scope,
    pub(crate) conversion: &'a Conversion,
    pub(crate) campaign: CampaignId,
    pub(crate) gig: GigId,
    pub(crate) aktvator_id: AktvatorId,
    pub(crate) aktvator: &'a proto::AktvatorState,
    pub(crate) rulebook: &'a Rulebook,
    pub(crate) date: OnceCell<LocalDate>,
}

/// A field that conditions may ask for (`domain.md` 4.4, as far as built).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    EventType,
    EventAmount,
    EventCurrency,
    EventQuantity,
    EventOccurredAt,
    EventExternalRef,
    /// The path below `event.metadata`.
    EventMetadata(Vec<String>),
    CustomerId,
    CustomerCountry,
    CustomerStatus,
    AktvatorId,
    AktvatorCountry,
    AktvatorStatus,
    AktvatorGroup,
    AktvatorTags,
    AktvatorJoinedAt,
}

/// The value of a field. Instants are milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Time(i64),
    Bool(bool),
    Id(u128),
    Texts(&'a [String]),
    /// An array or object of the metadata, or a number that is not whole.
    Other(&'a Json),
}

impl<'a> Facts<'a> {
    /// The bucket of `period` that the conversion happened in.
    pub(crate) fn bucket(&self, period: Period) -> Bucket {
        match period {
            Period::Lifetime => Bucket { period, index: 0 },
            Period::Day | Period::Month => {
                let at_ms = self.conversion.occurred_at_ms;
                self.date.get_or_init(|| self.rulebook.local_date(at_ms)).bucket(period)
            }
        }
    }

    /// The value of `field`; `None` where it is missing.
    pub(crate) fn value(&self, field: &Field) -> Option<Value<'a>> {
        let conversion = self.conversion;
        let event = &conversion.event;
        let customer = event.customer.as_ref();
        let text = |text: &'a Option<String>| text.as_deref().map(Value::Text);
        match field {
            Field::EventType => Some(Value::Text(&event.event_type)),
            Field::EventAmount => event.amount.map(Value::Integer),
            Field::EventCurrency => text(&event.currency),
            Field::EventQuantity => event.quantity.map(Value::Integer),
            Field::EventOccurredAt => Some(Value::Time(conversion.occurred_at_ms)),
            Field::EventExternalRef => text(&event.external_ref),
            Field::EventMetadata(path) => metadata(conversion.metadata(), path),
            Field::CustomerId => text(&customer?.id),
            Field::CustomerCountry => text(&customer?.country),
            Field::CustomerStatus => text(&customer?.status),
            Field::AktvatorId => Some(Value::Id(self.aktvator_id.to_u128())),
            Field::AktvatorCountry => text(&self.aktvator.country),
            Field::AktvatorStatus => Some(Value::Text(&self.aktvator.status)),
            Field::AktvatorGroup => text(&self.aktvator.group),
            Field::AktvatorTags => Some(Value::Texts(&self.aktvator.tags)),
            Field::AktvatorJoinedAt => Some(Value::Time(self.aktvator.joined_at_ms)),
        }
    }
}

/// Null is missing. Numbers beyond 64 bits or with a fraction are no integers.
fn metadata<'a>(root: &'a Json, path: &[String]) -> Option<Value<'a>> {
    let value = path.iter().try_fold(root, |value, name| value.as_object()?.get(name))?;
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::Text(text),
        Json::Number(number) => number.as_i64().map_or(Value::Other(value), Value::Integer),
        Json::Array(_) | Json::Object(_) => Value::Other(value),
    })
}
