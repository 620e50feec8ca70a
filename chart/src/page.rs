//! A page in HTML that needs nothing beside itself: headings, paragraphs, tables, plots.

use std::fmt::Write as _;

/// A page that is being written.
#[derive(Debug, Clone)]
pub struct Page {
    body: String,
    title: String,
}

const STYLE: &str = "body { font-family: sans-serif; max-width: 62em; margin: 2em auto; color: #222 } \
table { border-collapse: collapse; margin: 1em 0 } \
th, td { text-align: left; padding: 0.2em 1.2em 0.2em 0; border-bottom: 1px solid #ddd } \
svg { max-width: 100%; height: auto }";

impl Page {
    /// One with a title.
    pub fn new(title: &str) -> Self {
        Self { body: format!("<h1>{}</h1>\n", escaped(title)), title: title.to_owned() }
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.add(format_args!("<p>{}</p>\n", escaped(text)));
    }

    /// Adds a table.
    pub fn table<const N: usize>(&mut self, heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
        let cells = |tag: &str, cells: &[String]| {
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect::<String>()
        };
        self.add(format_args!("<table>\n<tr>{}</tr>\n", cells("th", &heading.map(str::to_owned))));
        for row in rows {
            self.add(format_args!("<tr>{}</tr>\n", cells("td", &row)));
        }
        self.body.push_str("</table>\n");
    }

    /// Adds a plot, the document of an SVG file, as it is.
    pub fn svg(&mut self, document: &str) {
        self.add(format_args!("<div>\n{document}</div>\n"));
    }

    /// The document.
    pub fn html(&self) -> String {
        let Self { body, title } = self;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n{body}</body>\n</html>\n",
            escaped(title)
        )
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("a string takes what is written to it");
    }
}

/// Text as it stands in HTML and XML, also inside of an attribute's quotes; without what XML 1.0 does not allow.
pub fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => clean.push_str("&amp;"),
            '<' => clean.push_str("&lt;"),
            '>' => clean.push_str("&gt;"),
            '"' => clean.push_str("&quot;"),
            '\'' => clean.push_str("&#39;"),
            // XML 1.0, section 2.2.
            c if (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                clean.push(char::REPLACEMENT_CHARACTER);
            }
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_page_is_text_whatever_it_is() {
        let mut page = Page::new("a < b");
        page.paragraph("<script>alert('x')</script> & \u{1b}[2J");
        page.table(["one", "two"], [["1".to_owned(), "\"2\"".to_owned()]]);
        page.svg("<svg></svg>\n");
        let html = page.html();
        assert!(html.contains("<title>a &lt; b</title>") && html.contains("<h1>a &lt; b</h1>"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; \u{fffd}[2J"), "{html}");
        assert!(
            html.contains("<tr><th>one</th><th>two</th></tr>\n<tr><td>1</td><td>&quot;2&quot;</td></tr>"),
            "{html}"
        );
        assert!(html.contains("<svg></svg>") && !html.contains("http"), "it loads nothing");
    }
}
