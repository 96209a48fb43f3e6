//! Markdown of notes as HTML that is safe whatever it says.
//!
//! Only what is listed here is drawn. HTML in a note is shown as the text that it is, a picture as a link to it, and links
//! lead to the web, to an email or to a telephone or else nowhere. `push_html` escapes all the rest.

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd, html};

const SCHEMES: [&str; 4] = ["https://", "http://", "mailto:", "tel:"];

/// Draws a note.
pub(super) fn drawn(text: &str) -> String {
    let mut out = String::new();
    html::push_html(&mut out, Parser::new_ext(text, Options::ENABLE_STRIKETHROUGH).filter_map(harmless));
    out
}

fn harmless(event: Event<'_>) -> Option<Event<'_>> {
    let harmless = match event {
        Event::Html(html) | Event::InlineHtml(html) => Event::Text(html),
        // Titles would stand above those of the page.
        Event::Start(Tag::Heading { .. } | Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::Heading(_) | TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        Event::Start(Tag::Link { link_type, dest_url, id, .. } | Tag::Image { link_type, dest_url, id, .. }) => {
            let is_known =
                |scheme: &&str| dest_url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
            let leads = link_type == LinkType::Email || SCHEMES.iter().any(is_known);
            let dest_url = if leads { dest_url } else { "".into() };
            Event::Start(Tag::Link { link_type, dest_url, title: "".into(), id })
        }
        Event::End(TagEnd::Image) => Event::End(TagEnd::Link),
        Event::Start(
            Tag::Paragraph
            | Tag::BlockQuote(_)
            | Tag::CodeBlock(_)
            | Tag::List(_)
            | Tag::Item
            | Tag::Emphasis
            | Tag::Strong
            | Tag::Strikethrough,
        )
        | Event::End(
            TagEnd::Paragraph
            | TagEnd::BlockQuote(_)
            | TagEnd::CodeBlock
            | TagEnd::List(_)
            | TagEnd::Item
            | TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Link,
        )
        | Event::Text(_)
        | Event::Code(_)
        | Event::SoftBreak
        | Event::HardBreak
        | Event::Rule => event,
        _ => return None,
    };
    Some(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_note_may_say_is_drawn() {
        for (text, html) in [
            ("a **b** *c* `<d>`", "<p>a <strong>b</strong> <em>c</em> <code>&lt;d&gt;</code></p>\n"),
            ("# Title", "<p>Title</p>\n"),
            ("[a](https://x.example/?a=1&b=2)", "<p><a href=\"https://x.example/?a=1&amp;b=2\">a</a></p>\n"),
            ("<ann@x.example>", "<p><a href=\"mailto:ann@x.example\">ann@x.example</a></p>\n"),
            ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"),
        ] {
            assert_eq!(drawn(text), html, "{text}");
        }
    }

    #[test]
    fn nothing_in_a_note_runs_or_loads_anything() {
        for text in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<div onclick=\"alert(1)\">\n\n*a*\n\n</div>",
            "![a](https://x.example/pixel.gif)",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](data:text/html;base64,x)",
            "[a](\u{1}javascript:alert(1))",
            "<javascript:alert(1)>",
            "[a](https://x.example/\"onmouseover=\"alert(1))",
            "[a]: javascript:alert(1) \"b\\\" onclick=c\"\n\n[a]",
            "```\"><script>alert(1)</script>\n</code><script>\n```",
        ] {
            let html = drawn(text);
            let tags: Vec<&str> =
                html.split('<').skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag)).collect();
            let is_plain = |tag: &&str| {
                let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                let name = name.trim_start_matches('/');
                let is_known = ["p", "a", "pre", "code", "em"].contains(&name);
                let leads = attributes.is_empty()
                    || attributes.starts_with("href=\"\"")
                    || attributes.starts_with("href=\"https://x.example/")
                    || attributes.starts_with("class=\"language-");
                is_known && leads && attributes.matches('"').count() % 2 == 0 && !attributes.contains(" on")
            };
            assert!(tags.iter().all(is_plain), "{text}: {html}");
        }
    }
}
