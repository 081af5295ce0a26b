//! What a shell would do with a file of variables, as far as that can be known without being one.
//!
//! Applied are assignments that stand alone. Whatever else is there is passed over as a whole: a
//! block, a condition, a command, another file. So nothing takes effect that a shell might not do;
//! and whoever reads the outcome is told what was passed over. The ready-made parsers of shells bring
//! dozens of packages with them, or a license that does not fit.

mod tokens;

pub use tokens::{Otherwise, Piece};
use tokens::{Token, Tokens, Trouble, Word, name};

/// A command of a script at its outermost level.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Where it begins, from 1.
    pub line: u32,
    /// Its text.
    pub source: &'a str,
    /// What it does.
    pub effect: Effect,
}

/// What a statement does.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Variables are set, one after the other.
    Assign(Vec<Assignment>),
    /// `: "${NAME:=value}"`: words are expanded, for what that does.
    Expand(Vec<Piece>),
    /// Variables are unset.
    Unset(Vec<String>),
    /// Passed over.
    Skipped,
    /// A shell does not read on.
    Ends,
    /// The rest of the file cannot be read, for this reason.
    Unreadable(&'static str),
}

/// `NAME=value` or `NAME+=value`.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// The value is put behind the one that is there.
    pub append: bool,
    /// The value.
    pub value: Vec<Piece>,
}

/// Reads a script.
pub fn read(text: &str) -> Vec<Statement<'_>> {
    let mut tokens = Tokens::new(text);
    let mut statements = Vec::new();
    loop {
        tokens.skip_blanks();
        let (begin, line) = (tokens.at, tokens.line);
        match statement(&mut tokens, text) {
            Ok(Some((source, Some(effect)))) => {
                statements.push(Statement { line, source, effect });
            }
            // An empty one.
            Ok(Some((_, None))) => {}
            Ok(None) => return statements,
            Err(Trouble(why)) => {
                let effect = Effect::Unreadable(why);
                statements.push(Statement { line, source: &text[begin..], effect });
                return statements;
            }
        }
    }
}

/// One statement with its text; `None` at the end.
fn statement<'a>(
    tokens: &mut Tokens<'a>,
    text: &'a str,
) -> Result<Option<(&'a str, Option<Effect>)>, Trouble> {
    let begin = tokens.at;
    let (mut words, mut operators, mut any) = (Vec::new(), false, false);
    let mut blocks = Blocks { command: true, ..Blocks::default() };
    let mut end = begin;
    while let Some(token) = tokens.next()? {
        any = true;
        if blocks.open.is_empty() && !blocks.wants_more {
            match token {
                Token::Operator(";" | "&") if words.is_empty() && !operators => {
                    return Err(Trouble("there is no command to end"));
                }
                Token::Newline | Token::Operator(";") => break,
                Token::Operator("&") => {
                    operators = true;
                    end = tokens.at;
                    break;
                }
                _ => {}
            }
        }
        blocks.see(&token)?;
        if token != Token::Newline {
            end = tokens.at;
        }
        match token {
            Token::Word(word) => words.push(word),
            Token::Operator(_) => operators = true,
            Token::Newline => {}
        }
    }
    if !blocks.open.is_empty() {
        return Err(Trouble("a block is not closed"));
    }
    let source = &text[begin..end];
    let skipped = operators || blocks.seen;
    if skipped && words.iter().any(|word| ends(word.raw)) && !defines_function(source) {
        return Err(Trouble("a shell may not read on behind it"));
    }
    let effect = match () {
        () if skipped => Some(Effect::Skipped),
        () if words.is_empty() => None,
        () => Some(effect(words)),
    };
    Ok(any.then_some((source, effect)))
}

/// Does this command end the reading of the file?
fn ends(command: &str) -> bool {
    matches!(command, "return" | "exit" | "exec")
}

/// What stands in a function happens when it is called; calls are passed over.
fn defines_function(source: &str) -> bool {
    let first = name(source);
    first == "function" || !first.is_empty() && source[first.len()..].trim_start().starts_with('(')
}

/// The effect of a command that is words alone.
fn effect(words: Vec<Word<'_>>) -> Effect {
    let first = words[0].raw;
    let assignments = |words: Vec<Word<'_>>| {
        let assigned = words.into_iter().filter_map(|word| {
            let (name, append) = word.assigns?;
            Some(Assignment { name: name.to_owned(), append, value: word.pieces })
        });
        Effect::Assign(assigned.collect())
    };
    let is_name = |word: &Word<'_>| !word.raw.is_empty() && name(word.raw) == word.raw;
    match first {
        _ if words.iter().all(|word| word.assigns.is_some()) => assignments(words),
        "export" | "readonly"
            if words[1..].iter().all(|word| word.assigns.is_some() || is_name(word)) =>
        {
            assignments(words)
        }
        ":" | "true" => {
            Effect::Expand(words.into_iter().skip(1).flat_map(|word| word.pieces).collect())
        }
        "unset" if words[1..].iter().all(is_name) => {
            Effect::Unset(words[1..].iter().map(|word| word.raw.to_owned()).collect())
        }
        first if ends(first) => Effect::Ends,
        _ => Effect::Skipped,
    }
}

/// Which blocks are open. What does not fit is trouble: nobody knows then where a block ends.
#[derive(Default)]
struct Blocks {
    /// What closes them, innermost last.
    open: Vec<&'static str>,
    /// There was one.
    seen: bool,
    /// A command begins here, so the next word may be a reserved one.
    command: bool,
    /// The next word is the name of a function.
    function: bool,
    /// The next word is the file of a redirection.
    redirected: bool,
    /// The line ends in an operator that joins it with the next.
    wants_more: bool,
}

impl Blocks {
    fn see(&mut self, token: &Token<'_>) -> Result<(), Trouble> {
        match token {
            Token::Newline => {
                self.command = true;
                return Ok(());
            }
            Token::Operator(operator) => self.operator(operator)?,
            Token::Word(_) if std::mem::take(&mut self.redirected) => {}
            Token::Word(word) if self.command => self.command_word(word)?,
            Token::Word(_) => {}
        }
        self.wants_more = matches!(token, Token::Operator("&&" | "||" | "|" | "|&"));
        Ok(())
    }

    fn push(&mut self, end: &'static str) {
        self.open.push(end);
        self.seen = true;
    }

    fn close(&mut self, end: &str) -> Result<(), Trouble> {
        match self.open.pop() {
            Some(open) if open == end => Ok(()),
            _ => Err(Trouble("something is closed that was not opened")),
        }
    }

    fn operator(&mut self, operator: &str) -> Result<(), Trouble> {
        let in_case = self.open.last() == Some(&"esac");
        self.command = true;
        match operator {
            "(" => self.push(")"),
            // Behind a pattern.
            ")" if in_case => {}
            ")" => self.close(")")?,
            ";;" | ";&" | ";;&" if !in_case => return Err(Trouble(";; stands outside of a case")),
            "<" | ">" | "<<" | "<<-" | "<<<" | ">>" | "<&" | ">&" | "<>" | ">|" | "&>" | "&>>" => {
                self.redirected = true;
                self.command = false;
            }
            _ => {}
        }
        Ok(())
    }

    fn command_word(&mut self, word: &Word<'_>) -> Result<(), Trouble> {
        // Behind a function's name its body begins.
        self.command = std::mem::take(&mut self.function);
        match word.raw {
            "if" => self.push("fi"),
            "case" => {
                self.push("esac");
                return Ok(());
            }
            "for" | "select" => {
                self.push("done");
                return Ok(());
            }
            "while" | "until" => self.push("done"),
            "{" => self.push("}"),
            "fi" | "done" | "esac" | "}" => return self.close(word.raw),
            "then" | "else" | "elif" | "do" | "!" => {}
            "function" => {
                self.function = true;
                self.seen = true;
            }
            _ => return Ok(()),
        }
        self.command = true;
        Ok(())
    }
}
