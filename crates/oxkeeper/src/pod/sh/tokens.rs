//! The text of a shell script as words and operators, with what each word is made of.
//!
//! One pass, without going back; the depth of nested expansions is bounded. Source: POSIX.1-2024,
//! Shell Command Language 2.2, 2.3, 2.6.2; bash's `NAME+=value`.

/// Expansions inside expansions, at most.
const MAX_DEPTH: u32 = 32;

/// Longest first.
const OPERATORS: &[&str] = &[
    ";;&", "<<-", "<<<", "&>>", ";;", ";&", "&&", "||", "|&", "<<", ">>", "<&", ">&", "<>", ">|",
    "&>", ";", "&", "|", "(", ")", "<", ">",
];

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Itself.
    Text(String),
    /// `$NAME`, `${NAME}`, `${NAME:-word}` and its kin.
    Variable { name: String, otherwise: Option<Otherwise> },
    /// What only a shell can tell: a command's output, arithmetic, its arguments, patterns.
    Unknown,
}

/// The part behind a variable's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otherwise {
    /// `-`, `=` or `+`.
    pub operator: char,
    /// With a colon: an empty variable is as an unset one.
    pub or_empty: bool,
    /// What is used in its place.
    pub word: Vec<Piece>,
}

/// A word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// As it stands in the script.
    pub raw: &'a str,
    /// `NAME=` or `NAME+=` at its begin; whether it appends.
    pub assigns: Option<(&'a str, bool)>,
    /// The rest, or all of it.
    pub pieces: Vec<Piece>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Token<'a> {
    Word(Word<'a>),
    Operator(&'static str),
    Newline,
}

/// Why the script cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble(pub &'static str);

/// Reads tokens.
#[derive(Debug)]
pub struct Tokens<'a> {
    text: &'a str,
    /// Where the next token begins, or blanks before it.
    pub at: usize,
    /// Line of [`Tokens::at`], from 1.
    pub line: u32,
    depth: u32,
    /// The next word ends a here-document; whether tabs before it are dropped.
    delimiter_next: Option<bool>,
    /// Here-documents that begin behind this line.
    documents: Vec<(String, bool)>,
}

impl<'a> Tokens<'a> {
    /// Begins at the begin of `text`.
    pub fn new(text: &'a str) -> Tokens<'a> {
        let documents = Vec::new();
        Tokens { text, at: 0, line: 1, depth: 0, delimiter_next: None, documents }
    }

    /// Passes blanks, comments and joined lines over.
    pub fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with("\\\n") {
                self.at += 2;
                self.line += 1;
            } else if rest.starts_with('#') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with([' ', '\t', '\r']) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// The next token; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Token<'a>>, Trouble> {
        self.skip_blanks();
        match self.peek() {
            None if self.documents.is_empty() => return Ok(None),
            None => return Err(Trouble("a here-document has no end")),
            Some('\n') => {
                self.take();
                self.skip_documents()?;
                return Ok(Some(Token::Newline));
            }
            Some(_) => {}
        }
        let rest = &self.text[self.at..];
        if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            self.at += operator.len();
            self.delimiter_next = match *operator {
                "<<" => Some(false),
                "<<-" => Some(true),
                _ => None,
            };
            return Ok(Some(Token::Operator(operator)));
        }
        let word = self.word()?;
        if let Some(tabs) = self.delimiter_next.take() {
            let quotes = ['\'', '"', '\\'];
            self.documents.push((word.raw.replace(quotes, ""), tabs));
        }
        Ok(Some(Token::Word(word)))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += u32::from(c == '\n');
        Some(c)
    }

    /// Passes the lines of here-documents over.
    fn skip_documents(&mut self) -> Result<(), Trouble> {
        for (delimiter, tabs) in std::mem::take(&mut self.documents) {
            loop {
                let rest = &self.text[self.at..];
                if rest.is_empty() {
                    return Err(Trouble("a here-document has no end"));
                }
                let line = rest.split('\n').next().unwrap_or(rest);
                self.at += (line.len() + 1).min(rest.len());
                self.line += 1;
                let line = if tabs { line.trim_start_matches('\t') } else { line };
                if line == delimiter {
                    break;
                }
            }
        }
        Ok(())
    }

    fn word(&mut self) -> Result<Word<'a>, Trouble> {
        let begin = self.at;
        let assigns = assignment(&self.text[begin..]);
        if let Some((name, append)) = assigns {
            self.at += name.len() + usize::from(append) + 1;
        }
        let mut pieces = Vec::new();
        // At the begin, and behind each colon of a value.
        let mut home = true;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '~' if home => self.home(&mut pieces),
                _ if self.text[self.at..].starts_with("\\\n") => {
                    self.piece(false, &mut pieces)?;
                    continue;
                }
                _ => self.piece(false, &mut pieces)?,
            }
            home = c == ':' && assigns.is_some();
        }
        Ok(Word { raw: &self.text[begin..self.at], assigns, pieces })
    }

    /// `~` where it is no character like others.
    fn home(&mut self, pieces: &mut Vec<Piece>) {
        self.take();
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '/' | ':') => {
                pieces.push(Piece::Variable { name: "HOME".to_owned(), otherwise: None });
            }
            // Another user's.
            _ => pieces.push(Piece::Unknown),
        }
    }

    /// One character, quoted text or expansion.
    fn piece(&mut self, quoted: bool, pieces: &mut Vec<Piece>) -> Result<(), Trouble> {
        match self.take() {
            Some('\\') => self.escaped(quoted, pieces),
            Some('\'') if !quoted => self.single(pieces)?,
            Some('"') if !quoted => self.double(pieces)?,
            Some('`') => {
                self.skip_to('`', "a backquote is not closed")?;
                pieces.push(Piece::Unknown);
            }
            Some('$') => self.dollar(quoted, pieces)?,
            Some(c) => push(pieces, c),
            None => {}
        }
        Ok(())
    }

    fn escaped(&mut self, quoted: bool, pieces: &mut Vec<Piece>) {
        match self.take() {
            Some('\n') => {}
            Some(c) if quoted && !matches!(c, '$' | '`' | '"' | '\\') => {
                push(pieces, '\\');
                push(pieces, c);
            }
            Some(c) => push(pieces, c),
            None => push(pieces, '\\'),
        }
    }

    fn single(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Trouble> {
        loop {
            match self.take() {
                None => return Err(Trouble("a ' is not closed")),
                Some('\'') => return Ok(()),
                Some(c) => push(pieces, c),
            }
        }
    }

    fn double(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Trouble> {
        loop {
            match self.peek() {
                None => return Err(Trouble("a \" is not closed")),
                Some('"') => {
                    self.take();
                    return Ok(());
                }
                Some(_) => self.piece(true, pieces)?,
            }
        }
    }

    /// Behind a `$`.
    fn dollar(&mut self, quoted: bool, pieces: &mut Vec<Piece>) -> Result<(), Trouble> {
        match self.peek() {
            Some('{') => {
                self.take();
                let piece = self.nested(|tokens| tokens.braces(quoted))?;
                pieces.push(piece);
            }
            Some('(') => {
                self.take();
                self.nested(Tokens::skip_parentheses)?;
                pieces.push(Piece::Unknown);
            }
            Some('\'') if !quoted => {
                self.take();
                self.skip_to('\'', "a ' is not closed")?;
                pieces.push(Piece::Unknown);
            }
            Some('"') if !quoted => pieces.push(Piece::Unknown),
            Some('0'..='9' | '@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                self.take();
                pieces.push(Piece::Unknown);
            }
            _ => match self.name() {
                "" => push(pieces, '$'),
                name => {
                    pieces.push(Piece::Variable { name: name.to_owned(), otherwise: None });
                }
            },
        }
        Ok(())
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if self.depth == MAX_DEPTH {
            return Err(Trouble("expansions are nested too deeply"));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// A name from here on; empty if there is none.
    fn name(&mut self) -> &'a str {
        let name = name(&self.text[self.at..]);
        self.at += name.len();
        name
    }

    /// Behind `${`.
    fn braces(&mut self, quoted: bool) -> Result<Piece, Trouble> {
        let name = self.name().to_owned();
        let or_empty = !name.is_empty() && self.peek() == Some(':');
        if or_empty {
            self.take();
        }
        let operator = self.peek().filter(|c| !name.is_empty() && matches!(c, '-' | '=' | '+'));
        if operator.is_some() {
            self.take();
        }
        let plain = !name.is_empty() && !or_empty && self.peek() == Some('}');
        let mut word = Vec::new();
        loop {
            match self.peek() {
                None => return Err(Trouble("a ${ is not closed")),
                Some('}') => break,
                Some('"') if quoted => {
                    self.take();
                    self.double(&mut word)?;
                }
                Some(_) => self.piece(quoted, &mut word)?,
            }
        }
        self.take();
        Ok(match operator {
            Some(operator) => {
                let otherwise = Some(Otherwise { operator, or_empty, word });
                Piece::Variable { name, otherwise }
            }
            None if plain => Piece::Variable { name, otherwise: None },
            None => Piece::Unknown,
        })
    }

    /// Behind `$(`.
    fn skip_parentheses(&mut self) -> Result<(), Trouble> {
        let (mut open, mut ignored) = (1, Vec::new());
        while open > 0 {
            match self.peek() {
                None => return Err(Trouble("a $( is not closed")),
                Some('(') => {
                    self.take();
                    open += 1;
                }
                Some(')') => {
                    self.take();
                    open -= 1;
                }
                Some(_) => self.piece(false, &mut ignored)?,
            }
            ignored.clear();
        }
        Ok(())
    }

    fn skip_to(&mut self, end: char, trouble: &'static str) -> Result<(), Trouble> {
        loop {
            match self.take() {
                None => return Err(Trouble(trouble)),
                Some('\\') => {
                    self.take();
                }
                Some(c) if c == end => return Ok(()),
                Some(_) => {}
            }
        }
    }
}

fn push(pieces: &mut Vec<Piece>, c: char) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(c),
        _ => pieces.push(Piece::Text(c.to_string())),
    }
}

/// The name at the begin of `text`; empty if there is none.
pub fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// `NAME=` or `NAME+=` at the begin of `text`.
fn assignment(text: &str) -> Option<(&str, bool)> {
    let name = name(text);
    let rest = &text[name.len()..];
    match !name.is_empty() {
        true if rest.starts_with('=') => Some((name, false)),
        true if rest.starts_with("+=") => Some((name, true)),
        _ => None,
    }
}
