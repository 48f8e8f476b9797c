//! Topics: parsing, and the index of patterns against trying every pattern.

use bytes::Bytes;
use dunlin_core::topic::{
    Pattern, PatternIndex, SEGMENTS_MAX, SubscriptionKey, TOPIC_BYTES_MAX, TopicPath,
};

use crate::tape::Tape;

/// Puts a pattern into the index: its text.
pub const INSERT: u8 = 0;
/// Takes a pattern out: which.
pub const REMOVE: u8 = 1;
/// Asks who matches a path: its text.
pub const MATCH: u8 = 2;
/// Puts a pattern below a path: both texts.
pub const JOIN: u8 = 3;
const OPS: usize = 4;

/// The first byte is the seed of the index; then steps follow.
pub fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let mut index = PatternIndex::with_hash_seed(u64::from(tape.byte()));
    // In the order of insertion.
    let mut model: Vec<(Pattern, SubscriptionKey, usize)> = Vec::new();
    for number in 0.. {
        if tape.is_empty() {
            break;
        }
        match tape.pick(OPS) as u8 {
            INSERT => {
                if let Some(pattern) = pattern(tape.bytes()) {
                    let key = index.insert(&pattern, number);
                    model.push((pattern, key, number));
                }
            }
            REMOVE => {
                let pick = usize::from(tape.byte());
                if !model.is_empty() {
                    let (_, key, value) = model.remove(pick % model.len());
                    assert_eq!(index.remove(key), Some(value));
                    assert_eq!(index.get(key), None);
                    assert_eq!(index.remove(key), None);
                }
            }
            MATCH => {
                if let Some(path) = path(tape.bytes()) {
                    compare(&index, &model, &path);
                }
            }
            JOIN => {
                let prefix = path(tape.bytes());
                let below = tape.bytes();
                if let (Some(prefix), Ok(below)) = (prefix, std::str::from_utf8(below))
                    && let Ok(joined) = Pattern::join(&prefix, below)
                {
                    assert_eq!(joined.as_str(), format!("{prefix}/{below}"));
                    assert_eq!(joined.network(), prefix.network());
                }
            }
            _ => unreachable!("a pick is below its bound"),
        }
        assert_eq!(index.len(), model.len());
    }
    for (_, key, value) in model {
        assert_eq!(index.remove(key), Some(value));
    }
    assert!(index.is_empty());
}

fn path(bytes: &[u8]) -> Option<TopicPath> {
    let path = TopicPath::from_bytes(Bytes::copy_from_slice(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(TopicPath::parse(text), path);
    }
    match path {
        Ok(path) => {
            assert_eq!(path.as_bytes(), bytes);
            assert!(bytes.len() <= TOPIC_BYTES_MAX && path.depth() <= SEGMENTS_MAX);
            assert_eq!(path.segments().count(), path.depth());
            let pattern = Pattern::from(path.clone());
            assert!(pattern.is_literal() && pattern.matches(&path));
            assert_eq!(Pattern::parse(path.as_str()), Ok(pattern));
            Some(path)
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?} is one line");
            None
        }
    }
}

fn pattern(bytes: &[u8]) -> Option<Pattern> {
    let pattern = Pattern::from_bytes(Bytes::copy_from_slice(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(Pattern::parse(text), pattern);
    }
    let pattern = pattern.inspect_err(|error| assert!(!error.to_string().contains('\n'))).ok()?;
    assert_eq!(pattern.as_bytes(), bytes);
    assert!(bytes.len() <= TOPIC_BYTES_MAX && pattern.depth() <= SEGMENTS_MAX);
    assert_eq!(pattern.segments().count(), pattern.depth());
    assert_eq!(pattern.is_literal(), TopicPath::parse(pattern.as_str()).is_ok());
    assert!(pattern.specificity_cmp(&pattern).is_eq());
    Some(pattern)
}

fn compare(
    index: &PatternIndex<usize>,
    model: &[(Pattern, SubscriptionKey, usize)],
    path: &TopicPath,
) {
    let mut expected: Vec<_> = model.iter().filter(|(p, ..)| p.matches(path)).collect();
    // Stable: what is equal stays in the order of insertion.
    expected.sort_by(|a, b| a.0.specificity_cmp(&b.0));
    let all: Vec<_> = expected.iter().map(|(_, key, value)| (*key, *value)).collect();
    let mut found = Vec::new();
    index.for_each_match(path, |key, value| found.push((key, *value)));
    assert_eq!(found, all);
    let best = index.best_match(path).map(|(key, value)| (key, *value));
    assert_eq!(best, all.first().copied());
    let mut found = Vec::new();
    index.best_matches(path, |value| found.push(*value));
    let best: Vec<_> = expected
        .iter()
        .take_while(|e| e.0.specificity_cmp(&expected[0].0).is_eq())
        .map(|e| e.2)
        .collect();
    assert_eq!(found, best);
    for (pattern, ..) in expected {
        let captures = pattern.captures(path).expect("it matches");
        for segment in pattern.segments() {
            if let dunlin_core::topic::Segment::Capture(name) = segment {
                assert!(path.segments().any(|s| Some(s) == captures.get(name)));
            }
        }
    }
}
