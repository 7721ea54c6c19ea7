//! What rules may ask about: an attributed conversion, and its fields as values.

use std::cell::OnceCell;

use schemas::id::{AktvatorId, CampaignId, GigId};
use schemas::partition::Scope;
use schemas::proto;
use serde_json::Value as Json;

use crate::attribution::Attribution;
use crate::calendar::{Bucket, DAY_MS, LocalDate, Period};
use crate::entry::Conversion;
use crate::metric::{Metric, Past};
use crate::rulebook::Rulebook;

/// A conversion event attributed to an aktvator and a gig, before judgement.
pub(crate) struct Facts<'a> {
    pub(crate) scope: Scope,
    pub(crate) conversion: &'a Conversion,
    pub(crate) campaign: CampaignId,
    pub(crate) gig: GigId,
    pub(crate) aktvator_id: AktvatorId,
    pub(crate) aktvator: &'a proto::AktvatorState,
    pub(crate) attribution: Attribution<'a>,
    pub(crate) accepted_at_ms: i64,
    /// Fold time.
    pub(crate) now_ms: i64,
    pub(crate) rulebook: &'a Rulebook,
    /// Of the rulebook.
    pub(crate) version: u64,
    pub(crate) date: OnceCell<LocalDate>,
    pub(crate) past: Past,
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
    LinkId,
    /// Seconds from the click to the event.
    ClickAgeSeconds,
    /// Whole days from the customer's first conversion to the event.
    CustomerAgeDays,
    /// What the metric stood at before the event.
    Past(Metric),
    /// Of the item that a wrapper looks at.
    ItemSku,
    ItemCategory,
    ItemAmount,
    ItemQuantity,
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
            _ => self.date().bucket(period),
        }
    }

    fn date(&self) -> LocalDate {
        let at_ms = self.conversion.occurred_at_ms;
        *self.date.get_or_init(|| self.rulebook.local_date(at_ms))
    }

    /// The local day that the conversion happened on, since 1970-01-01.
    pub(crate) fn day(&self) -> i32 {
        self.date().day
    }

    /// No event that is still taken happened before this day; with two days to spare for time zones.
    pub(crate) fn oldest_day(&self) -> i32 {
        let oldest_ms = self.accepted_at_ms.saturating_sub(self.rulebook.late_event_max_ms);
        i32::try_from(oldest_ms.div_euclid(DAY_MS) - 2).unwrap_or(i32::MIN)
    }

    /// The event's quantity, if it has one that can be counted.
    pub(crate) fn quantity(&self) -> Option<i64> {
        self.conversion.event.quantity.filter(|quantity| *quantity >= 0)
    }

    /// The value of `field`; `None` where it is missing. `item` is what a wrapper looks at.
    pub(crate) fn value<'v>(
        &'v self,
        field: &Field,
        item: Option<&'v proto::Item>,
    ) -> Option<Value<'v>> {
        let conversion = self.conversion;
        let event = &conversion.event;
        let customer = event.customer.as_ref();
        let text = |text: &'v Option<String>| text.as_deref().map(Value::Text);
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
            Field::LinkId => self.attribution.link.map(|link| Value::Id(link.to_u128())),
            Field::ClickAgeSeconds => {
                let (_, clicked_at_ms) = conversion.click?;
                let age_ms = conversion.occurred_at_ms.checked_sub(clicked_at_ms)?;
                Some(Value::Integer(age_ms.div_euclid(1_000)))
            }
            Field::CustomerAgeDays => {
                let first_ms = self.past.value(Metric::CustomerFirstSeenAt)?;
                let age_ms = conversion.occurred_at_ms.checked_sub(first_ms)?;
                Some(Value::Integer(age_ms.div_euclid(DAY_MS)))
            }
            Field::Past(metric @ Metric::CustomerFirstSeenAt) => {
                self.past.value(*metric).map(Value::Time)
            }
            Field::Past(metric) => self.past.value(*metric).map(Value::Integer),
            Field::ItemSku => text(&item?.sku),
            Field::ItemCategory => text(&item?.category),
            Field::ItemAmount => item?.amount.map(Value::Integer),
            Field::ItemQuantity => item?.quantity.map(Value::Integer),
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
