//! A command line in pieces, as the kernel splits it.

/// A word of the command line: `name`, or `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands after it.
    pub value: Option<String>,
}

/// A command line in pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The kernel's words, and ours.
    pub words: Vec<Word>,
    /// What follows `--`.
    pub init_args: Vec<String>,
}

/// Split `text` as the kernel does: at white space outside quotes; quotes around a word or around a
/// value are taken off; what follows `--` belongs to init.
#[must_use]
pub fn split(text: &str) -> Line {
    let mut line = Line::default();
    let mut is_quoted = false;
    let pieces = text.split(|letter: char| {
        is_quoted ^= letter == '"';
        letter.is_ascii_whitespace() && !is_quoted
    });
    let mut is_inits = false;
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        if is_inits {
            line.init_args.push(unquote(piece).to_owned());
        } else if piece == "--" {
            is_inits = true;
        } else {
            let piece = unquote(piece);
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (name, Some(unquote(value).to_owned())),
                None => (piece, None),
            };
            let name = name.to_owned();
            line.words.push(Word { name, value });
        }
    }
    line
}

fn unquote(text: &str) -> &str {
    match text.strip_prefix('"') {
        Some(text) => text.strip_suffix('"').unwrap_or(text),
        None => text,
    }
}
