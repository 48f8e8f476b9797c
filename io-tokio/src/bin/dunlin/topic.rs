//! `dunlin topic`: what patterns match, without a node.

use clap::{Args, Subcommand};
use dunlin_core::topic::{Pattern, TopicPath};
use serde_json::{Value, json};

use crate::output::{Fail, Output};

/// Subcommands of `dunlin topic`.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Say which paths a pattern matches, and what it captures of them. Exit code 1 if none
    ///
    /// A pattern is a path in which * is any one segment, {name} too, under that name, and > at the end one
    /// segment or more. Of several patterns that match a path the most specific comes first, as it does for
    /// calls: literal before {name} before * before >, and the leftmost segment decides. The network in front
    /// is compared exactly.
    #[command(after_help = "Examples:\n  \
        dunlin topic match 'orders/*' orders/created stock/low\n  \
        dunlin topic match 'orders/{id}/*' orders/17/paid\n  \
        dunlin topic match 'orders/>' orders/17 --or 'orders/{id}' --or '*/17'\n\n\
        The shell knows * and >, so put patterns into quotes.")]
    Match(MatchArgs),
}

/// Options of `dunlin topic match`.
#[derive(Debug, Args)]
pub(crate) struct MatchArgs {
    /// One more pattern. May be given several times
    #[arg(long = "or", value_name = "PATTERN")]
    others: Vec<String>,
    /// The pattern
    pattern: String,
    /// The paths
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Runs `dunlin topic`.
pub(crate) fn run(command: TopicCommand, output: Output) -> Result<(), Fail> {
    let TopicCommand::Match(args) = command;
    let mut patterns = Vec::new();
    for text in std::iter::once(&args.pattern).chain(&args.others) {
        let pattern = Pattern::parse(text)
            .map_err(|error| Fail::usage(format!("the pattern '{text}': {error}")))?;
        patterns.push(pattern);
    }
    patterns.sort_by(Pattern::specificity_cmp);
    let mut paths = Vec::new();
    for text in &args.paths {
        let path = TopicPath::parse(text)
            .map_err(|error| Fail::usage(format!("the path '{text}': {error}")))?;
        paths.push(path);
    }
    let mut matched = false;
    for path in &paths {
        matched |= show(path, &patterns, output);
    }
    match matched {
        true => Ok(()),
        false => Err(Fail::new("NO_MATCH", "nothing matches")),
    }
}

/// Says what matches a path, most specific first, and whether something does.
fn show(path: &TopicPath, patterns: &[Pattern], output: Output) -> bool {
    let mut matched = false;
    for pattern in patterns {
        let Some(captures) = pattern.captures(path) else { continue };
        matched = true;
        let mut words = format!("{path}  {pattern}");
        for (name, value) in captures.iter() {
            words.push_str(&format!("  {name}={value}"));
        }
        output.say(words, || {
            let captured = captures.iter().map(|(name, value)| (name.to_string(), value.into()));
            let captured: serde_json::Map<String, Value> = captured.collect();
            json!({ "path": path.as_str(), "pattern": pattern.as_str(), "captures": captured })
        });
    }
    if !matched {
        let none = || json!({ "path": path.as_str(), "pattern": null });
        output.say(format!("{path}  no match"), none);
    }
    matched
}
