//! What the headers of emails hold: lists of addresses, ids of messages.

/// The addresses of a list as `From`, `To` and `Cc` have it: parted by commas or semicolons that stand in no quotes.
pub(crate) fn addresses(text: &str) -> Vec<String> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|char: char| {
        let is_escaped = std::mem::take(&mut escaped);
        match char {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && matches!(char, ',' | ';')
    });
    parts.map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

/// The ids of messages in a header: what stands in angle brackets; without any, words.
pub(crate) fn message_ids(text: &str) -> impl Iterator<Item = &str> {
    let bracketed = text.contains('<');
    let parts = text.split(move |char: char| if bracketed { char == '<' } else { char.is_whitespace() || char == ',' });
    // Before the first bracket stands no id.
    let ids = parts.skip(usize::from(bracketed)).map(move |part| part.split('>').next().unwrap_or_default().trim());
    ids.filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parted_outside_of_quotes() {
        let list = r#""Groves, Matt" <matt@x.example>, ann@x.example;bob@x.example , "a\"b, c" <c@x.example>,"#;
        let expected =
            [r#""Groves, Matt" <matt@x.example>"#, "ann@x.example", "bob@x.example", r#""a\"b, c" <c@x.example>"#];
        assert_eq!(addresses(list), expected);
        assert!(addresses(" , ").is_empty());
    }

    #[test]
    fn ids_of_messages_stand_in_brackets_or_are_words() {
        let ids = |text| message_ids(text).collect::<Vec<_>>();
        assert_eq!(ids("<a@x>\r\n <b@x><c@x>"), ["a@x", "b@x", "c@x"]);
        assert_eq!(ids("Your message of Monday <a@x>"), ["a@x"]);
        assert_eq!(ids(" 17, 18 19"), ["17", "18", "19"]);
        assert_eq!(ids("<> "), Vec::<&str>::new());
    }
}
