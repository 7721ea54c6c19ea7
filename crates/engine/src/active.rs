//! When a rule is active: between two instants, and in hours of the week.

use jiff::civil::{Time, Weekday};

use crate::calendar::local;
use crate::facts::Facts;

/// A rule's active window. Empty, it is always open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Active {
    /// The first millisecond.
    pub(crate) from_ms: Option<i64>,
    /// The first millisecond after it.
    pub(crate) until_ms: Option<i64>,
    /// Open in any of these; always, where there are none.
    pub(crate) weekly: Vec<Hours>,
}

/// Some days of the week from one time of day to another, which may be midnight (`None`).
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    pub(crate) days: Vec<Weekday>,
    pub(crate) start: Time,
    pub(crate) end: Option<Time>,
}

impl Active {
    /// Is the window open when the event happened, by the clocks of the rulebook's zone?
    pub(crate) fn is_open(&self, facts: &Facts<'_>) -> bool {
        let at_ms = facts.conversion.occurred_at_ms;
        let begun = self.from_ms.is_none_or(|from| from <= at_ms);
        let ended = self.until_ms.is_some_and(|until| until <= at_ms);
        begun && !ended && (self.weekly.is_empty() || self.is_open_weekly(facts, at_ms))
    }

    fn is_open_weekly(&self, facts: &Facts<'_>, at_ms: i64) -> bool {
        let (now, _) = local(&facts.rulebook.zone, at_ms);
        let (day, time) = (now.weekday(), now.time());
        let is_open = |hours: &Hours| {
            hours.days.contains(&day)
                && hours.start <= time
                && hours.end.is_none_or(|end| time < end)
        };
        self.weekly.iter().any(is_open)
    }
}
