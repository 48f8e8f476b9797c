//! Topic patterns: which paths they match, what they capture, which is the more specific.

use std::cmp::Ordering;
use std::str::FromStr;

use bytes::Bytes;

use super::path::{Shape, TopicError, TopicPath, check, check_literal, shown, text_of};

/// A name for many topics: a path that may have wildcards in place of whole segments.
///
/// - `*` is any one segment,
/// - `{name}` is any one segment, captured; names are letters, digits and `_`, each used once,
/// - `>` is one segment or more, and only the last segment.
///
/// The network is compared exactly. A pattern without a network matches paths without a network, and
/// no others. The bounds are those of a [`TopicPath`]. Cloning shares the text.
///
/// ```
/// use dunlin_core::topic::{Pattern, TopicPath};
///
/// let pattern = Pattern::parse("orders/{id}/>")?;
/// let path = TopicPath::parse("orders/17/item/3")?;
/// assert!(pattern.matches(&path));
/// assert_eq!(pattern.captures(&path).unwrap().get("id"), Some("17"));
/// # Ok::<(), dunlin_core::topic::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: Bytes,
    shape: Shape,
    literal: bool,
}

/// One segment of a [`Pattern`]. The variants are in the order of precedence, the most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment<'a> {
    /// Exactly this segment.
    Literal(&'a str),
    /// Any one segment, captured under this name.
    Capture(&'a str),
    /// Any one segment: `*`.
    Any,
    /// One segment or more: `>`.
    Rest,
}

impl<'a> Segment<'a> {
    fn read(segment: &'a str) -> Self {
        match segment {
            "*" => Segment::Any,
            ">" => Segment::Rest,
            _ => match segment.strip_prefix('{') {
                Some(name) => Segment::Capture(name.strip_suffix('}').unwrap_or(name)),
                None => Segment::Literal(segment),
            },
        }
    }

    fn precedence(self) -> u8 {
        match self {
            Segment::Literal(_) => 0,
            Segment::Capture(_) => 1,
            Segment::Any => 2,
            Segment::Rest => 3,
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If it breaks one of the rules above.
    pub fn parse(text: &str) -> Result<Pattern, TopicError> {
        let (shape, literal) = check_pattern(text.as_bytes())?;
        Ok(Pattern { text: Bytes::copy_from_slice(text.as_bytes()), shape, literal })
    }

    /// Reads a pattern that arrived, without copying it: the pattern keeps the buffer behind `bytes`
    /// alive.
    ///
    /// # Errors
    ///
    /// As [`Pattern::parse`]. Any bytes are safe to try.
    pub fn from_bytes(bytes: Bytes) -> Result<Pattern, TopicError> {
        let (shape, literal) = check_pattern(&bytes)?;
        Ok(Pattern { text: bytes, shape, literal })
    }

    /// The pattern `below` under the path `prefix`: `orders` and `{id}/cancel` make
    /// `orders/{id}/cancel`.
    ///
    /// # Errors
    ///
    /// If `below` is no pattern or names a network, or if both together exceed a bound.
    pub fn join(prefix: &TopicPath, below: impl AsRef<str>) -> Result<Pattern, TopicError> {
        let below = below.as_ref();
        // Checked alone first, so that an error is about what the caller wrote.
        if Pattern::parse(below)?.network().is_some() {
            return Err(TopicError::NetworkBelow {
                prefix: shown(prefix.as_bytes()),
                topic: shown(below.as_bytes()),
            });
        }
        Pattern::from_bytes(format!("{prefix}/{below}").into())
    }

    /// The whole pattern, its network included.
    pub fn as_str(&self) -> &str {
        text_of(&self.text)
    }

    /// The whole pattern as it travels.
    pub fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// The network in front of the colon. None is the default network.
    pub fn network(&self) -> Option<&str> {
        self.shape.network(&self.text).map(text_of)
    }

    /// The same pattern in the default network. Shares the text.
    pub fn without_network(&self) -> Pattern {
        let network_bytes = self.text.len() - self.shape.path(&self.text).len();
        let text = self.text.slice(network_bytes..);
        Pattern { text, shape: self.shape.without_network(), literal: self.literal }
    }

    /// The segments from left to right.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        text_of(self.shape.path(&self.text)).split('/').map(Segment::read)
    }

    /// How many segments the pattern itself has; `>` counts as one.
    pub fn depth(&self) -> usize {
        usize::from(self.shape.depth)
    }

    /// Whether it has no wildcards, and so matches the path of the same text alone.
    pub fn is_literal(&self) -> bool {
        self.literal
    }

    /// Whether it matches `path`.
    pub fn matches(&self, path: &TopicPath) -> bool {
        if self.literal {
            return self.text == *path.as_bytes();
        }
        let (text, shape) = (path.as_bytes(), path.shape());
        if self.shape.network(&self.text) != shape.network(text) {
            return false;
        }
        // Bytes, and one pass over each: every call asks this of what its caller may do.
        let (mut expected, mut found) = (self.shape.path(&self.text), shape.path(text));
        loop {
            let (segment, expected_rest) = first_segment(expected);
            let found_rest = match segment {
                b">" => return true,
                b"*" | [b'{', ..] => first_segment(found).1,
                literal => match found.strip_prefix(literal) {
                    Some([]) => None,
                    Some([b'/', rest @ ..]) => Some(rest),
                    _ => return false,
                },
            };
            match (expected_rest, found_rest) {
                (Some(expected_rest), Some(found_rest)) => {
                    (expected, found) = (expected_rest, found_rest);
                }
                (rest, other) => return rest.is_none() && other.is_none(),
            }
        }
    }

    /// What it captures of `path`, if it matches.
    pub fn captures<'p>(&self, path: &'p TopicPath) -> Option<Captures<'p>> {
        self.matches(path).then(|| Captures { pattern: self.clone(), path })
    }

    /// `Less` if this pattern takes precedence over `other`: literal before `{name}` before `*` before
    /// `>`, leftmost segment first. Neither the network nor what is literal or the names matter.
    ///
    /// Two patterns that match one path are equal here only if they differ in nothing but the names.
    /// Where one ends and the other goes on, which no path can match both of, the longer takes
    /// precedence, so that sorting by this is possible.
    pub fn specificity_cmp(&self, other: &Pattern) -> Ordering {
        let mut others = other.segments();
        for segment in self.segments() {
            let Some(other) = others.next() else { return Ordering::Less };
            match segment.precedence().cmp(&other.precedence()) {
                Ordering::Equal => {}
                decided => return decided,
            }
        }
        match others.next() {
            None => Ordering::Equal,
            Some(_) => Ordering::Greater,
        }
    }
}

/// The first segment of a path or pattern, and what follows if there are more.
fn first_segment(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'/') {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    }
}

fn check_pattern(topic: &[u8]) -> Result<(Shape, bool), TopicError> {
    let mut literal = true;
    let mut ended = false;
    let shape = check(topic, |topic, segment| {
        if ended {
            return Err(TopicError::RestNotLast { topic: shown(topic) });
        }
        match segment {
            b"*" => literal = false,
            b">" => (literal, ended) = (false, true),
            [b'{', name @ .., b'}'] => {
                literal = false;
                let legal = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                if name.is_empty() || !name.iter().all(legal) {
                    return Err(TopicError::CaptureName { topic: shown(topic), name: shown(name) });
                }
            }
            _ => return check_literal(topic, segment),
        }
        Ok(())
    })?;
    // After the depth was checked: this is quadratic in the segments.
    if !literal {
        let segments = || shape.path(topic).split(|byte| *byte == b'/');
        for (position, segment) in segments().enumerate() {
            if segment[0] == b'{' && segments().take(position).any(|earlier| earlier == segment) {
                let name = shown(&segment[1..segment.len() - 1]);
                return Err(TopicError::CaptureTwice { topic: shown(topic), name });
            }
        }
    }
    Ok((shape, literal))
}

impl From<TopicPath> for Pattern {
    fn from(path: TopicPath) -> Pattern {
        Pattern { shape: path.shape(), text: path.as_bytes().clone(), literal: true }
    }
}

impl FromStr for Pattern {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Pattern::parse(text)
    }
}

impl AsRef<str> for Pattern {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a pattern captured of a path.
#[derive(Clone)]
pub struct Captures<'p> {
    // Kept for its names; the values live as long as the path.
    pattern: Pattern,
    path: &'p TopicPath,
}

impl<'p> Captures<'p> {
    /// Names and values from left to right.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'p str)> {
        self.pattern.segments().zip(self.path.segments()).filter_map(|(segment, value)| {
            match segment {
                Segment::Capture(name) => Some((name, value)),
                _ => None,
            }
        })
    }

    /// The value captured under `name`.
    pub fn get(&self, name: &str) -> Option<&'p str> {
        self.iter().find(|(captured, _)| *captured == name).map(|(_, value)| value)
    }
}

impl std::fmt::Debug for Captures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn path(text: &str) -> TopicPath {
        TopicPath::parse(text).unwrap()
    }

    #[test]
    fn wildcards_stand_for_whole_segments() {
        for (wanted, given, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/*", "a/b", true),
            ("a/*", "a", false),
            ("a/*", "a/b/c", false),
            ("*/b", "a/b", true),
            ("a/{x}/c", "a/b/c", true),
            ("a/{x}/c", "a/b/d", false),
            ("a/>", "a/b", true),
            ("a/>", "a/b/c/d", true),
            ("a/>", "a", false),
            (">", "a", true),
            ("*/>", "a", false),
            ("*/>", "a/b/c", true),
        ] {
            assert_eq!(pattern(wanted).matches(&path(given)), expected, "{wanted} {given}");
        }
    }

    #[test]
    fn no_wildcard_reaches_across_networks() {
        for (wanted, given, expected) in [
            (">", "net:a", false),
            ("net:>", "a", false),
            ("net:>", "net:a/b", true),
            ("net:>", "nets:a/b", false),
            ("a", "net:a", false),
            ("net:a", "net:a", true),
        ] {
            assert_eq!(pattern(wanted).matches(&path(given)), expected, "{wanted} {given}");
        }
        assert!(matches!(Pattern::parse("*:a"), Err(TopicError::NetworkCharacter { .. })));
    }

    #[test]
    fn captures_are_read_by_name_and_in_order() {
        let orders = path("net:orders/17/items/3");
        let captures = pattern("net:orders/{order}/*/{item}").captures(&orders).unwrap();
        assert_eq!(captures.iter().collect::<Vec<_>>(), [("order", "17"), ("item", "3")]);
        assert_eq!(captures.get("item"), Some("3"));
        assert_eq!(captures.get("items"), None);
        assert_eq!(format!("{captures:?}"), r#"{"order": "17", "item": "3"}"#);
        assert!(pattern("net:orders/{order}").captures(&orders).is_none());
        let captures = pattern("net:{all}/>").captures(&orders).unwrap();
        assert_eq!(captures.iter().collect::<Vec<_>>(), [("all", "orders")]);
    }

    #[test]
    fn an_error_says_what_is_wrong_with_which_text() {
        for (text, said) in [
            (">/a", "goes on after '>'"),
            ("a/>/>", "goes on after '>'"),
            ("a/{}", "as ''"),
            ("a/{b c}", "as 'b c'"),
            ("a/{b}/{b}", "two segments as 'b'"),
            ("a/{b", "segment '{b' of the topic 'a/{b' contains '{'"),
            ("a/b*", "contains '*'"),
            ("a/**", "contains '*'"),
            ("a//*", "segment 2 of the topic 'a//*' is empty"),
        ] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_pattern_is_put_below_a_path() {
        let orders = path("shop:orders");
        assert_eq!(Pattern::join(&orders, "{id}/>"), Ok(pattern("shop:orders/{id}/>")));
        assert_eq!(Pattern::join(&orders, pattern("list")), Ok(pattern("shop:orders/list")));
        assert!(Pattern::join(&orders, "list").unwrap().is_literal());
        assert!(matches!(Pattern::join(&orders, "net:list"), Err(TopicError::NetworkBelow { .. })));
        assert!(matches!(Pattern::join(&orders, ""), Err(TopicError::Empty)));
        let deep = path(&["a"; 32].join("/"));
        assert!(matches!(Pattern::join(&deep, "a"), Err(TopicError::TooDeep { .. })));
    }

    #[test]
    fn precedence_is_decided_by_the_leftmost_segment_that_differs() {
        let sorted = ["a/b/*", "a/b/>", "a/{x}/c", "a/*/c", "a/>", "{x}/b/c", "*/b/c", ">"];
        for (position, text) in sorted.iter().enumerate() {
            for later in &sorted[position + 1..] {
                let (first, second) = (pattern(text), pattern(later));
                assert_eq!(first.specificity_cmp(&second), Ordering::Less, "{text} {later}");
                assert_eq!(second.specificity_cmp(&first), Ordering::Greater, "{text} {later}");
            }
        }
        assert_eq!(pattern("a/{x}").specificity_cmp(&pattern("b/{y}")), Ordering::Equal);
    }

    #[test]
    fn a_path_is_a_literal_pattern() {
        let path = path("net:a/b");
        assert_eq!(Pattern::from(path.clone()), pattern("net:a/b"));
        assert!(Pattern::from(path).is_literal());
    }

    /// Segment by segment, as it is documented.
    fn matches_by_segments(pattern: &Pattern, path: &TopicPath) -> bool {
        let (mut wanted, mut found) = (pattern.segments(), path.segments());
        let fits = loop {
            match (wanted.next(), found.next()) {
                (None, None) => break true,
                (Some(Segment::Rest), Some(_)) => break true,
                (Some(Segment::Literal(literal)), Some(segment)) if literal == segment => {}
                (Some(Segment::Any | Segment::Capture(_)), Some(_)) => {}
                _ => break false,
            }
        };
        fits && pattern.network() == path.network()
    }

    proptest! {
        #[test]
        fn it_matches_segment_by_segment(
            wanted in "(n:)?(a|ab|\\*|\\{x\\})(/(a|ab|\\*)){0,3}(/>)?",
            given in "(n:|m:)?(a|ab|b)(/(a|ab|abc)){0,4}",
        ) {
            let (pattern, path) = (pattern(&wanted), path(&given));
            prop_assert_eq!(pattern.matches(&path), matches_by_segments(&pattern, &path));
            let same = Pattern::from(path.clone());
            prop_assert!(same.matches(&path));
        }

        #[test]
        fn a_pattern_reads_back_as_it_is_shown(
            text in "([a-z.]{1,5}:)?([a-z-]{1,5}|\\*)(/([A-Z0-9]{1,5}|\\*)){0,20}(/\\{a_1\\})?(/>)?",
        ) {
            let pattern = Pattern::parse(&text).unwrap();
            prop_assert_eq!(pattern.to_string(), &text[..]);
            prop_assert_eq!(text.parse(), Ok(pattern.clone()));
            prop_assert_eq!(pattern.segments().count(), pattern.depth());
            prop_assert_eq!(pattern.is_literal(), TopicPath::parse(&text).is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            match Pattern::from_bytes(bytes.clone().into()) {
                Ok(pattern) => prop_assert_eq!(pattern.as_bytes(), &bytes[..]),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn bytes_close_to_a_pattern_are_read_or_refused(bytes in "[a/:*>{}.\u{e9} ]{0,12}") {
            let pattern = Pattern::parse(&bytes);
            prop_assert_eq!(&pattern, &Pattern::from_bytes(bytes.clone().into()));
            // Every path is a pattern.
            if TopicPath::parse(&bytes).is_ok() {
                prop_assert!(pattern.unwrap().is_literal());
            }
        }
    }
}
