//! From a conversion event to the facts that rules judge: campaign, gig, rulebook, lateness,
//! attribution, currency, aktvator, in that order (`domain.md` 4.3 steps 2 to 4, and 4.4).

use std::cell::OnceCell;

use bytes::Bytes;
use schemas::id::{CampaignId, GigId};
use schemas::proto;

use crate::amount::in_currency;
use crate::attribution::{Attribution, Named, by_customer, with_bound};
use crate::decision::Code;
use crate::entry::{CLOCK_SKEW_MAX_MS, Conversion, Entry};
use crate::facts::Facts;
use crate::key::Key;
use crate::lookup::{Lookup, Stop};
use crate::metric::Past;
use crate::rulebook::{AttributionTerms, Binding, Rulebook};

/// How far the way went: what a decision records even of a refused event.
#[derive(Default)]
pub(crate) struct Trail<'a> {
    pub(crate) campaign: Option<CampaignId>,
    /// The bytes of its id.
    pub(crate) gig: Option<&'a Bytes>,
    pub(crate) rulebook_version: Option<u64>,
    pub(crate) attribution: Option<Attribution<'a>>,
    pub(crate) notes: Vec<String>,
}

/// The facts that rules judge, or why there is nothing to judge.
pub(crate) fn resolve<'a>(
    look: &mut Lookup<'a, '_>,
    entry: &Entry,
    event: &'a Conversion,
    now_ms: i64,
    trail: &mut Trail<'a>,
) -> Result<Facts<'a>, Stop> {
    let scope = entry.scope;
    let named = Named::look_up(look, scope, event);
    // Rows are asked for as soon as their keys are known, so that one fetch brings them together.
    let by_client = event.campaign.map(|id| Terrain::look_up(look, entry, id));
    let named = named?;
    for id in named.aktvators() {
        let _ = look.aktvator(Key::Aktvator(scope, id));
        let _ = look.balance(Key::Balance(scope, id));
    }
    let campaign = event.campaign.or(named.campaign());
    let terrain = match (by_client, campaign) {
        (Some(terrain), _) => terrain?,
        (None, Some(id)) => Terrain::look_up(look, entry, id)?,
        (None, None) => return Err(nothing_named(event)),
    };
    trail.campaign = campaign;
    terrain.is_active()?;
    let (gig, gig_id) = terrain.gig(event)?;
    trail.gig = Some(gig_id);
    let (version, rulebook) = terrain.rulebook(look, entry)?;
    trail.rulebook_version = Some(version);
    in_time(event, entry.accepted_at_ms, rulebook)?;
    let terms = rulebook.attribution;
    let bound = bound(look, entry, event, terrain.id, terms)?;
    let named = named.resolve(event, terrain.id, terms, &mut trail.notes);
    let attribution = with_bound(named, bound, terms, &mut trail.notes)?;
    trail.attribution = Some(attribution);
    // Before the aktvator's standing, so that whatever is counted of a later refusal is in the
    // rulebook's currency.
    in_currency(&event.event, rulebook.currency)
        .map_err(|(code, detail)| Stop::Refused(code, detail))?;
    let aktvator = look.aktvator(Key::Aktvator(scope, attribution.aktvator))?;
    let aktvator = aktvator.ok_or(Stop::Refused(Code::UnknownAttribution, "aktvator"))?;
    if aktvator.status != "approved" {
        return Err(Stop::Refused(Code::NotEligible, "aktvator.status"));
    }
    let mut facts = Facts {
        scope,
        conversion: event,
        campaign: terrain.id,
        gig,
        attribution,
        aktvator_id: attribution.aktvator,
        aktvator,
        rulebook,
        version,
        accepted_at_ms: entry.accepted_at_ms,
        now_ms,
        date: OnceCell::new(),
        past: Past::default(),
    };
    facts.past = Past::look_up(look, &facts)?;
    Ok(facts)
}

/// Whom the event's customer is bound to, if the rulebook binds customers.
fn bound<'a>(
    look: &mut Lookup<'a, '_>,
    entry: &Entry,
    event: &Conversion,
    campaign: CampaignId,
    terms: AttributionTerms,
) -> Result<Option<Attribution<'a>>, Stop> {
    let customer = event.customer().filter(|_| terms.binding != Binding::None);
    let Some(customer) = customer else { return Ok(None) };
    let row = look.binding(Key::Binding(entry.scope, campaign, customer))?;
    Ok(row.and_then(|row| by_customer(campaign, row)))
}

/// Neither a campaign, nor a key that implies one.
fn nothing_named(event: &Conversion) -> Stop {
    let detail = match event {
        Conversion { link: Some(_), .. } => "link",
        Conversion { click: Some(_), .. } => "click",
        Conversion { code: Some(_), .. } => "code",
        _ => "none_given",
    };
    Stop::Refused(Code::UnknownAttribution, detail)
}

/// The rows of one campaign.
struct Terrain<'a> {
    id: CampaignId,
    campaign: Option<&'a proto::CampaignState>,
    gigs: &'a [proto::GigState],
    rulebooks: &'a [proto::RulebookVersion],
}

impl<'a> Terrain<'a> {
    /// Asks for all of it, so that one fetch brings it.
    fn look_up(look: &mut Lookup<'a, '_>, entry: &Entry, id: CampaignId) -> Result<Self, Stop> {
        let scope = entry.scope;
        let campaign = look.campaign(Key::Campaign(scope, id));
        let gigs = look.gigs(Key::Gigs(scope, id));
        let rulebooks = look.rulebooks(Key::Rulebooks(scope, id));
        let terrain = Self {
            id,
            campaign: campaign?,
            gigs: gigs?.map_or(&[], Vec::as_slice),
            rulebooks: rulebooks?.map_or(&[], Vec::as_slice),
        };
        if let Some(version) = in_force(terrain.rulebooks, entry.accepted_at_ms) {
            look.rulebook(Key::Rulebook(scope, id, version))?;
        }
        Ok(terrain)
    }

    fn is_active(&self) -> Result<(), Stop> {
        match self.campaign {
            None => Err(Stop::Refused(Code::CampaignNotActive, "unknown_campaign")),
            Some(campaign) if campaign.status != "active" => {
                Err(Stop::Refused(Code::CampaignNotActive, ""))
            }
            Some(_) => Ok(()),
        }
    }

    /// The published gig of the event's type: the one it names, else the first by id.
    fn gig(&self, event: &Conversion) -> Result<(GigId, &'a Bytes), Stop> {
        let id_of = |gig: &proto::GigState| GigId::from_proto(&gig.id);
        if let Some(named) = event.gig
            && !self.gigs.iter().any(|gig| id_of(gig) == Some(named))
        {
            return Err(Stop::Refused(Code::EventTypeMismatch, "unknown_gig"));
        }
        let is_candidate = |gig: &&proto::GigState| {
            gig.action_type == event.event.event_type
                && event.gig.is_none_or(|named| id_of(gig) == Some(named))
        };
        let mut candidates = self.gigs.iter().filter(is_candidate).peekable();
        if candidates.peek().is_none() {
            return Err(Stop::Refused(Code::EventTypeMismatch, ""));
        }
        candidates
            .find(|gig| gig.status == "published")
            .and_then(|gig| Some((id_of(gig)?, &gig.id)))
            .ok_or(Stop::Refused(Code::GigClosed, ""))
    }

    fn rulebook(
        &self,
        look: &mut Lookup<'a, '_>,
        entry: &Entry,
    ) -> Result<(u64, &'a Rulebook), Stop> {
        let version = in_force(self.rulebooks, entry.accepted_at_ms)
            .ok_or(Stop::Refused(Code::ConditionsNotMet, "no_rulebook"))?;
        let rulebook = look.rulebook(Key::Rulebook(entry.scope, self.id, version))?;
        // A listed version has its row.
        Ok((version, rulebook.ok_or(Stop::Unfetched)?))
    }
}

/// The highest version whose `effectiveFrom` is not after `accepted_at_ms`. `versions` are by version.
fn in_force(versions: &[proto::RulebookVersion], accepted_at_ms: i64) -> Option<u64> {
    let in_force = |version: &&proto::RulebookVersion| version.effective_from_ms <= accepted_at_ms;
    versions.iter().rev().find(in_force).map(|version| version.version)
}

fn in_time(event: &Conversion, accepted_at_ms: i64, rulebook: &Rulebook) -> Result<(), Stop> {
    let late_ms = accepted_at_ms.saturating_sub(event.occurred_at_ms);
    if late_ms > rulebook.late_event_max_ms {
        Err(Stop::Refused(Code::LateEvent, ""))
    } else if late_ms < -CLOCK_SKEW_MAX_MS {
        Err(Stop::Refused(Code::EventInFuture, ""))
    } else {
        Ok(())
    }
}
