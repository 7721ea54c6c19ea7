//! The types of notices: what an endpoint can subscribe to, and what webhooks say happened.

/// Subscribes to every type, also to those that come later.
pub const EVERY_TYPE: &str = "*";

/// What a notice is about. The first eight are the product page's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeType {
    /// A campaign was created in the organization.
    CampaignCreated,
    /// The platform approved a campaign for the marketplace.
    CampaignApproved,
    /// An aktvator submitted a proof of work.
    ActionAttemptSubmitted,
    /// A conversion was attributed and led to a reward.
    ActionAttemptVerified,
    /// A conversion was attributed and led to no reward.
    ActionAttemptRejected,
    /// A reward was paid out.
    RewardPaid,
    /// Someone was invited to join the organization.
    MemberInvited,
    /// The wallet was topped up.
    WalletCredited,
    /// A reward came to be: pending, approved or held.
    RewardCreated,
    /// A held reward has been funded, or looked at.
    RewardReleased,
    /// A reward may be paid out.
    RewardApproved,
    /// Someone wants to look at a reward first.
    RewardHeld,
    /// A reward was refused.
    RewardRejected,
    /// A reward, or a part of it, was taken back.
    RewardReversed,
    /// An event, or a part of it, was taken back.
    EventReversed,
    /// A reward went into a payout.
    RewardProcessing,
    /// A reward that went into a payout, or a part of it, was taken back.
    RewardClawedBack,
    /// Rewards were collected into a payout.
    PayoutCreated,
    /// A payout may go out.
    PayoutApproved,
    /// A payout was handed to whoever pays.
    PayoutProcessing,
    /// A payout went out.
    PayoutPaid,
    /// A payout did not arrive.
    PayoutFailed,
    /// A payout was given up.
    PayoutCanceled,
    /// A payment provider took money back.
    WalletDebited,
}

impl NoticeType {
    /// Every type there is.
    pub const ALL: &[Self] = &[
        Self::CampaignCreated,
        Self::CampaignApproved,
        Self::ActionAttemptSubmitted,
        Self::ActionAttemptVerified,
        Self::ActionAttemptRejected,
        Self::RewardPaid,
        Self::MemberInvited,
        Self::WalletCredited,
        Self::RewardCreated,
        Self::RewardReleased,
        Self::RewardApproved,
        Self::RewardHeld,
        Self::RewardRejected,
        Self::RewardReversed,
        Self::EventReversed,
        Self::RewardProcessing,
        Self::RewardClawedBack,
        Self::PayoutCreated,
        Self::PayoutApproved,
        Self::PayoutProcessing,
        Self::PayoutPaid,
        Self::PayoutFailed,
        Self::PayoutCanceled,
        Self::WalletDebited,
    ];

    /// As in `type` and `subscribedEvents`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CampaignCreated => "campaign.created",
            Self::CampaignApproved => "campaign.approved",
            Self::ActionAttemptSubmitted => "action_attempt.submitted",
            Self::ActionAttemptVerified => "action_attempt.verified",
            Self::ActionAttemptRejected => "action_attempt.rejected",
            Self::RewardPaid => "reward.paid",
            Self::MemberInvited => "member.invited",
            Self::WalletCredited => "wallet.credited",
            Self::RewardCreated => "reward.created",
            Self::RewardReleased => "reward.released",
            Self::RewardApproved => "reward.approved",
            Self::RewardHeld => "reward.held",
            Self::RewardRejected => "reward.rejected",
            Self::RewardReversed => "reward.reversed",
            Self::EventReversed => "event.reversed",
            Self::RewardProcessing => "reward.processing",
            Self::RewardClawedBack => "reward.clawed_back",
            Self::PayoutCreated => "payout.created",
            Self::PayoutApproved => "payout.approved",
            Self::PayoutProcessing => "payout.processing",
            Self::PayoutPaid => "payout.paid",
            Self::PayoutFailed => "payout.failed",
            Self::PayoutCanceled => "payout.canceled",
            Self::WalletDebited => "wallet.debited",
        }
    }

    /// Do these `subscribedEvents` ask for it?
    pub fn is_wanted_by(self, subscribed: &[String]) -> bool {
        subscribed.iter().any(|name| name == EVERY_TYPE || name == self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            NoticeType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), NoticeType::ALL.len());
    }

    #[test]
    fn a_star_wants_all_and_a_name_itself() {
        let kind = NoticeType::RewardPaid;
        for (subscribed, want) in
            [("*", true), ("reward.paid", true), ("reward.*", false), ("reward.created", false)]
        {
            assert_eq!(kind.is_wanted_by(&[subscribed.to_owned()]), want, "{subscribed}");
        }
        assert!(!kind.is_wanted_by(&[]));
    }
}
