//! What another implementation of the same idea says about the same topics.
//!
//! The vectors are facts from the tests of `runar-rust` (MIT). They are not part of this repository;
//! where the file is missing, the facts restated here stand alone.

use super::{Pattern, PatternIndex, TopicError, TopicPath};
use serde_json::Value;

const FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/a_topicpath_runar.json");

/// Every kind of fact in the file, and where we differ from it.
#[test]
fn the_facts_that_we_share_hold() {
    for (pattern, path, expected) in [
        ("main:services/*/state", "main:services/auth/state", true),
        ("main:services/*/state", "main:services/auth/login", false),
        ("main:services/*/state", "main:services/auth/state/active", false),
        ("main:services/*/state", "other:services/auth/state", false),
        ("main:services/>", "main:services/auth", true),
        ("main:services/>", "main:services/math/add/numbers", true),
        ("main:services/>", "main:events/user/created", false),
        ("main:services/*/events/>", "main:services/auth/events/user/login", true),
        ("main:services/*/events/>", "main:services/auth/logs/error", false),
        ("main:*/state", "main:auth/state", true),
        ("main:services/{service}/state", "main:services/math/state", true),
        ("main:services/{service}/{action}", "main:services/math/state", true),
        ("main:services/{service}", "main:services/math/state", false),
        ("main:services/list", "main:services/list", true),
    ] {
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }
    for invalid in ["", "main:auth:login", ":auth/login"] {
        assert!(TopicPath::parse(invalid).is_err(), "{invalid:?}");
    }
}

#[test]
fn the_facts_in_the_file_hold() {
    let Some(file) = read() else {
        println!("skipped: there is no {FILE}");
        return;
    };
    let vectors = &file["vectors"];

    let mut differ = 0;
    for fact in list(&vectors["pattern_match"]) {
        let (pattern, path) = (in_network(&fact["pattern"]), in_network(&fact["path"]));
        let expected = fact["match"].as_bool().unwrap();
        // There a template matches by a function of its own; protocols.md knows one kind of pattern,
        // of which `{name}` is a segment like `*`.
        if pattern.contains('{') && !expected && matches(&pattern, &path) {
            differ += 1;
            continue;
        }
        assert_eq!(matches(&pattern, &path), expected, "{fact}");
    }
    assert_eq!(differ, 1, "main:services/{{service_path}} and main:services/math");

    for fact in list(&vectors["template_match"]) {
        // There a template has no network and matches in all; here a pattern is of one network.
        let path = in_network(&fact["path"]);
        let (network, _) = path.split_once(':').unwrap();
        let template = format!("{network}:{}", text(&fact["template"]));
        assert_eq!(matches(&template, &path), fact["match"].as_bool().unwrap(), "{fact}");
    }

    let (mut asked, mut searches) = (0, 0);
    for case in list(&vectors["trie"]) {
        for query in list(&case["queries"]) {
            let path = format!("{}:{}", text(&query["network"]), text(&query["path"]));
            let path = match TopicPath::parse(&path) {
                Ok(path) => path,
                // There a look-up may itself have wildcards, and lists what is registered below. A
                // path has none here; whether one pattern covers another is another question.
                Err(error) => {
                    assert!(matches!(error, TopicError::WildcardInPath { .. }), "{error}");
                    searches += 1;
                    continue;
                }
            };
            let mut index = PatternIndex::new();
            let so_far = query["registered_so_far"].as_u64().unwrap() as usize;
            for entry in &list(&case["registrations"])[..so_far] {
                let pattern = text(&entry["pattern"]);
                let pattern = format!("{}:{pattern}", text(&entry["network"]));
                let pattern = Pattern::parse(&pattern).unwrap_or_else(|error| {
                    // There a later capture replaces an earlier one of the same name; here that is
                    // refused, for somebody would read the wrong segment.
                    assert!(matches!(error, TopicError::CaptureTwice { .. }), "{error}");
                    Pattern::parse(&pattern.replacen("{param}", "{first}", 1)).unwrap()
                });
                index.insert(&pattern, text(&entry["value"]));
            }
            let mut found = Vec::new();
            index.for_each_match(&path, |_, value| found.push(*value));
            found.sort_unstable();
            if let Value::Array(equals) = &query["equals"] {
                let mut equals: Vec<_> = equals.iter().map(text).collect();
                equals.sort_unstable();
                assert_eq!(found, equals, "{query}");
            }
            for value in query["contains"].as_array().into_iter().flatten() {
                assert!(found.contains(&text(value)), "{query}: {found:?}");
            }
            asked += 1;
        }
    }
    let counted = file["counts"]["trie_queries"].as_u64().unwrap();
    assert_eq!(asked + searches, counted);
    assert!(asked > 3 * searches, "{searches} of {counted} queries left out");

    for fact in list(&vectors["parse_valid"]) {
        let valid = TopicPath::parse(text(&fact["input"])).is_ok();
        assert_eq!(valid, fact["valid"].as_bool().unwrap(), "{fact}");
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(&TopicPath::parse(path).unwrap())
}

/// A text that has a network, or else the default network that goes with it.
fn in_network(pair: &Value) -> String {
    let (topic, network) = (text(&pair[0]), text(&pair[1]));
    match topic.contains(':') {
        true => topic.to_string(),
        false => format!("{network}:{topic}"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[expect(clippy::disallowed_methods, reason = "a test reads its vectors")]
fn read() -> Option<Value> {
    let text = std::fs::read_to_string(FILE).ok()?;
    Some(serde_json::from_str(&text).expect("the vectors are JSON"))
}
