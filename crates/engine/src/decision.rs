//! Decision codes: the stable words for what became of an event, a rule or a command.

/// What became of an event, or what one rule said of it. Stable; append-only.
///
/// Those marked *reserved* are part of the public enum and not given out by this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// A reward was made in full.
    Rewarded,
    /// A reward was made, smaller than computed because of a cap; the detail names it.
    Clipped,
    /// The same event again: the recorded decision stands.
    Duplicate,
    /// The idempotency key again with another body: nothing is rewarded, the first decision stands.
    IdempotencyConflict,
    /// The campaign is not active, or (detail `unknown_campaign`) not known.
    CampaignNotActive,
    /// The gig that matches is not published.
    GigClosed,
    /// No gig of the campaign has this event type, or (detail `unknown_gig`) the named gig is none of
    /// its gigs.
    EventTypeMismatch,
    /// No link, click or code that is known in this campaign; the detail names the first that failed,
    /// or is `none_given`.
    UnknownAttribution,
    /// Link and code name different aktvators.
    AttributionConflict,
    /// The click is older than the look-back, or more than five minutes later than the event.
    AttributionExpired,
    /// Reserved: conversion sooner after the click than a person can.
    TooFast,
    /// Reserved.
    TooSlow,
    /// The aktvator is not approved (detail `aktvator.status`), the action attempt is not there or refused (`attempt.status`), the rule's eligibility does not hold,
    /// or the event does not say what the rule counts by (details `customer_missing`, `link_missing`,
    /// `quantity_missing`).
    NotEligible,
    /// The rule's conditions do not hold, it is not active (detail `not_active`), another gives more
    /// (`not_best`), no rule takes this event (`no_rule`), or no rulebook is in force (`no_rulebook`).
    ConditionsNotMet,
    /// Rewarded before within the rule's uniqueness, or as often or long as it recurs (details
    /// `recurring_count`, `recurring_months`).
    AlreadyRewarded,
    /// A cap has nothing left; the detail names it.
    CapExceeded,
    /// The reward comes to nothing.
    ZeroAmount,
    /// The field that the reward is computed from is missing or negative; the detail names it.
    AmountMissing,
    /// The event has an amount and names another currency than the rulebook's, or none (detail
    /// `event.currency`); or the wallet is in another (detail `wallet`).
    CurrencyMismatch,
    /// Reserved: no exchange rate.
    FxUnavailable,
    /// The wallet has not enough and the rulebook lets nothing wait (detail `wallet`), or it cannot take
    /// the reward at all (`held_total`: held rewards would exceed 64 bits). A reward that only waits for funds is `rewarded` and held.
    InsufficientFunds,
    /// It happened longer before it was accepted than the rulebook allows.
    LateEvent,
    /// It says it happened more than five minutes after it was accepted.
    EventInFuture,
    /// Reserved: customer and aktvator are the same.
    SelfReferral,
    /// Reserved.
    Bot,
    /// Reserved.
    FraudRule,
    /// Reserved.
    ManualReview,
    /// Reserved.
    TestEvent,
    /// The reward does not fit 64 bits of minor units. An addition to `domain.md` 4.8: overflow has a
    /// decision of its own.
    AmountOverflow,
}

impl Code {
    /// As it stands in rows, outcomes and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rewarded => "rewarded",
            Self::Clipped => "clipped",
            Self::Duplicate => "duplicate",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::CampaignNotActive => "campaign_not_active",
            Self::GigClosed => "gig_closed",
            Self::EventTypeMismatch => "event_type_mismatch",
            Self::UnknownAttribution => "unknown_attribution",
            Self::AttributionConflict => "attribution_conflict",
            Self::AttributionExpired => "attribution_expired",
            Self::TooFast => "too_fast",
            Self::TooSlow => "too_slow",
            Self::NotEligible => "not_eligible",
            Self::ConditionsNotMet => "conditions_not_met",
            Self::AlreadyRewarded => "already_rewarded",
            Self::CapExceeded => "cap_exceeded",
            Self::ZeroAmount => "zero_amount",
            Self::AmountMissing => "amount_missing",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::FxUnavailable => "fx_unavailable",
            Self::InsufficientFunds => "insufficient_funds",
            Self::LateEvent => "late_event",
            Self::EventInFuture => "event_in_future",
            Self::SelfReferral => "self_referral",
            Self::Bot => "bot",
            Self::FraudRule => "fraud_rule",
            Self::ManualReview => "manual_review",
            Self::TestEvent => "test_event",
            Self::AmountOverflow => "amount_overflow",
        }
    }
}

/// What became of a fold command. Stable; append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandCode {
    /// Done.
    Applied,
    /// Money in another currency than the wallet's.
    CurrencyMismatch,
    /// Not a positive amount, or not a currency.
    InvalidAmount,
    /// The wallet would not fit 64 bits of minor units.
    Overflow,
    /// No such reward.
    UnknownReward,
    /// The reward's status does not allow it.
    InvalidTransition,
    /// The event has not come; the reversal waits for it a week.
    Orphaned,
    /// Too many reversals wait for the same event.
    TooMany,
    /// Nothing is left of the event.
    AlreadyReversed,
    /// More than is left of the event.
    ExceedsEvent,
    /// The event has no such amount or quantity.
    AmountMissing,
    /// Earlier reversals were in the other unit: amounts and quantities do not mix.
    MixedUnits,
    /// It is too late, says the rule.
    WindowClosed,
    /// Nothing to pay out: no approved reward until then, or less than the minimum.
    NothingToPay,
    /// No such payout.
    UnknownPayout,
    /// No such action attempt.
    UnknownAttempt,
}

impl CommandCode {
    /// As it stands in [`schemas::proto::CommandRow`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::InvalidAmount => "invalid_amount",
            Self::Overflow => "overflow",
            Self::UnknownReward => "unknown_reward",
            Self::InvalidTransition => "invalid_transition",
            Self::Orphaned => "orphaned",
            Self::TooMany => "too_many_orphans",
            Self::AlreadyReversed => "already_reversed",
            Self::ExceedsEvent => "exceeds_event",
            Self::AmountMissing => "amount_missing",
            Self::MixedUnits => "mixed_units",
            Self::WindowClosed => "reversal_window_closed",
            Self::NothingToPay => "nothing_to_pay",
            Self::UnknownPayout => "unknown_payout",
            Self::UnknownAttempt => "unknown_attempt",
        }
    }
}
