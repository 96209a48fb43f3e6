//! Numbers, ages and names as people read them at night.

/// `1,204 records`, `1 record`.
pub fn count(number: i64, noun: &str) -> String {
    let plural = match number {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", thousands(number))
}

/// `1,204 records`, `5 profiles`, `1,204 records and 5 profiles`
pub fn records_and_profiles(records: i64, profiles: i64) -> String {
    match (records, profiles) {
        (_, 0) => count(records, "record"),
        (0, _) => count(profiles, "profile"),
        _ => format!("{} and {}", count(records, "record"), count(profiles, "profile")),
    }
}

/// `1,204`
pub fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `12 s`, `5 min`, `3 h 20 min`, `2 days`
pub fn age(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7_200 => format!("{minutes} min"),
        7_200..172_800 if minutes % 60 == 0 => format!("{hours} h"),
        7_200..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} days", hours / 24),
    }
}

/// `1.2 GiB`
pub fn bytes(number: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut size = number as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{number} B") } else { format!("{size:.1} {unit}") }
}

/// What other systems named goes to a terminal: control characters do not.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One word of a shell's command.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_have_their_noun() {
        assert_eq!(count(1, "batch"), "1 batch");
        assert_eq!(count(0, "batch"), "0 batches");
        assert_eq!(count(1_234_567, "record"), "1,234,567 records");
        assert_eq!((thousands(999), thousands(-1_000)), ("999".to_owned(), "-1,000".to_owned()));
    }

    #[test]
    fn ages_are_as_exact_as_anybody_needs() {
        let ages = [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h")];
        let longer = [(12_000, "3 h 20 min"), (172_800, "2 days")];
        for (seconds, said) in ages.into_iter().chain(longer) {
            assert_eq!(age(seconds), said);
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!([bytes(512), bytes(1_536), bytes(3 << 30)], ["512 B", "1.5 KiB", "3.0 GiB"]);
    }

    #[test]
    fn names_of_others_reach_neither_the_terminal_nor_the_shell() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shell_word("drop/members-1.csv"), "drop/members-1.csv");
        assert_eq!(shell_word("it's $(rm).csv"), r"'it'\''s $(rm).csv'");
    }
}
