//! Completion at the prompt: commands, the words they take, and paths of fields and files.

use crate::cli::Line;
use crate::session::Session;
use clap::CommandFactory;
use paxfs_format::names::printable;
use paxfs_format::path::{ROOTS, resolve};
use rustyline::completion::{Completer as Complete, Pair};
use rustyline::{Context, Helper, Highlighter, Hinter, Validator};
use std::cell::RefCell;

/// Most names of a directory that are offered.
const NAMES_MAX: usize = 200;

/// Completes lines for a session.
#[derive(Helper, Highlighter, Hinter, Validator)]
pub(super) struct Completer<'c, 's> {
    session: &'c RefCell<&'s mut Session>,
}

impl<'c, 's> Completer<'c, 's> {
    pub(super) fn new(session: &'c RefCell<&'s mut Session>) -> Self {
        Completer { session }
    }

    /// All words that could stand where `word` does, behind `before`, of which the first is the command.
    fn candidates(&self, before: &[&str], word: &str) -> Vec<String> {
        let line = Line::command();
        let Some(first) = before.first() else {
            return line.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        };
        let mut words: Vec<String> = match *first {
            "show" | "set" | "fuzz" if before.len() == 1 => self.fields(word),
            _ if word.starts_with('/') => self.files(word),
            _ => Vec::new(),
        };
        if let Some(command) = line.find_subcommand(first) {
            for argument in command.get_arguments() {
                words.extend(argument.get_possible_values().iter().map(|value| value.get_name().to_owned()));
                if word.starts_with('-') {
                    words.extend(argument.get_long().map(|long| format!("--{long}")));
                }
            }
        }
        words
    }

    /// Paths of fields that begin with the path before the last dot of `word`.
    fn fields(&self, word: &str) -> Vec<String> {
        let Some((before, _)) = word.rsplit_once('.') else {
            return ROOTS.iter().map(|root| (*root).to_owned()).collect();
        };
        // No field has an empty name: the error says what there is.
        let wrong = resolve(&self.session.borrow().volume(), &format!("{before}._"));
        let names = wrong.err().map(|error| error.expected().to_vec()).unwrap_or_default();
        names.into_iter().map(|name| format!("{before}.{name}")).collect()
    }

    /// Paths of files in the directory of `word`.
    fn files(&self, word: &str) -> Vec<String> {
        let session = self.session.borrow();
        let volume = session.volume();
        let Some((directory, _)) = word.rsplit_once('/') else { return Vec::new() };
        let number = volume.resolve(directory.as_bytes());
        let Some(inode) = number.ok().and_then(|number| volume.inode(number).ok()) else { return Vec::new() };
        let entries = volume.directory(inode).filter_map(Result::ok);
        let names = entries.map(|entry| format!("{directory}/{}", printable(entry.name)));
        names.filter(|path| path.starts_with(word)).take(NAMES_MAX).collect()
    }
}

impl Complete for Completer<'_, '_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or(line);
        let start = typed.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let word = typed.get(start..).unwrap_or_default();
        let before: Vec<_> = typed.get(..start).unwrap_or_default().split_whitespace().collect();
        let mut words = self.candidates(&before, word);
        words.retain(|candidate| candidate.starts_with(word));
        words.sort_unstable();
        words.dedup();
        let pairs = words.into_iter().map(|word| Pair { display: word.clone(), replacement: word });
        Ok((start, pairs.collect()))
    }
}
