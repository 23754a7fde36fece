//! The two forms that `sys/metrics` has: Prometheus' text format 0.0.4, and Vault's JSON.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Quantile};
use prometheus::{Encoder, TextEncoder};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::families::{Family, Value, milliseconds};

pub fn prometheus(families: &[Family]) -> Result<String> {
    // Mounts of different paths may have the same name here; one name has one family.
    let mut merged: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for family in families {
        let Some((_, first)) = family.values.first() else {
            continue;
        };
        let name = name_of(&family.name);
        let into = merged.entry(name.clone()).or_insert_with(|| {
            let mut new = MetricFamily::default();
            new.set_name(name);
            new.set_help(family.help.to_owned());
            new.set_field_type(match first {
                Value::Counter(_) => MetricType::COUNTER,
                Value::Gauge(_) => MetricType::GAUGE,
                Value::Summary(_) => MetricType::SUMMARY,
            });
            new
        });
        let metrics = into.mut_metric();
        for (labels, value) in &family.values {
            let metric = metric(labels, value);
            if metrics
                .iter()
                .all(|known| known.get_label() != metric.get_label())
            {
                metrics.push(metric);
            }
        }
    }
    let merged: Vec<MetricFamily> = merged.into_values().collect();
    let mut out = Vec::new();
    TextEncoder::new()
        .encode(&merged, &mut out)
        .map_err(Error::internal)?;
    String::from_utf8(out).map_err(Error::internal)
}

/// Vault's own JSON. What is not measured (the smallest, the largest and the deviation of a sample) is left out.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct JsonMetrics {
    /// When they were read, such as `2026-01-31 23:59:59 +0000 UTC`.
    timestamp: String,
    /// Values as they are now.
    gauges: Vec<GaugeValue>,
    /// Always empty: nothing is kept as single points.
    points: Vec<f64>,
    /// How often things happened since the server was started.
    counters: Vec<CounterValue>,
    /// How long things took.
    samples: Vec<Sample>,
}

/// A value as it is now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct GaugeValue {
    /// What is measured, such as `obol.uptime.seconds`.
    name: String,
    /// A number of things, or of seconds or bytes where the name says so; 1 and 0 are yes and no.
    value: f64,
    /// What tells the values of one name apart, such as `mount_point`; empty for a name with one value.
    labels: Labels,
}

/// How often something happened since the server was started.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct CounterValue {
    /// What is counted, such as `obol.kerberos.logins.total`.
    name: String,
    /// How often it happened.
    count: u64,
    /// The same as `Count`.
    sum: u64,
    /// What tells the values of one name apart, such as `outcome`; empty for a name with one value.
    labels: Labels,
}

/// How long something took.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct Sample {
    /// What is timed; requests to a mount have the mount at its end.
    name: String,
    /// How often it was measured.
    count: u64,
    /// Milliseconds, all together.
    sum: f64,
    /// Milliseconds, on average.
    mean: f64,
    /// Always empty: no timing has labels.
    labels: Labels,
}

type Labels = BTreeMap<&'static str, String>;

pub fn json(families: &[Family]) -> Result<JsonMetrics> {
    let (mut gauges, mut counters, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for family in families {
        for (labels, value) in &family.values {
            let labels: Labels = labels.iter().cloned().collect();
            let name = family.name.to_string();
            match value {
                Value::Gauge(value) => gauges.push(GaugeValue {
                    name,
                    value: *value,
                    labels,
                }),
                Value::Counter(count) => counters.push(CounterValue {
                    name,
                    count: *count,
                    sum: *count,
                    labels,
                }),
                Value::Summary(summary) => {
                    let sum = milliseconds(summary.sum);
                    samples.push(Sample {
                        name,
                        count: summary.count,
                        sum,
                        mean: match summary.count {
                            0 => 0.0,
                            count => sum / count as f64,
                        },
                        labels,
                    });
                }
            }
        }
    }
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");
    Ok(JsonMetrics {
        timestamp: OffsetDateTime::now_utc()
            .format(&form)
            .map_err(Error::internal)?,
        gauges,
        points: Vec::new(),
        counters,
        samples,
    })
}

fn metric(labels: &[(&'static str, String)], value: &Value) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    let mut metric = Metric::from_label(labels.collect());
    match value {
        Value::Counter(count) => {
            let mut counter = Counter::default();
            counter.set_value(*count as f64);
            metric.set_counter(counter);
        }
        Value::Gauge(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
        }
        Value::Summary(summary) => {
            let mut into = prometheus::proto::Summary::default();
            into.set_sample_count(summary.count);
            into.set_sample_sum(milliseconds(summary.sum));
            let quantiles = [0.5, 0.9, 0.99].into_iter().enumerate().map(|(at, share)| {
                let mut quantile = Quantile::default();
                quantile.set_quantile(share);
                let known = summary.quantiles.map(|all| milliseconds(all[at]));
                // As Prometheus' own clients say that there was nothing.
                quantile.set_value(known.unwrap_or(f64::NAN));
                quantile
            });
            into.set_quantile(quantiles.collect());
            metric.set_summary(into);
        }
    }
    metric
}

/// The name as Prometheus allows it: letters, digits, underscores.
fn name_of(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
