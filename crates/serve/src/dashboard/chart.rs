//! Charts of what was in each month: SVG whose places are percents of the room that there is, so that text keeps its size on every
//! screen and no script draws anything.

use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, Months, Utc};

use super::locale::{self, Locale};

/// The latest months, the last of which is not over.
const MONTHS: u8 = 12;
/// Lines above that of nothing, at most.
const LINES: u8 = 4;

/// A column for each of the latest months. Places are percents from the left and from the top.
pub(super) struct Chart {
    /// What it shows, for whoever does not see it.
    pub(super) description: String,
    /// From nothing up.
    pub(super) lines: Vec<Line>,
    /// How wide the room of a column is.
    pub(super) room: String,
    /// The newest last.
    pub(super) columns: Vec<Column>,
}

/// A line of the grid.
pub(super) struct Line {
    pub(super) y: String,
    pub(super) label: String,
}

pub(super) struct Column {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) height: String,
    /// The month; with its year at both ends.
    pub(super) label: String,
    pub(super) amount: String,
    /// The amount in few digits.
    pub(super) short: String,
}

impl Chart {
    /// Of decimal numbers by month, as 2026-11, and how they are written. `None` if none is of the latest months.
    pub(super) fn of(
        locale: &Locale,
        now: DateTime<Utc>,
        amounts: &HashMap<&str, &str>,
        written: impl Fn(&str) -> String,
    ) -> Option<Self> {
        let months = months(now);
        if !months.iter().any(|month| amounts.contains_key(month.as_str())) {
            return None;
        }
        let texts: Vec<&str> = months.iter().map(|month| amounts.get(month.as_str()).copied().unwrap_or("0")).collect();
        let names: Vec<String> = months.iter().map(|month| locale::month(month)).collect();
        let heights: Vec<f64> = texts.iter().map(|text| height(text)).collect();
        let most = heights.iter().copied().fold(0.0, f64::max);
        let grid = grid(most);
        let top = grid.last().copied().unwrap_or(1.0);
        let percent = |part: f64| format!("{:.2}%", part * 100.0);
        let room = 1.0 / f64::from(MONTHS);
        let last = months.len() - 1;
        let column = |(at, x): (usize, u8)| Column {
            x: percent(room * f64::from(x)),
            y: percent(1.0 - heights[at] / top),
            height: percent(heights[at] / top),
            label: if at == 0 || at == last { names[at].clone() } else { names[at].chars().take(3).collect() },
            amount: written(texts[at]),
            short: locale.short(heights[at]),
        };
        let columns: Vec<Column> = (0..months.len()).zip(0..MONTHS).map(column).collect();
        let highest = heights.iter().position(|height| *height >= most).unwrap_or(last);
        let said = |at: usize| format!("{} in {}", columns[at].amount, names[at]);
        Some(Self {
            description: format!(
                "From {} to {}. Highest: {}. So far: {}.",
                names[0],
                names[last],
                said(highest),
                said(last)
            ),
            lines: grid.iter().map(|at| Line { y: percent(1.0 - at / top), label: locale.short(*at) }).collect(),
            room: percent(room),
            columns,
        })
    }
}

/// The latest months, the newest last.
pub(super) fn months(now: DateTime<Utc>) -> Vec<String> {
    let today = now.date_naive();
    let month = |ago: u8| today.with_day(1)?.checked_sub_months(Months::new(ago.into()));
    (0..MONTHS).rev().filter_map(month).map(|first| first.format("%Y-%m").to_string()).collect()
}

/// What is less than nothing has no height.
fn height(amount: &str) -> f64 {
    amount.parse().ok().filter(|amount: &f64| amount.is_finite()).unwrap_or_default().max(0.0)
}

/// Where lines are drawn: at nothing, and at round numbers up to the first that is not exceeded.
fn grid(most: f64) -> Vec<f64> {
    let most = most.max(1.0);
    let ten = 10_f64.powf((most / f64::from(LINES)).log10().floor().max(0.0));
    let steps = [1.0, 2.0, 5.0].map(|step| step * ten);
    let step = steps.into_iter().find(|step| step * f64::from(LINES) >= most).unwrap_or(10.0 * ten);
    (0..=LINES).map(|line| f64::from(line) * step).take_while(|at| *at < most + step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_at_round_numbers_and_nothing_exceeds_the_highest() {
        for (most, lines) in [
            (0.0, &[0.0, 1.0][..]),
            (0.4, &[0.0, 1.0]),
            (3.0, &[0.0, 1.0, 2.0, 3.0]),
            (5.0, &[0.0, 2.0, 4.0, 6.0]),
            (503.0, &[0.0, 200.0, 400.0, 600.0]),
            (801.0, &[0.0, 500.0, 1000.0]),
            (1_427_000.0, &[0.0, 500_000.0, 1_000_000.0, 1_500_000.0]),
        ] {
            assert_eq!(grid(most), lines, "{most}");
        }
    }

    #[test]
    fn months_without_anything_have_their_place_and_older_ones_have_none() {
        let now = "2026-11-29T10:00:00Z".parse().unwrap();
        let locale = Locale::new("de", "", now);
        let drawn = |amounts: &[(&'static str, &'static str)]| {
            Chart::of(&locale, now, &amounts.iter().copied().collect(), |amount| locale.money(amount))
        };
        assert!(drawn(&[]).is_none() && drawn(&[("2025-11", "5")]).is_none());
        let chart = drawn(&[("2025-11", "9000"), ("2026-09", "1500"), ("2026-11", "-7"), ("2026-10", "NaN")]).unwrap();
        let labels: Vec<&str> = chart.columns.iter().map(|column| column.label.as_str()).collect();
        assert_eq!(labels.join(" "), "Dec 2025 Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov 2026");
        let heights: Vec<&str> = chart.columns[8..].iter().map(|column| column.height.as_str()).collect();
        assert_eq!(heights, ["0.00%", "100.00%", "0.00%", "0.00%"]);
        let lines: Vec<(&str, &str)> = chart.lines.iter().map(|line| (line.y.as_str(), line.label.as_str())).collect();
        assert_eq!(lines, [("100.00%", "0"), ("66.67%", "500"), ("33.33%", "1k"), ("0.00%", "1,5k")]);
        assert_eq!(
            chart.description,
            "From Dec 2025 to Nov 2026. Highest: 1.500,00 in Sep 2026. So far: -7,00 in Nov 2026."
        );
    }
}
