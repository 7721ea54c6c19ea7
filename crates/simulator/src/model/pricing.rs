//! What the rules give for an event, read from their JSON.

use schemas::hash;
use schemas::id::ConversionEventId;
use schemas::proto::ConversionEvent;
use schemas::time::Timestamp;
use serde_json::Value;

use super::{Books, DAY_MS, Id, Owed, list};

/// An event before the rules.
pub(super) struct Case<'a> {
    pub(super) event: &'a ConversionEvent,
    pub(super) id: ConversionEventId,
    pub(super) campaign: Id,
    pub(super) aktvator: Id,
    pub(super) customer: Option<String>,
    pub(super) at_ms: i64,
    pub(super) accepted_ms: i64,
    pub(super) now_ms: i64,
}

/// What a rule that matches gives before caps, and what it counts by.
struct Offer<'r> {
    rule: &'r Value,
    caps: Vec<&'r Value>,
    slot: Option<String>,
    amount: Result<i64, &'static str>,
    /// It does not follow the event's amount.
    is_flat: bool,
    metric: Option<(String, Option<i64>, i64, bool)>,
}

impl Books {
    /// The code of the event.
    pub(super) fn rules(&mut self, case: &Case<'_>, rulebook: &Value) -> &'static str {
        let mut rules: Vec<&Value> = list(&rulebook["rules"]);
        rules.sort_by_key(|rule| rule["priority"].as_i64());
        let (mut refusal, mut offers, mut said) =
            ((0, "conditions_not_met"), Vec::new(), Vec::new());
        for rule in rules {
            let types = list(&rule["on"]["eventTypes"]);
            if !types.contains(&&Value::from(&case.event.event_type[..])) {
                continue;
            }
            match self.offer(case, rulebook, rule) {
                Err(refused) => refusal = refusal.max(refused),
                Ok(offer) => match rulebook["combine"].as_str() {
                    Some("best") => offers.push(offer),
                    Some("sum") => said.push(self.take(case, offer)),
                    _ => return code(&[self.take(case, offer)], refusal.1),
                },
            }
        }
        let most = offers.iter().filter_map(|offer| offer.amount.ok()).max();
        let best = offers.iter().position(|offer| offer.amount.ok() == most);
        for (at, offer) in offers.into_iter().enumerate() {
            match offer.amount {
                Ok(_) if best != Some(at) => refusal = refusal.max((2, "conditions_not_met")),
                _ => said.push(self.take(case, offer)),
            }
        }
        code(&said, refusal.1)
    }

    /// What the rule gives, or how far the event came with it, and why no further.
    fn offer<'r>(
        &self,
        case: &Case<'_>,
        rulebook: &'r Value,
        rule: &'r Value,
    ) -> Result<Offer<'r>, (i32, &'static str)> {
        let caps = [list(&rule["caps"]), list(&rulebook["caps"])].concat();
        let per_customer =
            |cap: &&Value| cap["scope"].as_str().is_some_and(|s| s.contains("customer"));
        if case.customer.is_none() && caps.iter().any(per_customer) {
            return Err((1, "not_eligible"));
        }
        // The only condition drawn: the amount is at least so much.
        if let Some(least) = rule["when"]["value"].as_i64()
            && case.event.amount.is_none_or(|amount| amount < least)
        {
            return Err((2, "conditions_not_met"));
        }
        let window = rule["uniqueness"]["window"].as_str();
        let slot = window.zip(case.customer.as_ref()).map(|(window, customer)| {
            let bucket = bucket(window, case.at_ms);
            format!("{:?} {} {bucket} {customer}", case.campaign, rule["key"])
        });
        if slot.as_ref().is_some_and(|slot| self.uniques.contains_key(slot)) {
            return Err((3, "already_rewarded"));
        }
        let reward = &rule["reward"];
        let is_flat = reward["type"] == "flat";
        let mut offer = Offer { rule, caps, slot, amount: Err(""), is_flat, metric: None };
        if reward["type"] != "tiered" {
            offer.amount = plain(reward, case.event);
            return Ok(offer);
        }
        let by_revenue = reward["metric"] == "aktvator.revenue";
        let own = match (by_revenue, case.event.amount.filter(|amount| *amount >= 0)) {
            (false, _) => 1,
            (true, Some(amount)) => amount,
            (true, None) => {
                offer.amount = Err("amount_missing");
                return Ok(offer);
            }
        };
        let period = reward["period"].as_str().unwrap_or_default();
        let of = format!("{} {}", rule["key"], reward["metric"]);
        let name = format!("{:?} tier {of} {:?}", case.campaign, case.aktvator);
        let (name, day) = counter(name, period, case.at_ms);
        let before = match day {
            Some(day) => self.window(&name, day, days(period)),
            None => self.counters.get(&(name.clone(), None)).copied().unwrap_or(0),
        };
        let tiers = list(&reward["tiers"]);
        let begun = |tier: &&&Value| tier["from"].as_i64() <= Some(before + own);
        offer.amount = match reward["mode"].as_str() {
            Some("graduated") => Ok(graduated(&tiers, before, before + own)),
            _ => {
                let reached = &tiers.iter().rev().find(begun).unwrap_or(&tiers[0])["reward"];
                offer.is_flat = reached["type"] == "flat";
                plain(reached, case.event)
            }
        };
        offer.metric = offer.amount.is_ok().then_some((name, day, own, by_revenue));
        Ok(offer)
    }

    /// Counts what the rule counts by, and makes the reward as far as caps and funds allow.
    fn take(&mut self, case: &Case<'_>, offer: Offer<'_>) -> Result<&'static str, &'static str> {
        let Offer { rule, caps, slot, amount, is_flat, metric } = offer;
        let amount = amount?;
        if let Some((name, day, by, of_revenue)) = metric {
            *self.counters.entry((name.clone(), day)).or_default() += by;
            let known = self.events.get_mut(&case.id).expect("it was put there");
            known.metrics.push((name, day, by, of_revenue));
        }
        if amount == 0 {
            return Err("zero_amount");
        }
        let names: Vec<_> = caps.iter().map(|cap| name(cap, rule, case)).collect();
        let paid = self.capped(&caps, &names, amount).ok_or("cap_exceeded")?;
        let mut taken = Vec::new();
        for (cap, (name, day)) in caps.iter().zip(names) {
            let of_money = cap["metric"] == "amount";
            let by = if of_money { paid } else { 1 };
            *self.counters.entry((name.clone(), day)).or_default() += by;
            taken.push((name, day, by, of_money));
        }
        let id = hash::reward_id(case.id, rule["key"].as_str().unwrap_or_default());
        if let Some(slot) = &slot {
            self.uniques.insert(slot.clone(), id);
        }
        let days = rule["hold"]["days"].as_i64();
        let owed = Owed {
            id,
            amount: paid,
            back: 0,
            clawed: 0,
            aktvator: case.aktvator.clone(),
            approved: (0, 0),
            status: "pending",
            in_review: false,
            needs_approval: days.is_none(),
            available_at_ms: case.accepted_ms.max(case.at_ms) + days.unwrap_or(0) * DAY_MS,
            is_flat,
            goes_whole: rule["reversal"]["mode"] == "full",
            caps: taken,
            slot,
            campaign: case.campaign.clone(),
        };
        self.owe(case.id, owed, case.now_ms);
        let sums = self.sums.entry(case.campaign.clone()).or_default();
        sums.rewards += 1;
        sums.reward_amount += paid;
        Ok(if paid < amount { "clipped" } else { "rewarded" })
    }

    /// What all caps together leave of `amount`; nothing where one refuses.
    fn capped(&self, caps: &[&Value], names: &[(String, Option<i64>)], amount: i64) -> Option<i64> {
        let room = |(cap, (name, day)): (&&Value, &(String, Option<i64>))| {
            let used = match day {
                Some(day) => {
                    self.most(name, *day, days(cap["period"].as_str().unwrap_or_default()))
                }
                None => self.counters.get(&(name.clone(), None)).copied().unwrap_or(0),
            };
            let left = (cap["limit"].as_i64().unwrap_or_default() - used).max(0);
            if cap["metric"] == "amount" || left == 0 { left } else { i64::MAX }
        };
        let rooms: Vec<i64> = caps.iter().zip(names).map(room).collect();
        let clipping = caps.iter().zip(&rooms).filter(|(cap, _)| cap["onExceed"] == "clip");
        let paid = clipping.map(|(_, room)| *room).fold(amount, i64::min);
        (paid > 0 && rooms.iter().all(|room| *room >= paid)).then_some(paid)
    }

    /// What was counted in the `len` days that end with `day`.
    fn window(&self, name: &str, day: i64, len: i64) -> i64 {
        let of = |day| self.counters.get(&(name.to_owned(), Some(day))).copied().unwrap_or(0);
        (day - len + 1..=day).map(of).sum()
    }

    /// The most in any `len` days with `day` among them.
    fn most(&self, name: &str, day: i64, len: i64) -> i64 {
        (day..day + len).map(|end| self.window(name, end, len)).max().unwrap_or(0)
    }
}

/// The code of an event, by what its rules said in their order: a clipped reward, else any, else the first
/// that had none.
fn code(said: &[Result<&'static str, &'static str>], refusal: &'static str) -> &'static str {
    let clipped = said.iter().find(|said| **said == Ok("clipped"));
    let made = clipped.or(said.iter().find(|said| said.is_ok()));
    match made.or(said.first()) {
        Some(Ok(code) | Err(code)) => code,
        None => refusal,
    }
}

/// What a flat or percentage reward comes to.
fn plain(reward: &Value, event: &ConversionEvent) -> Result<i64, &'static str> {
    if let Some(flat) = reward["amount"].as_i64() {
        return Ok(flat);
    }
    let of = event.amount.filter(|amount| *amount >= 0).ok_or("amount_missing")?;
    let amount =
        half_even(i128::from(of) * i128::from(reward["bps"].as_i64().unwrap_or_default()), 10_000);
    let amount = amount.max(reward["min"].as_i64().unwrap_or(0));
    Ok(amount.min(reward["max"].as_i64().unwrap_or(i64::MAX)))
}

/// One unit after another would be slow: each tier's part of what lies between.
fn graduated(tiers: &[&Value], before: i64, after: i64) -> i64 {
    let from =
        |at: usize| tiers.get(at).map_or(i64::MAX, |tier| tier["from"].as_i64().unwrap_or(0));
    let part = |at: usize| {
        let of = (after.min(from(at + 1)) - before.max(from(at))).max(0);
        i128::from(of) * i128::from(tiers[at]["reward"]["bps"].as_i64().unwrap_or_default())
    };
    half_even((0..tiers.len()).map(part).sum(), 10_000)
}

pub(super) fn half_even(above: i128, below: i128) -> i64 {
    let (whole, rest) = (above / below, above % below);
    let up = rest * 2 > below || (rest * 2 == below && whole % 2 == 1);
    (whole + i128::from(up)) as i64
}

/// What a cap counts by.
fn name(cap: &Value, rule: &Value, case: &Case<'_>) -> (String, Option<i64>) {
    let aktvator = format!("{:?}", case.aktvator);
    let customer = case.customer.clone().unwrap_or_default();
    let of = match cap["scope"].as_str() {
        Some("aktvator") => aktvator,
        Some("customer") => customer,
        Some("aktvator_customer") => format!("{aktvator} {customer}"),
        Some("rule") => rule["key"].to_string(),
        _ => String::new(),
    };
    let period = cap["period"].as_str().unwrap_or_default();
    let name =
        format!("{:?} {} {} {} {of}", case.campaign, cap["key"], cap["scope"], cap["metric"]);
    counter(name, period, case.at_ms)
}

/// The name with its period, and for a rolling window the day.
fn counter(name: String, period: &str, at_ms: i64) -> (String, Option<i64>) {
    match days(period) {
        0 => (format!("{name} {period} {}", bucket(period, at_ms)), None),
        len => (format!("{name} {len}"), Some(at_ms.div_euclid(DAY_MS))),
    }
}

/// Of a rolling window; 0 for any other.
fn days(period: &str) -> i64 {
    let days = period.strip_prefix("rolling:").and_then(|rest| rest.strip_suffix('d'));
    days.and_then(|days| days.parse().ok()).unwrap_or(0)
}

/// The local period, in UTC, or nothing for ever.
fn bucket(period: &str, at_ms: i64) -> String {
    let text = Timestamp::from_ms(at_ms).to_string();
    let month: u32 = text[5..7].parse().unwrap_or(1);
    match period {
        "day" => text[..10].to_owned(),
        // The fifth of January 1970 was a Monday.
        "week" => ((at_ms.div_euclid(DAY_MS) - 4).div_euclid(7)).to_string(),
        "month" => text[..7].to_owned(),
        "quarter" => format!("{} {}", &text[..4], (month - 1) / 3),
        "year" => text[..4].to_owned(),
        _ => String::new(),
    }
}
