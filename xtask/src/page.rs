//! One tool's page of the manual.
//!
//! Title, name and options come from clap_mangen. The synopsis is written as in other pages about file systems, flags
//! together. Commands, which clap_mangen would put on pages of their own, follow in the same page; and the paragraphs of
//! the tool's closing help that begin with a heading (`Exit status: …`) become sections.

use crate::tools::Tool;
use anyhow::Result;
use clap::{Arg, Command};
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

/// The page in roff.
pub fn render(tool: &Tool) -> Result<Vec<u8>> {
    let mut command = (tool.command)();
    command.build();
    let release = format!("paxfs {}", env!("CARGO_PKG_VERSION"));
    // A date would differ from build to build; without any, what follows would take its place.
    let man =
        Man::new(command.clone()).section("8").date(" ").source(release).manual("System administration");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut opening = Roff::new();
    synopsis(&mut opening, tool, &command);
    description(&mut opening, &command);
    opening.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    commands(&mut rest, tool, &command);
    closing(&mut rest, &command);
    see_also(&mut rest, tool);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// `tool [-abc] [-d VALUE] DEVICE [COMMAND …]`.
fn synopsis(roff: &mut Roff, tool: &Tool, command: &Command) {
    let shown = |argument: &&Arg| !argument.is_hide_set();
    let (with_value, flags): (Vec<&Arg>, Vec<&Arg>) = command
        .get_arguments()
        .filter(shown)
        .filter(|argument| !argument.is_positional())
        .partition(|argument| argument.get_action().takes_values());
    let letters: String = flags.iter().filter_map(|flag| flag.get_short()).collect();
    let mut line = vec![bold(tool.name), roman(" ["), bold(format!("-{letters}")), roman("]")];
    for argument in with_value {
        let name = match (argument.get_short(), argument.get_long()) {
            (Some(short), _) => format!("-{short}"),
            (None, long) => format!("--{}", long.unwrap_or_default()),
        };
        line.extend([roman(" ["), bold(name), roman(" "), italic(value_names(argument)), roman("]")]);
    }
    for argument in command.get_positionals().filter(shown) {
        let (before, after) = if argument.is_required_set() { (" ", "") } else { (" [", "]") };
        line.extend([roman(before), italic(value_names(argument)), roman(after)]);
    }
    if command.has_subcommands() {
        line.extend([roman(" ["), italic("COMMAND"), roman(" …]")]);
    }
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(line);
}

/// The long description without its first paragraph, which is the short one.
fn description(roff: &mut Roff, command: &Command) {
    let short = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command.get_long_about().map(ToString::to_string);
    let text = long.as_deref().and_then(|long| long.strip_prefix(&short)).unwrap_or(&short);
    roff.control("SH", ["DESCRIPTION"]);
    prose(roff, text.trim_start());
}

/// What can follow the options, each with its own.
fn commands(roff: &mut Roff, tool: &Tool, command: &Command) {
    let mut shown = command.get_subcommands().filter(|command| !command.is_hide_set()).peekable();
    if shown.peek().is_none() {
        return;
    }
    roff.control("SH", ["COMMANDS"]);
    for command in shown {
        roff.control("SS", [command.get_name()]);
        roff.text([bold(format!("{} DEVICE {}", tool.name, command.get_name())), roman(usage(command))]);
        if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
            roff.control("PP", []);
            prose(roff, &about.to_string());
        }
        // Those of the tool itself were listed above.
        let own = |argument: &&Arg| {
            !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help"
        };
        for argument in command.get_arguments().filter(own) {
            entry(roff, argument);
        }
        if let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) {
            roff.control("PP", []);
            verbatim(roff, &after.to_string());
        }
    }
}

/// The arguments of a command, in short.
fn usage(command: &Command) -> String {
    let options =
        command.get_arguments().any(|a| !a.is_positional() && !a.is_global_set() && a.get_id() != "help");
    let mut text = String::from(if options { " [OPTIONS]" } else { "" });
    for argument in command.get_positionals() {
        let more =
            if argument.get_num_args().is_some_and(|count| count.max_values() > 1) { "…" } else { "" };
        let name = value_names(argument);
        text +=
            &if argument.is_required_set() { format!(" {name}{more}") } else { format!(" [{name}{more}]") };
    }
    text
}

/// One argument and what it means.
fn entry(roff: &mut Roff, argument: &Arg) {
    let mut head: Vec<Inline> = Vec::new();
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    if !names.is_empty() {
        head.push(bold(names.join(", ")));
    }
    if argument.is_positional() || argument.get_action().takes_values() {
        if !names.is_empty() {
            head.push(roman(" "));
        }
        head.push(italic(value_names(argument)));
    }
    roff.control("TP", []);
    roff.text(head);
    let help = argument.get_long_help().or_else(|| argument.get_help());
    roff.text([roman(help.map(ToString::to_string).unwrap_or_default())]);
}

fn value_names(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    if names.is_empty() {
        return argument.get_id().as_str().to_uppercase();
    }
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
}

/// The paragraphs of the closing help, each that begins with a heading as a section.
fn closing(roff: &mut Roff, command: &Command) {
    let Some(help) = command.get_after_long_help().or_else(|| command.get_after_help()) else { return };
    for paragraph in help.to_string().trim().split("\n\n") {
        match heading(paragraph) {
            Some((heading, text)) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                verbatim(roff, text);
            }
            None => {
                roff.control("PP", []);
                verbatim(roff, paragraph);
            }
        }
    }
}

/// `Exit status: …` is a heading and what follows it.
fn heading(paragraph: &str) -> Option<(&str, &str)> {
    let (heading, text) = paragraph.split_once(':')?;
    let words =
        heading.starts_with(char::is_uppercase) && heading.chars().all(|c| c.is_alphabetic() || c == ' ');
    let text = text.strip_prefix([' ', '\n']).unwrap_or(text);
    words.then_some((heading, text)).filter(|_| heading.len() <= 20)
}

/// Text to be filled into lines, in paragraphs.
fn prose(roff: &mut Roff, text: &str) {
    for line in text.lines() {
        match line.trim() {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
}

/// Text with indented lines as it is, other text filled.
fn verbatim(roff: &mut Roff, text: &str) {
    if !text.lines().any(|line| line.starts_with(' ')) {
        prose(roff, text);
        return;
    }
    let indent =
        text.lines().filter(|line| !line.is_empty()).map(|line| line.len() - line.trim_start().len()).min();
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.get(indent.unwrap_or(0)..).unwrap_or_default())]);
    }
    roff.control("fi", []);
}

fn see_also(roff: &mut Roff, tool: &Tool) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (i, page) in tool.see_also.iter().enumerate() {
        line.push(roman(if i == 0 { "" } else { ", " }));
        let (name, section) =
            page.split_once('.').filter(|(_, section)| *section == "5").unwrap_or((*page, "8"));
        line.push(bold(name));
        line.push(roman(format!("({section})")));
    }
    roff.text(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::TOOLS;

    #[test]
    fn every_tool_has_a_page_with_its_sections() {
        for tool in &TOOLS {
            let page = String::from_utf8(render(tool).unwrap()).unwrap();
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
                assert!(page.contains(&format!(".SH {section}\n")), "{}: {section}", tool.name);
            }
            assert!(page.starts_with(".ie"), "{}", tool.name);
        }
    }

    #[test]
    fn headings_are_words_before_a_colon() {
        assert_eq!(heading("Exit status: 0 done"), Some(("Exit status", "0 done")));
        assert_eq!(heading("Examples:\n  a\n  b"), Some(("Examples", "  a\n  b")));
        assert_eq!(heading("With -U: the same"), None);
        assert_eq!(heading("no heading: this"), None);
    }
}
