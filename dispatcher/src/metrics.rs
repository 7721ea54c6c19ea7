//! The names of what the dispatcher measures. Labels come from closed sets; none names an
//! organization or an endpoint.

/// Counter: attempts that ended. Labels: `result` (as in the attempt log), `attempt` (`first`,
/// `retry`).
pub const ATTEMPTS: &str = "aktvator_dispatcher_attempts_total";
/// Histogram: how long an attempt took, answer included.
pub const ATTEMPT_DURATION: &str = "aktvator_dispatcher_attempt_duration_seconds";
/// Histogram: how long after it was due an attempt began.
pub const ATTEMPT_LATENESS: &str = "aktvator_dispatcher_attempt_lateness_seconds";
/// Histogram: from the delivery's making to the receiver's 2xx.
pub const DELIVERY_LAG: &str = "aktvator_dispatcher_delivery_lag_seconds";
/// Counter: deliveries that are done with. Label: `status` (`delivered`, `exhausted`, `canceled`).
pub const DELIVERIES_FINISHED: &str = "aktvator_dispatcher_deliveries_finished_total";
/// Counter: deliveries made of notices.
pub const DELIVERIES_CREATED: &str = "aktvator_dispatcher_deliveries_created_total";
/// Gauge: attempts being made.
pub const IN_FLIGHT: &str = "aktvator_dispatcher_attempts_in_flight";
/// Gauge: deliveries held in memory, due or soon due; the rest waits in the store.
pub const WAITING: &str = "aktvator_dispatcher_deliveries_waiting";
/// Gauge: for how long the longest due delivery has been due. The alarm for a stuck sender.
pub const OLDEST_DUE_AGE: &str = "aktvator_dispatcher_oldest_due_age_seconds";
/// Counter: endpoints disabled because their receiver answered 410.
pub const ENDPOINTS_GONE: &str = "aktvator_dispatcher_endpoints_gone_total";
/// Gauge: records of the log not yet followed, over all partitions. Label: `consumer` (`webhooks`,
/// `outcomes`, `clicks`).
pub const BEHIND: &str = "aktvator_dispatcher_behind_records";
/// Gauge: age of the last record followed while there are more, the worst of all partitions; 0 when
/// caught up. Label: `consumer`.
pub const LAG: &str = "aktvator_dispatcher_lag_seconds";
/// Counter: times a store or log failed and was asked again. Label: `consumer`.
pub const RETRIES: &str = "aktvator_dispatcher_retries_total";
/// Counter: records passed over because their bytes are damaged. Label: `consumer`.
pub const UNREADABLE: &str = "aktvator_dispatcher_unreadable_records_total";
/// Gauge: partitions that stand still because going on would skip records. Label: `consumer`.
pub const HALTED: &str = "aktvator_dispatcher_halted_partitions";
