//! Colour: the words that say how bad it is, where a terminal shows them.
//!
//! Reports are plain text. Which of their words have a colour is decided here alone, by where in a line they stand, so that the text is
//! the same everywhere. A stream that is no terminal gets none, nor does a terminal where `TERM` is `dumb`, but by `CLICOLOR_FORCE`, for
//! whoever pipes into a pager. `NO_COLOR` (no-color.org) has the last word.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default();
/// What could not be told is neither.
const UNTOLD: Style = AnsiColor::Magenta.on_default();

/// What a line begins with. Of two the longer one comes first.
const BEGINNINGS: [(&str, Style); 6] = [
    ("PROBLEM ", BAD),
    ("NOTE ", ODD),
    ("COULD NOT TELL:", UNTOLD),
    ("NOT FIXED ", BAD),
    ("FIXED ", GOOD),
    ("twillctl: ", BAD),
];
/// A line of its own.
const ALL_IS_WELL: &str = "no problems";
/// What a line ends with.
const ENDS: [(&str, Style); 3] = [("(BROKEN)", BAD), ("(ODD)", ODD), ("(UNKNOWN)", UNTOLD)];
/// What fills a cell of a table, between two columns' space.
const CELLS: [(&str, Style); 4] = [("PROBLEM", BAD), ("NO", BAD), ("NOTHING", BAD), ("SMALL ONLY", BAD)];

/// The text as the stream is to have it.
pub(super) fn for_stream(text: String, stream: &impl RawStream) -> String {
    match AutoStream::choice(stream) {
        ColorChoice::Never => text,
        // Which anstream takes back where CLICOLOR or CI is set.
        _ if is("TERM", "dumb") && !is_set("CLICOLOR_FORCE") => text,
        _ => painted(&text),
    }
}

fn is(variable: &str, value: &str) -> bool {
    std::env::var_os(variable).is_some_and(|known| known == value)
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some() && !is(variable, "0")
}

fn painted(text: &str) -> String {
    text.split_inclusive('\n').map(line).collect()
}

fn line(whole: &str) -> String {
    let text = whole.trim_end_matches('\n');
    let rest = &whole[text.len()..];
    if text == ALL_IS_WELL {
        return format!("{GOOD}{text}{GOOD:#}{rest}");
    }
    if let Some((word, style)) = BEGINNINGS.iter().find(|(word, _)| text.starts_with(word)) {
        let word = word.trim_end();
        return format!("{style}{word}{style:#}{}{rest}", &text[word.len()..]);
    }
    if let Some((word, style)) = ENDS.iter().find(|(word, _)| text.ends_with(word)) {
        return format!("{}{style}{word}{style:#}{rest}", &text[..text.len() - word.len()]);
    }
    CELLS.iter().fold(whole.to_owned(), |line, (word, style)| cells(&line, word, *style))
}

/// Each place of the line where the word is all that a cell has.
fn cells(line: &str, word: &str, style: Style) -> String {
    let mut painted = String::new();
    let mut rest = line;
    while let Some(place) = rest.find(word) {
        let (before, after) = (&rest[..place], &rest[place + word.len()..]);
        let begins = before.ends_with("  ") || (before.is_empty() && painted.is_empty());
        let ends = after.trim_end_matches('\n').is_empty() || after.starts_with("  ");
        painted += before;
        painted += &if begins && ends { format!("{style}{word}{style:#}") } else { word.to_owned() };
        rest = after;
    }
    painted + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_judge_have_a_colour_where_they_stand_alone() {
        let text = "\
NODE  CHECK  STATE    WHAT
n1    nft    PROBLEM  PROBLEM of nft
n2    NO     SMALL ONLY
   3  tw2    delivered to the pod  (BROKEN)

PROBLEM node n1: NO way
    fix: PROBLEM
NOTE n2: odd
COULD NOT TELL: n3
no problems
no problems, as far as could be told
";
        let wanted = "\
NODE  CHECK  STATE    WHAT
n1    nft    [bad]PROBLEM[]  PROBLEM of nft
n2    [bad]NO[]     [bad]SMALL ONLY[]
   3  tw2    delivered to the pod  [bad](BROKEN)[]

[bad]PROBLEM[] node n1: NO way
    fix: PROBLEM
[odd]NOTE[] n2: odd
[untold]COULD NOT TELL:[] n3
[good]no problems[]
no problems, as far as could be told
";
        let mut told = painted(text);
        for (name, style) in [("[bad]", BAD), ("[odd]", ODD), ("[untold]", UNTOLD), ("[good]", GOOD)] {
            told = told.replace(&style.to_string(), name);
        }
        assert_eq!(told.replace(&format!("{BAD:#}"), "[]"), wanted);
        assert_eq!(anstream::adapter::strip_str(&painted(text)).to_string(), text, "nothing else is changed");
    }

    #[test]
    fn a_stream_that_is_no_terminal_gets_the_text_alone() {
        let text = "PROBLEM node n1: it is old\n";
        let file = tempfile::tempfile().unwrap();
        assert_eq!(for_stream(text.to_owned(), &file), text);
    }
}
