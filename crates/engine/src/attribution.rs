//! Who earns: link, click and code, in that order, and at last whom the customer is bound to (`domain.md`
//! 4.3 step 4).
//!
//! A key counts if it is known in this campaign; archived links and codes do. A click must be younger
//! than the look-back when the event happened, and not five minutes later than it. Keys that do not count are noted and passed over; if
//! none counts, the first of them says why. A link and a code that name different aktvators conflict;
//! between click and code the rulebook decides; a link beats a click.

use std::sync::Arc;

use bytes::Bytes;
use schemas::id::{AktvatorId, CampaignId, LinkId};
use schemas::partition::Scope;
use schemas::proto;

use crate::decision::Code;
use crate::entry::{CLOCK_SKEW_MAX_MS, Conversion};
use crate::key::Key;
use crate::lookup::{Lookup, Stop};
use crate::rulebook::{AttributionTerms, Binding};

/// How the aktvator was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Link,
    Click,
    Code,
    /// Whom the customer is bound to.
    Customer,
    /// Whose attempt it verifies.
    Attempt,
}

/// Who earns, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribution<'a> {
    pub(crate) by: By,
    pub(crate) campaign: CampaignId,
    pub(crate) aktvator: AktvatorId,
    /// The bytes of `aktvator`, to be shared.
    pub(crate) aktvator_id: &'a Bytes,
    pub(crate) link: Option<LinkId>,
    pub(crate) code: &'a str,
}

/// What an event's keys name. Outer `None`: the event has no such key; inner `None`: nothing known.
pub(crate) struct Named<'a> {
    link: Option<Option<Attribution<'a>>>,
    click: Option<Option<Attribution<'a>>>,
    code: Option<Option<Attribution<'a>>>,
    attempt: Option<Attribution<'a>>,
}

impl By {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Click => "click",
            Self::Code => "code",
            Self::Customer => "customer",
            Self::Attempt => "attempt",
        }
    }
}

impl<'a> Named<'a> {
    /// Looks all keys of the event up.
    pub(crate) fn look_up(
        look: &mut Lookup<'a, '_>,
        scope: Scope,
        event: &'a Conversion,
    ) -> Result<Self, Stop> {
        let link = event.link.map(|id| by_link(look, scope, id, By::Link));
        let click = event.click.map(|(id, _)| by_link(look, scope, id, By::Click));
        let code = event.code.as_ref().map(|text| by_code(look, scope, text));
        let (link, click, code) = (link.transpose()?, click.transpose()?, code.transpose()?);
        Ok(Self { link, click, code, attempt: by_attempt(event) })
    }

    /// The campaign of the first key that names something.
    pub(crate) fn campaign(&self) -> Option<CampaignId> {
        self.found().next().map(|found| found.campaign)
    }

    /// Everyone who may turn out to earn.
    pub(crate) fn aktvators(&self) -> impl Iterator<Item = AktvatorId> {
        self.found().map(|found| found.aktvator)
    }

    fn found(&self) -> impl Iterator<Item = Attribution<'a>> {
        let named = [self.link, self.click, self.code].into_iter().flatten().flatten();
        self.attempt.into_iter().chain(named)
    }

    /// Who earns by these keys in `campaign`. Keys passed over are added to `notes`.
    pub(crate) fn resolve(
        &self,
        event: &Conversion,
        campaign: CampaignId,
        terms: AttributionTerms,
        notes: &mut Vec<String>,
    ) -> Result<Attribution<'a>, Stop> {
        if let Some(attempt) = self.attempt.filter(|attempt| attempt.campaign == campaign) {
            return Ok(attempt);
        }
        let mut first_failure = None;
        let mut passed_over = |code: Code, by: By| {
            notes.push(format!("{} passed over: {}", by.as_str(), code.as_str()));
            first_failure.get_or_insert(Stop::Refused(code, by.as_str()));
        };
        let mut counting = |named: Option<Option<Attribution<'a>>>, by: By| {
            let found = named?.filter(|found| found.campaign == campaign);
            if found.is_none() {
                passed_over(Code::UnknownAttribution, by);
            }
            let fresh = found.filter(|_| by != By::Click || in_look_back(event, terms));
            if found.is_some() && fresh.is_none() {
                passed_over(Code::AttributionExpired, by);
            }
            fresh
        };
        let link = counting(self.link, By::Link);
        let click = counting(self.click, By::Click);
        let code = counting(self.code, By::Code);
        if let (Some(link), Some(code)) = (link, code)
            && link.aktvator != code.aktvator
        {
            return Err(Stop::Refused(Code::AttributionConflict, ""));
        }
        let code_first = terms.code_beats_click
            && matches!((click, code), (Some(click), Some(code)) if click.aktvator != code.aktvator);
        let found = link.or(if code_first { code.or(click) } else { click.or(code) });
        found.ok_or_else(|| {
            first_failure.unwrap_or(Stop::Refused(Code::UnknownAttribution, "none_given"))
        })
    }
}

/// Who earns, given to whom the customer is bound. Where the first conversion binds, the customer stays
/// with that one whoever is named; else what is named comes first, unless nothing of it counts.
pub(crate) fn with_bound<'a>(
    named: Result<Attribution<'a>, Stop>,
    bound: Option<Attribution<'a>>,
    terms: AttributionTerms,
    notes: &mut Vec<String>,
) -> Result<Attribution<'a>, Stop> {
    let Some(bound) = bound else { return named };
    match named {
        Err(Stop::Unfetched) => Err(Stop::Unfetched),
        Ok(named) if named.aktvator == bound.aktvator => Ok(named),
        Ok(_) if terms.binding == Binding::FirstConversion => {
            notes.push("bound_to_other".to_owned());
            Ok(bound)
        }
        Err(Stop::Refused(Code::AttributionConflict, _))
            if terms.binding != Binding::FirstConversion =>
        {
            named
        }
        Ok(named) => Ok(named),
        Err(Stop::Refused(..)) => Ok(bound),
    }
}

/// Whom a customer is bound to.
pub(crate) fn by_customer(
    campaign: CampaignId,
    row: &proto::BindingRow,
) -> Option<Attribution<'_>> {
    let aktvator = AktvatorId::from_proto(&row.aktvator_id)?;
    let link = row.link_id.as_deref().and_then(LinkId::from_proto);
    let (by, aktvator_id) = (By::Customer, &row.aktvator_id);
    Some(Attribution { by, campaign, aktvator, aktvator_id, link, code: &row.code })
}

/// Whose attempt the event verifies.
fn by_attempt(event: &Conversion) -> Option<Attribution<'_>> {
    let (aktvator_id, aktvator) = (event.event.aktvator_id.as_ref()?, event.attempt?);
    let by = By::Attempt;
    Some(Attribution { by, campaign: event.campaign?, aktvator, aktvator_id, link: None, code: "" })
}

fn by_link<'a>(
    look: &mut Lookup<'a, '_>,
    scope: Scope,
    id: LinkId,
    by: By,
) -> Result<Option<Attribution<'a>>, Stop> {
    let Some(row) = look.link(Key::Link(scope, id))? else { return Ok(None) };
    Ok(attribution(by, &row.campaign_id, &row.aktvator_id, Some(id), &row.code))
}

fn by_code<'a>(
    look: &mut Lookup<'a, '_>,
    scope: Scope,
    text: &Arc<str>,
) -> Result<Option<Attribution<'a>>, Stop> {
    let Some(row) = look.code(Key::Code(scope, text.clone()))? else { return Ok(None) };
    let link = row.link_id.as_deref().and_then(LinkId::from_proto);
    Ok(attribution(By::Code, &row.campaign_id, &row.aktvator_id, link, &row.code))
}

fn attribution<'a>(
    by: By,
    campaign: &[u8],
    aktvator_id: &'a Bytes,
    link: Option<LinkId>,
    code: &'a str,
) -> Option<Attribution<'a>> {
    let campaign = CampaignId::from_proto(campaign)?;
    let aktvator = AktvatorId::from_proto(aktvator_id)?;
    Some(Attribution { by, campaign, aktvator, aktvator_id, link, code })
}

/// A click a little after the event is young, for clocks differ; one long after it did not bring it.
fn in_look_back(event: &Conversion, terms: AttributionTerms) -> bool {
    event.click.is_some_and(|(_, clicked_at_ms)| {
        let age_ms = event.occurred_at_ms.saturating_sub(clicked_at_ms);
        (-CLOCK_SKEW_MAX_MS..=terms.lookback_ms).contains(&age_ms)
    })
}
