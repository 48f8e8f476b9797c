//! Topic paths, and what may be wrong with them.

use std::str::FromStr;

use bytes::Bytes;

/// The most segments of a path or a pattern (protocols, section 3).
pub const SEGMENTS_MAX: usize = 32;

/// The longest path or pattern in bytes, its network included (protocols, section 3).
pub const TOPIC_BYTES_MAX: usize = 512;

/// A topic's name: `[network:]segment/segment…`, for example `shop:orders/created`.
///
/// Segments and network are of letters, digits, `-`, `_` and `.`, and never empty. There are at most
/// [`SEGMENTS_MAX`] segments, and [`TOPIC_BYTES_MAX`] bytes in all. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPath {
    text: Bytes,
    shape: Shape,
}

impl TopicPath {
    /// Reads a path.
    ///
    /// # Errors
    ///
    /// If it breaks one of the rules above.
    pub fn parse(text: &str) -> Result<TopicPath, TopicError> {
        let shape = check(text.as_bytes(), literal_segment)?;
        Ok(TopicPath { text: Bytes::copy_from_slice(text.as_bytes()), shape })
    }

    /// Reads a path that arrived, without copying it: the path keeps the buffer behind `bytes` alive.
    ///
    /// # Errors
    ///
    /// As [`TopicPath::parse`]. Any bytes are safe to try.
    pub fn from_bytes(bytes: Bytes) -> Result<TopicPath, TopicError> {
        let shape = check(&bytes, literal_segment)?;
        Ok(TopicPath { text: bytes, shape })
    }

    /// The whole path, its network included.
    pub fn as_str(&self) -> &str {
        text_of(&self.text)
    }

    /// The whole path as it travels.
    pub fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// As [`TopicPath::as_bytes`], for who has no more use for the path.
    pub fn into_bytes(self) -> Bytes {
        self.text
    }

    /// The network in front of the colon. None is the default network.
    pub fn network(&self) -> Option<&str> {
        self.shape.network(&self.text).map(text_of)
    }

    /// The path without its network.
    pub fn path(&self) -> &str {
        text_of(self.shape.path(&self.text))
    }

    /// The segments from left to right.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/')
    }

    /// How many segments there are: from 1 to [`SEGMENTS_MAX`].
    pub fn depth(&self) -> usize {
        usize::from(self.shape.depth)
    }

    /// The same path in the default network. Shares the text.
    pub fn without_network(&self) -> TopicPath {
        let network_bytes = self.text.len() - self.path().len();
        TopicPath { text: self.text.slice(network_bytes..), shape: self.shape.without_network() }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }
}

/// A path is one already.
impl From<std::convert::Infallible> for TopicError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl TryFrom<&str> for TopicPath {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        TopicPath::parse(text)
    }
}

impl TryFrom<&String> for TopicPath {
    type Error = TopicError;

    fn try_from(text: &String) -> Result<Self, TopicError> {
        TopicPath::parse(text)
    }
}

impl FromStr for TopicPath {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        TopicPath::parse(text)
    }
}

impl AsRef<str> for TopicPath {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::fmt::Display for TopicPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for TopicPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a topic path or not a topic pattern. Texts are shown shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is no text.
    #[error("the topic is empty: it needs at least one segment, as in 'orders/created'")]
    Empty,
    /// There are too many bytes.
    #[error("the topic '{topic}' has {bytes} bytes: at most {TOPIC_BYTES_MAX} are allowed")]
    TooLong {
        /// The topic's beginning.
        topic: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// There are too many segments.
    #[error("the topic '{topic}' has {segments} segments: at most {SEGMENTS_MAX} are allowed")]
    TooDeep {
        /// The topic's beginning.
        topic: String,
        /// How many segments it has.
        segments: usize,
    },
    /// A segment is empty.
    #[error(
        "segment {position} of the topic '{topic}' is empty: a topic neither starts nor ends with '/', and has no '//'"
    )]
    EmptySegment {
        /// The topic.
        topic: String,
        /// Which segment it is, counted from 1.
        position: usize,
    },
    /// There is a colon, but no network in front of it.
    #[error(
        "the topic '{topic}' starts with ':': name the network in front of it, or leave the colon out for the default network"
    )]
    EmptyNetwork {
        /// The topic.
        topic: String,
    },
    /// The network has a character that is not allowed.
    #[error(
        "the network of the topic '{topic}' contains {character:?}: a network is letters, digits, '-', '_' and '.'"
    )]
    NetworkCharacter {
        /// The topic.
        topic: String,
        /// What is not allowed.
        character: char,
    },
    /// A segment has a character that is not allowed.
    #[error(
        "segment '{segment}' of the topic '{topic}' contains {character:?}: a segment is letters, digits, '-', '_' and '.', or in a pattern '*', '{{name}}' or, at the end, '>'"
    )]
    SegmentCharacter {
        /// The topic.
        topic: String,
        /// The segment.
        segment: String,
        /// What is not allowed.
        character: char,
    },
    /// A path has a segment that only patterns have.
    #[error(
        "the topic '{topic}' has the wildcard '{segment}': a path names one topic; where many are meant, a pattern is needed"
    )]
    WildcardInPath {
        /// The topic.
        topic: String,
        /// The wildcard.
        segment: String,
    },
    /// `>` is not the last segment of a pattern.
    #[error(
        "the pattern '{topic}' goes on after '>': '>' stands for all that follows; use '*' for one segment"
    )]
    RestNotLast {
        /// The pattern.
        topic: String,
    },
    /// What is in the braces of a pattern's segment is not a name.
    #[error(
        "the pattern '{topic}' captures a segment as '{name}': a name is one or more letters, digits and '_'"
    )]
    CaptureName {
        /// The pattern.
        topic: String,
        /// What stands in the braces.
        name: String,
    },
    /// Two segments of a pattern are captured under one name.
    #[error(
        "the pattern '{topic}' captures two segments as '{name}': each name may be used once; use '*' for a segment that nobody reads"
    )]
    CaptureTwice {
        /// The pattern.
        topic: String,
        /// The name.
        name: String,
    },
    /// A pattern to be put below a path names a network of its own.
    #[error(
        "the pattern '{topic}' names a network: below '{prefix}' the network is that of the path"
    )]
    NetworkBelow {
        /// The path.
        prefix: String,
        /// The pattern.
        topic: String,
    },
}

/// Where the parts of a legal text are. It follows from the text, so comparing it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape {
    /// Bytes of the network; zero if there is none, for no network is empty.
    network_bytes: u16,
    /// Segments.
    pub(super) depth: u8,
}

impl Shape {
    pub(super) fn network<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        (self.network_bytes > 0).then(|| &text[..usize::from(self.network_bytes)])
    }

    pub(super) fn without_network(self) -> Shape {
        Shape { network_bytes: 0, ..self }
    }

    pub(super) fn path<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        match self.network_bytes {
            0 => text,
            bytes => &text[usize::from(bytes) + 1..],
        }
    }
}

/// Checks all that paths and patterns have in common, and each segment with `check_segment`, which is
/// given the whole topic and the segment.
pub(super) fn check(
    topic: &[u8],
    mut check_segment: impl FnMut(&[u8], &[u8]) -> Result<(), TopicError>,
) -> Result<Shape, TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    // First, so that no other check has to look at more than that.
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { topic: shown(topic), bytes: topic.len() });
    }
    let network_bytes = match topic.iter().position(|byte| *byte == b':') {
        None => 0,
        Some(0) => return Err(TopicError::EmptyNetwork { topic: shown(topic) }),
        Some(bytes) => {
            if let Some(character) = foreign_character(&topic[..bytes]) {
                return Err(TopicError::NetworkCharacter { topic: shown(topic), character });
            }
            bytes
        }
    };
    let shape = Shape { network_bytes: network_bytes as u16, depth: 0 };
    let mut segments = 0;
    for segment in shape.path(topic).split(|byte| *byte == b'/') {
        segments += 1;
        if segment.is_empty() {
            return Err(TopicError::EmptySegment { topic: shown(topic), position: segments });
        }
        check_segment(topic, segment)?;
    }
    if segments > SEGMENTS_MAX {
        return Err(TopicError::TooDeep { topic: shown(topic), segments });
    }
    Ok(Shape { depth: segments as u8, ..shape })
}

fn literal_segment(topic: &[u8], segment: &[u8]) -> Result<(), TopicError> {
    match segment {
        b"*" | b">" | [b'{', .., b'}'] => {
            Err(TopicError::WildcardInPath { topic: shown(topic), segment: shown(segment) })
        }
        _ => check_literal(topic, segment),
    }
}

/// Whether a segment is legal in a path.
pub(super) fn check_literal(topic: &[u8], segment: &[u8]) -> Result<(), TopicError> {
    match foreign_character(segment) {
        None => Ok(()),
        Some(character) => Err(TopicError::SegmentCharacter {
            topic: shown(topic),
            segment: shown(segment),
            character,
        }),
    }
}

/// The first character that neither networks nor segments may have.
fn foreign_character(text: &[u8]) -> Option<char> {
    let at = text.iter().position(
        |byte| !matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'),
    )?;
    // What is no UTF-8 shows as the replacement character.
    let character = &text[at..text.len().min(at + 4)];
    String::from_utf8_lossy(character).chars().next()
}

/// A text of unknown origin, fit to be shown: escaped and shortened.
pub(super) fn shown(text: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 80;
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(CHARACTERS_MAX).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}

/// The text of a checked topic or of a part of it.
pub(super) fn text_of(checked: &[u8]) -> &str {
    std::str::from_utf8(checked).expect("a checked topic is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_gives_its_parts() {
        let path = TopicPath::parse("shop:orders/eu-1/v1.2_b").unwrap();
        assert_eq!(path.network(), Some("shop"));
        assert_eq!(path.path(), "orders/eu-1/v1.2_b");
        assert_eq!(path.segments().collect::<Vec<_>>(), ["orders", "eu-1", "v1.2_b"]);
        assert_eq!(path.depth(), 3);
        let path = TopicPath::parse("orders").unwrap();
        assert_eq!((path.network(), path.path(), path.depth()), (None, "orders", 1));
    }

    #[test]
    fn what_arrived_is_not_copied() {
        let arrived = Bytes::from_static(b"..orders/created..");
        let path = TopicPath::from_bytes(arrived.slice(2..16)).unwrap();
        assert_eq!(path.as_str(), "orders/created");
        assert_eq!(path.as_bytes().as_ptr(), arrived[2..].as_ptr());
    }

    #[test]
    fn the_bounds_are_the_last_that_is_allowed() {
        let deep = vec!["a"; SEGMENTS_MAX].join("/");
        assert_eq!(TopicPath::parse(&deep).unwrap().depth(), SEGMENTS_MAX);
        assert!(matches!(
            TopicPath::parse(&format!("{deep}/a")),
            Err(TopicError::TooDeep { segments: 33, .. })
        ));
        let long = "a".repeat(TOPIC_BYTES_MAX);
        assert!(TopicPath::parse(&long).is_ok());
        assert!(matches!(
            TopicPath::parse(&format!("{long}a")),
            Err(TopicError::TooLong { bytes: 513, .. })
        ));
    }

    #[test]
    fn an_error_says_what_is_wrong_with_which_text() {
        for (text, said) in [
            ("", "is empty"),
            ("/a", "segment 1 of the topic '/a' is empty"),
            ("a/", "segment 2 of the topic 'a/' is empty"),
            ("a//b", "segment 2"),
            ("net:", "segment 1"),
            (":a", "starts with ':'"),
            ("a/b:c", "the network of the topic 'a/b:c' contains '/'"),
            ("a:b:c", "segment 'b:c' of the topic 'a:b:c' contains ':'"),
            ("a/b c", "contains ' '"),
            ("a/é", "contains 'é'"),
            ("a/\n", "contains '\\n'"),
            ("a/*", "the wildcard '*'"),
            ("a/{id}", "the wildcard '{id}'"),
            ("a/>", "the wildcard '>'"),
            ("a/b*", "contains '*'"),
        ] {
            let error = TopicPath::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = TopicPath::parse(&"ü".repeat(500)).unwrap_err().to_string();
        assert!(error.len() < 400, "{error}");
    }

    proptest! {
        #[test]
        fn a_path_reads_back_as_it_is_shown(text in "([a-zA-Z0-9_.-]{1,9}:)?[a-zA-Z0-9_.-]{1,9}(/[a-zA-Z0-9_.-]{1,9}){0,31}") {
            let path = TopicPath::parse(&text).unwrap();
            prop_assert_eq!(path.to_string(), &text[..]);
            prop_assert_eq!(path.to_string().parse(), Ok(path.clone()));
            prop_assert_eq!(path.segments().count(), path.depth());
            let joined = path.segments().collect::<Vec<_>>().join("/");
            let whole = match path.network() {
                Some(network) => format!("{network}:{joined}"),
                None => joined,
            };
            prop_assert_eq!(whole, text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            match TopicPath::from_bytes(bytes.clone().into()) {
                Ok(path) => prop_assert_eq!(path.as_bytes(), &bytes[..]),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn bytes_close_to_a_path_are_read_or_refused(bytes in "[a/:*>{}.\u{e9} ]{0,12}") {
            let path = TopicPath::parse(&bytes);
            prop_assert_eq!(&path, &TopicPath::from_bytes(bytes.clone().into()));
            if let Ok(path) = path {
                prop_assert!(path.segments().all(|s| !s.is_empty()));
                prop_assert_eq!(path.as_str(), bytes);
            }
        }
    }
}
