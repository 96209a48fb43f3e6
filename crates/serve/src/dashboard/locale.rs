//! Numbers and dates as the reader writes them. The words of the pages are English; separators, the order of day and month
//! and the clock follow the browser's first language, times its zone.

use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// How a reader writes numbers and dates.
pub(super) struct Locale {
    pub(super) zone: Tz,
    pub(super) now: DateTime<Utc>,
    is_american: bool,
    is_english: bool,
    /// Between thousands, and before decimals.
    separators: (&'static str, &'static str),
}

/// A time, as an element that keeps all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    machine: String,
    pub(super) full: String,
    pub(super) text: String,
}

impl fmt::Display for Moment {
    /// Digits, letters of month names and signs that mean nothing in HTML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<time datetime=\"{}\" title=\"{}\">{}</time>", self.machine, self.full, self.text)
    }
}

impl Locale {
    /// Of a request with this `Accept-Language` and this name of a zone; English and UTC if they say nothing.
    pub(super) fn new(languages: &str, zone: &str, now: DateTime<Utc>) -> Self {
        let first = languages.split([',', ';']).next().unwrap_or_default().trim().to_ascii_lowercase();
        let language = first.split('-').next().unwrap_or_default();
        let separators = match (first.as_str(), language) {
            ("de-ch" | "de-li" | "it-ch", _) => ("’", "."),
            (
                "es-419" | "es-mx" | "es-us" | "es-pr" | "es-gt" | "es-hn" | "es-sv" | "es-ni" | "es-pa" | "es-pe"
                | "es-do",
                _,
            ) => (",", "."),
            (
                _,
                "de" | "nl" | "es" | "it" | "pt" | "da" | "id" | "tr" | "el" | "ro" | "hr" | "sl" | "sr" | "ca" | "is"
                | "vi",
            ) => (".", ","),
            (
                _,
                "fr" | "sv" | "nb" | "nn" | "no" | "fi" | "pl" | "cs" | "sk" | "hu" | "bg" | "ru" | "uk" | "lt" | "lv"
                | "et",
            ) => ("\u{202f}", ","),
            _ => (",", "."),
        };
        Self {
            zone: zone.parse().unwrap_or(Tz::UTC),
            now,
            is_american: first == "en-us",
            is_english: matches!(language, "en" | ""),
            separators,
        }
    }

    /// A decimal number.
    pub(super) fn number(&self, number: &str) -> String {
        let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        if !whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit()) {
            return number.to_owned();
        }
        let (thousands, point) = self.separators;
        let mut text = sign.to_owned();
        for (at, digit) in whole.char_indices() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                text.push_str(thousands);
            }
            text.push(digit);
        }
        if decimals.is_empty() { text } else { format!("{text}{point}{decimals}") }
    }

    pub(super) fn count(&self, count: i64) -> String {
        self.number(&count.to_string())
    }

    /// A number of hundredths.
    pub(super) fn percent(&self, hundredths: i64) -> String {
        format!("{}{}%", self.count(hundredths), if self.is_english { "" } else { " " })
    }

    /// An amount of money, with two decimals at least.
    pub(super) fn money(&self, amount: &str) -> String {
        let decimals = amount.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let missing = "0".repeat(2_usize.saturating_sub(decimals));
        let point = if decimals == 0 { "." } else { "" };
        self.number(&format!("{amount}{point}{missing}"))
    }

    /// A number from nothing up in few digits, as it stands at an axis.
    pub(super) fn short(&self, number: f64) -> String {
        let units = [(1e9, "bn"), (1e6, "M"), (1e3, "k")];
        let (size, unit) = units.into_iter().find(|(size, _)| number >= *size).unwrap_or((1.0, ""));
        let scaled = number / size;
        let digits = if scaled < 9.95 { format!("{scaled:.1}") } else { format!("{scaled:.0}") };
        format!("{}{unit}", self.number(digits.strip_suffix(".0").unwrap_or(&digits)))
    }

    /// Seconds and minutes ago within the hour, the clock today, Yesterday, then the day; of a date without a time the day. Clocks
    /// of two machines differ a little, so what is a moment ahead is now.
    pub(super) fn ago(&self, at: DateTime<Utc>) -> Moment {
        if is_date(at) {
            return self.day(at);
        }
        let past = self.now - at;
        let text = if past < TimeDelta::minutes(-1) || self.days_ago(at) > 1 {
            self.day_text(at)
        } else if past < TimeDelta::minutes(1) {
            format!("{} s ago", past.num_seconds().max(0))
        } else if past < TimeDelta::hours(1) {
            format!("{} min ago", past.num_minutes())
        } else if self.days_ago(at) == 1 {
            "Yesterday".to_owned()
        } else {
            self.clock_text(at)
        };
        self.moment(at, text)
    }

    /// The day, with the year if it is another one. A date is the same day everywhere.
    pub(super) fn day(&self, at: DateTime<Utc>) -> Moment {
        let zone = if is_date(at) { Tz::UTC } else { self.zone };
        let there = Self { zone, ..*self };
        there.moment(at, there.day_text(at))
    }

    /// The time of day.
    pub(super) fn clock(&self, at: DateTime<Utc>) -> Moment {
        self.moment(at, self.clock_text(at))
    }

    /// The time of day, to the second.
    pub(super) fn second(&self, at: DateTime<Utc>) -> Moment {
        let form = if self.is_american { "%-I:%M:%S %P" } else { "%H:%M:%S" };
        self.moment(at, at.with_timezone(&self.zone).format(form).to_string())
    }

    /// The same reader, at another time.
    pub(super) fn at(&self, now: DateTime<Utc>) -> Self {
        Self { now, ..*self }
    }

    /// What a group of a timeline is called: Today, Yesterday, the weekday within a week, and the date.
    pub(super) fn day_title(&self, at: DateTime<Utc>) -> String {
        let date = self.day_text(at);
        match self.days_ago(at) {
            0 => format!("Today, {date}"),
            1 => format!("Yesterday, {date}"),
            2..=6 => format!("{}, {date}", at.with_timezone(&self.zone).format("%A")),
            _ => date,
        }
    }

    fn moment(&self, at: DateTime<Utc>, text: String) -> Moment {
        let here = at.with_timezone(&self.zone);
        let year = here.year();
        let date = self.date(at);
        let full = format!("{date} {year}, {} {}", self.clock_text(at), here.format("%Z"));
        Moment { machine: at.format("%Y-%m-%dT%H:%M:%SZ").to_string(), full, text }
    }

    fn days_ago(&self, at: DateTime<Utc>) -> i64 {
        let day = |at: DateTime<Utc>| at.with_timezone(&self.zone).date_naive();
        (day(self.now) - day(at)).num_days()
    }

    fn date(&self, at: DateTime<Utc>) -> String {
        let form = if self.is_american { "%b %-d" } else { "%-d %b" };
        at.with_timezone(&self.zone).format(form).to_string()
    }

    fn day_text(&self, at: DateTime<Utc>) -> String {
        let year = |at: DateTime<Utc>| at.with_timezone(&self.zone).year();
        let date = self.date(at);
        let comma = if self.is_american { "," } else { "" };
        if year(at) == year(self.now) { date } else { format!("{date}{comma} {}", year(at)) }
    }

    fn clock_text(&self, at: DateTime<Utc>) -> String {
        let form = if self.is_american { "%-I:%M %P" } else { "%H:%M" };
        at.with_timezone(&self.zone).format(form).to_string()
    }
}

/// Whether it is a date without a time, as of a nightly file: midnight in UTC.
fn is_date(at: DateTime<Utc>) -> bool {
    at.time() == NaiveTime::MIN
}

/// A month that is written as 2026-11.
pub(super) fn month(month: &str) -> String {
    let first = NaiveDate::parse_from_str(&format!("{month}-01"), "%Y-%m-%d");
    first.map_or_else(|_| month.to_owned(), |first| first.format("%b %Y").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn locale(languages: &str, zone: &str) -> Locale {
        Locale::new(languages, zone, at("2026-11-20T14:30:00Z"))
    }

    #[test]
    fn numbers_are_written_as_the_first_language_does() {
        for (languages, number, money) in [
            ("en-US,en;q=0.9", "1,234,567.5", "1,234.50"),
            ("de,en", "1.234.567,5", "1.234,50"),
            ("de-CH", "1’234’567.5", "1’234.50"),
            ("fr-FR,fr", "1\u{202f}234\u{202f}567,5", "1\u{202f}234,50"),
            ("es-ES,es", "1.234.567,5", "1.234,50"),
            ("es-MX,es;q=0.9", "1,234,567.5", "1,234.50"),
            ("", "1,234,567.5", "1,234.50"),
        ] {
            let locale = locale(languages, "");
            assert_eq!((locale.number("1234567.5"), locale.money("1234.5")), (number.to_owned(), money.to_owned()));
        }
        let english = locale("en", "");
        for (number, written) in [("0", "0"), ("-1000", "-1,000"), ("999", "999"), ("NaN", "NaN"), ("1e9", "1e9")] {
            assert_eq!(english.number(number), written);
        }
        for (number, short) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (842.0, "842"),
            (1_500.0, "1.5k"),
            (842_614.2, "843k"),
            (2e6, "2M"),
            (1.5e12, "1,500bn"),
        ] {
            assert_eq!(english.short(number), short);
        }
        assert_eq!((english.percent(25), locale("de", "").percent(25)), ("25%".to_owned(), "25 %".to_owned()));
        assert_eq!((english.money("12").as_str(), english.money("1.2345").as_str()), ("12.00", "1.2345"));
    }

    #[test]
    fn times_are_said_the_shorter_the_nearer_in_the_readers_zone() {
        let english = locale("en", "");
        for (time, ago) in [
            ("2026-11-20T14:29:30Z", "30 s ago"),
            ("2026-11-20T14:30:20Z", "0 s ago"),
            ("2026-11-20T14:05:00Z", "25 min ago"),
            ("2026-11-20T08:31:00Z", "08:31"),
            ("2026-11-19T23:59:00Z", "Yesterday"),
            ("2026-11-02T10:00:00Z", "2 Nov"),
            ("2019-04-25T10:00:00Z", "25 Apr 2019"),
            ("2026-11-21T10:00:00Z", "21 Nov"),
        ] {
            assert_eq!(english.ago(at(time)).text, ago);
        }
        let american = locale("en-US", "America/New_York");
        assert_eq!(american.ago(at("2026-11-20T12:31:00Z")).text, "7:31 am");
        assert_eq!(american.ago(at("2019-04-25T10:00:00Z")).text, "Apr 25, 2019");
        for moment in [american.day(at("2026-11-19T00:00:00Z")), american.ago(at("2026-11-19T00:00:00Z"))] {
            assert_eq!(moment.text, "Nov 19", "a date");
        }
        assert_eq!(american.day(at("2026-11-19T00:00:01Z")).text, "Nov 18");
        assert_eq!(american.day_title(at("2026-11-20T03:00:00Z")), "Yesterday, Nov 19");
        assert_eq!(english.day_title(at("2026-11-17T03:00:00Z")), "Tuesday, 17 Nov");
        assert_eq!((month("2026-11").as_str(), month("x").as_str()), ("Nov 2026", "x"));
        assert_eq!(locale("en", "Nowhere/\"><b>").zone, Tz::UTC);
        assert_eq!(
            american.clock(at("2026-11-20T03:00:00Z")).to_string(),
            "<time datetime=\"2026-11-20T03:00:00Z\" title=\"Nov 19 2026, 10:00 pm EST\">10:00 pm</time>"
        );
    }
}
