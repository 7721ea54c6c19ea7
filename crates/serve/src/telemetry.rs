//! Logs to standard error, metrics for Prometheus.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

pub use metrics_exporter_prometheus::PrometheusHandle;

use crate::metrics::BUILD_INFO;

/// Upper bounds in seconds: those of OpenTelemetry's `http.server.request.duration`, and three below
/// for what takes less than that.
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];
/// Upper bounds in seconds of what ends in `_decision_seconds` or `_lag_seconds`: from an event to
/// its consequence, which may be minutes when something is down.
const DECISION_BUCKETS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Upper bounds of what ends in `_size`, `_records` or `_events`: items or bytes at once, in powers of
/// four.
const SIZE_BUCKETS: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("the log filter `{filter}` is not valid; write it like `info` or `warn,serve=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process logs or measures already.
    #[error("telemetry was set up twice")]
    Twice(#[source] crate::BoxError),
}

/// Sends `tracing` events that pass `filter` (like `info` or `warn,serve=debug`) to standard error.
///
/// # Errors
/// Where the filter is not valid, or logging was set up before.
pub fn init_tracing(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.into(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => {
            use std::io::IsTerminal;
            builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    installed.map_err(|error| TelemetryError::Twice(error.into()))
}

/// Makes the process's `metrics` recorder, and puts `aktvator_build_info{version, revision}` into it.
///
/// # Errors
/// Where a recorder was installed before.
pub fn install_metrics(
    version: &'static str,
    revision: &'static str,
) -> Result<PrometheusHandle, TelemetryError> {
    let handle = recorder()
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| TelemetryError::Twice(error.into()))?;
    ::metrics::gauge!(BUILD_INFO, "version" => version, "revision" => revision).set(1.0);
    Ok(handle)
}

fn recorder() -> Result<PrometheusBuilder, BuildError> {
    let matches = |suffix: &str| Matcher::Suffix(suffix.to_owned());
    PrometheusBuilder::new()
        .set_buckets(BUCKETS)?
        .set_buckets_for_metric(matches("_decision_seconds"), DECISION_BUCKETS)?
        .set_buckets_for_metric(matches("_lag_seconds"), DECISION_BUCKETS)?
        .set_buckets_for_metric(matches("_size"), SIZE_BUCKETS)?
        .set_buckets_for_metric(matches("_records"), SIZE_BUCKETS)?
        .set_buckets_for_metric(matches("_events"), SIZE_BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_get_the_buckets_of_their_name() {
        let recorder = recorder().unwrap().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("x_request_seconds").record(0.02);
            ::metrics::histogram!("x_event_to_decision_seconds").record(20.0);
            ::metrics::histogram!("x_batch_size").record(5.0);
            ::metrics::histogram!("x_batch_records").record(900.0);
            ::metrics::histogram!("x_batch_events").record(900.0);
        });
        let text = handle.render();
        for line in [
            r#"x_request_seconds_bucket{le="0.025"} 1"#,
            r#"x_event_to_decision_seconds_bucket{le="30"} 1"#,
            r#"x_batch_size_bucket{le="16"} 1"#,
            r#"x_batch_records_bucket{le="1024"} 1"#,
            r#"x_batch_events_bucket{le="1024"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = init_tracing(LogFormat::Text, "serve=loud").unwrap_err();
        assert!(error.to_string().contains("`serve=loud`"), "{error}");
    }
}
