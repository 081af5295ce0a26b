//! The Prometheus text format, as the reference writes it: a comma behind the last label, numbers as
//! doubles, counters without `_total`.

use std::fmt::Write;

use crate::words::{Metric, MetricValue};

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    pub name: String,
    pub help: String,
    /// `gauge`, `counter` or `summary`.
    pub kind: &'static str,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub name: String,
    pub label: Option<(&'static str, &'static str)>,
    pub value: f64,
}

impl Family {
    /// A family of one sample.
    pub fn single(name: &str, help: &str, kind: &'static str, value: f64) -> Family {
        let sample = Sample { name: name.to_owned(), label: None, value };
        Family { name: name.to_owned(), help: help.to_owned(), kind, samples: vec![sample] }
    }
}

/// The registry's metrics; the reference's help is the name again.
pub(super) fn families(metrics: &[Metric]) -> Vec<Family> {
    metrics.iter().map(family).collect()
}

fn family(metric: &Metric) -> Family {
    let name = &metric.name;
    let single = |kind, value| Family::single(name, name, kind, value);
    match &metric.value {
        MetricValue::Integer(value) => single("gauge", *value as f64),
        MetricValue::Real(value) => single("gauge", *value),
        MetricValue::Counter(value) => single("counter", *value as f64),
        MetricValue::Basic(distribution) | MetricValue::Advanced(distribution) => {
            let quantiles = metric.value.quantiles().iter().map(|(quantile, at)| Sample {
                name: name.clone(),
                label: Some(("quantile", quantile)),
                value: distribution.quantiles[*at].map_or(f64::NAN, |value| value as f64),
            });
            let total = |suffix: &str, value: u64| Sample {
                name: format!("{name}_{suffix}"),
                label: None,
                value: value as f64,
            };
            let totals = [total("count", distribution.count), total("sum", distribution.sum)];
            let samples = quantiles.chain(totals).collect();
            Family { name: name.clone(), help: name.clone(), kind: "summary", samples }
        }
    }
}

/// The text; with `names`, only samples of these names.
pub(super) fn text(families: &[Family], names: &[String]) -> String {
    let mut out = String::new();
    for Family { name, help, kind, samples } in families {
        let wanted = |sample: &&Sample| names.is_empty() || names.contains(&sample.name);
        let mut samples = samples.iter().filter(wanted).peekable();
        if samples.peek().is_none() {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { name, label, value } in samples {
            let _ = match label {
                Some((key, label)) => writeln!(out, "{name}{{{key}=\"{label}\",}} {value:?}"),
                None => writeln!(out, "{name} {value:?}"),
            };
        }
    }
    out
}

/// Values of `name[]` in a query.
pub(super) fn names(query: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter(|(key, _)| decode(key) == "name[]");
    named.map(|(_, value)| decode(value)).collect()
}

/// Resolves `%XX` and `+`; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        let escape = if byte == b'%' { hex(0).zip(hex(1)) } else { None };
        rest = behind;
        match escape {
            Some((high, low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &behind[2..];
            }
            None if byte == b'+' => bytes.push(b' '),
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxkeeper_replica::summary::Summary;

    fn metric(name: &str, value: MetricValue) -> Metric {
        Metric { name: name.to_owned(), value }
    }

    #[test]
    fn every_kind_has_the_references_form() {
        let summary = Summary::default();
        summary.record(2);
        let families = families(&[
            metric("znode_count", MetricValue::Integer(7)),
            metric("commit_count", MetricValue::Counter(0)),
            metric("fsynctime", MetricValue::Basic(summary.read())),
            metric("readlatency", MetricValue::Advanced(Summary::default().read())),
        ]);
        assert_eq!(
            text(&families, &[]),
            "# HELP znode_count znode_count\n# TYPE znode_count gauge\nznode_count 7.0\n\
             # HELP commit_count commit_count\n# TYPE commit_count counter\ncommit_count 0.0\n\
             # HELP fsynctime fsynctime\n# TYPE fsynctime summary\n\
             fsynctime{quantile=\"0.5\",} 2.0\nfsynctime_count 1.0\nfsynctime_sum 2.0\n\
             # HELP readlatency readlatency\n# TYPE readlatency summary\n\
             readlatency{quantile=\"0.5\",} NaN\nreadlatency{quantile=\"0.9\",} NaN\n\
             readlatency{quantile=\"0.99\",} NaN\nreadlatency_count 0.0\nreadlatency_sum 0.0\n"
        );
        assert_eq!(
            text(&families, &names("name[]=fsynctime_sum&x=1&name%5B%5D=commit%5fcount")),
            "# HELP commit_count commit_count\n# TYPE commit_count counter\ncommit_count 0.0\n\
             # HELP fsynctime fsynctime\n# TYPE fsynctime summary\nfsynctime_sum 2.0\n"
        );
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(decode("a%5"), "a%5");
        assert_eq!(decode("%zz+%41"), "%zz A");
    }
}
