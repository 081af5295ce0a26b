//! The measures, their goals, and the table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::thread;

use super::servers::Kind;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    WriteThroughput,
    WriteP999,
    WriteCpu,
    ReadThroughput,
    ReadP999,
    ReadCpu,
    SingleWrite,
    SingleRead,
    Resident,
    Restart,
    Failover,
    ColdStart,
    SnapshotDuring,
    SnapshotWithout,
    SnapshotRatio,
}

/// What a measure should reach.
enum Goal {
    /// At least so many times Apache's value: floor, aim.
    TimesMore(f64, f64),
    /// At most this share of Apache's value: floor, aim.
    Share(f64, f64),
    /// At most this value: floor, aim.
    AtMost(f64, f64),
    /// Shown to explain others.
    None,
}

impl Measure {
    /// Words, unit, goal.
    fn describe(self) -> (&'static str, &'static str, Goal) {
        match self {
            Measure::WriteThroughput => {
                ("ensemble of 3, write 100 B, 64 connections x 8", "/s", Goal::TimesMore(2.5, 4.0))
            }
            Measure::WriteP999 => ("the same, p99.9", "ms", Goal::Share(1.0 / 3.0, 0.2)),
            Measure::WriteCpu => ("server CPU time per write", "us", Goal::Share(0.25, 0.125)),
            Measure::ReadThroughput => {
                ("ensemble of 3, read 100 B, 64 connections x 8", "/s", Goal::TimesMore(2.0, 3.0))
            }
            Measure::ReadP999 => ("the same, p99.9", "ms", Goal::None),
            Measure::ReadCpu => ("server CPU time per read", "us", Goal::Share(0.25, 0.125)),
            Measure::SingleWrite => {
                ("one connection, one outstanding: write p50", "us", Goal::Share(0.7, 0.5))
            }
            Measure::SingleRead => {
                ("one connection, one outstanding: read p50", "us", Goal::Share(0.7, 0.5))
            }
            Measure::Resident => (
                "resident memory with 1,000,000 znodes of 100 B after a restart",
                "MiB",
                Goal::AtMost(250.0, 150.0),
            ),
            Measure::Restart => {
                ("restart with them until the first reply", "ms", Goal::AtMost(1000.0, 500.0))
            }
            Measure::Failover => (
                "longest gap in acknowledged writes, leader killed -9",
                "ms",
                Goal::AtMost(400.0, 200.0),
            ),
            Measure::ColdStart => {
                ("cold start of 3 servers until the first write", "ms", Goal::AtMost(800.0, 300.0))
            }
            Measure::SnapshotDuring => (
                "write p99.9 during a snapshot of the million, 64 connections x 1",
                "ms",
                Goal::None,
            ),
            Measure::SnapshotWithout => ("write p99.9 without one", "ms", Goal::None),
            Measure::SnapshotRatio => ("the one over the other", "x", Goal::AtMost(2.0, 1.2)),
        }
    }
}

/// All values, by measure and kind.
#[derive(Default)]
pub struct Samples {
    values: BTreeMap<(Measure, Kind), Vec<f64>>,
}

impl Samples {
    /// Adds a value.
    pub fn add(&mut self, kind: Kind, measure: Measure, value: f64) {
        self.values.entry((measure, kind)).or_default().push(value);
    }

    /// The table in markdown; a measure without values has no line.
    pub fn markdown(&self, kinds: &[Kind]) -> String {
        let mut text = String::from("| measure |");
        for kind in kinds {
            let _ = write!(text, " {} |", kind.title());
        }
        text.push_str(" ratio | floor | aim | reached |\n|---|");
        text.push_str(&"---|".repeat(kinds.len() + 4));
        text.push('\n');
        let mut measures: Vec<Measure> = self.values.keys().map(|(measure, _)| *measure).collect();
        measures.dedup();
        for measure in measures {
            self.line(&mut text, measure, kinds);
        }
        text
    }

    fn line(&self, text: &mut String, measure: Measure, kinds: &[Kind]) {
        let (words, unit, goal) = measure.describe();
        let _ = write!(text, "| {words} |");
        for kind in kinds {
            let values = self.values.get(&(measure, *kind)).map_or(&[][..], Vec::as_slice);
            let _ = write!(text, " {} |", cell(values, unit));
        }
        let ours = self.median(measure, Kind::Oxkeeper);
        let apache = self.median(measure, Kind::Apache);
        let ratio = ours.zip(apache).map(|(ours, apache)| ours / apache);
        let ratio_text = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let (floor, aim, reached) = goal.judge(ours, ratio);
        let _ = writeln!(text, " {ratio_text} | {floor} | {aim} | {reached} |");
    }

    fn median(&self, measure: Measure, kind: Kind) -> Option<f64> {
        self.values.get(&(measure, kind)).and_then(|values| median(values))
    }
}

impl Goal {
    /// Floor and aim in words, and which of them is reached.
    fn judge(&self, ours: Option<f64>, ratio: Option<f64>) -> (String, String, &'static str) {
        match *self {
            Goal::TimesMore(floor, aim) => (
                format!(">= {floor:.1} x"),
                format!(">= {aim:.1} x"),
                reached(ratio, |ratio| ratio >= floor, |ratio| ratio >= aim),
            ),
            Goal::Share(floor, aim) => (
                format!("<= {floor:.2} x"),
                format!("<= {aim:.2} x"),
                reached(ratio, |ratio| ratio <= floor, |ratio| ratio <= aim),
            ),
            Goal::AtMost(floor, aim) => (
                format!("<= {floor}"),
                format!("<= {aim}"),
                reached(ours, |ours| ours <= floor, |ours| ours <= aim),
            ),
            Goal::None => (String::new(), String::new(), ""),
        }
    }
}

fn reached(
    value: Option<f64>,
    floor: impl Fn(f64) -> bool,
    aim: impl Fn(f64) -> bool,
) -> &'static str {
    match value {
        None => "-",
        Some(value) if aim(value) => "aim",
        Some(value) if floor(value) => "floor",
        Some(_) => "**no**",
    }
}

/// Median and, with several values, the range.
fn cell(values: &[f64], unit: &str) -> String {
    let Some(median) = median(values) else { return "-".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    if values.len() == 1 {
        return format!("{} {unit}", number(median));
    }
    format!("{} {unit} ({}-{})", number(median), number(least), number(most))
}

/// Three significant digits, or all before the point.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Cores and processor of this machine.
pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}", model.trim_start_matches([' ', '\t', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn goals_are_judged_by_ratio_or_by_value() {
        assert_eq!(Goal::TimesMore(2.5, 4.0).judge(None, Some(3.0)).2, "floor");
        assert_eq!(Goal::TimesMore(2.5, 4.0).judge(None, Some(4.5)).2, "aim");
        assert_eq!(Goal::TimesMore(2.5, 4.0).judge(None, Some(2.0)).2, "**no**");
        assert_eq!(Goal::Share(0.7, 0.5).judge(None, Some(0.6)).2, "floor");
        assert_eq!(Goal::AtMost(400.0, 200.0).judge(Some(199.0), None).2, "aim");
        assert_eq!(Goal::AtMost(400.0, 200.0).judge(None, None).2, "-");
    }

    #[test]
    fn a_table_shows_medians_and_ratios() {
        let mut samples = Samples::default();
        for value in [1000.0, 3000.0, 2000.0] {
            samples.add(Kind::Apache, Measure::WriteThroughput, value);
            samples.add(Kind::Oxkeeper, Measure::WriteThroughput, value * 5.0);
        }
        let table = samples.markdown(&[Kind::Apache, Kind::Oxkeeper]);
        assert!(table.contains(
            "| 2000 /s (1000-3000) | 10000 /s (5000-15000) | 5.00 | >= 2.5 x | >= 4.0 x | aim |"
        ));
    }
}
