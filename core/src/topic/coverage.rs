//! Whether one pattern matches everything that another matches.

use super::path::{SEGMENTS_MAX, TOPIC_BYTES_MAX};
use super::pattern::{Pattern, Segment};

impl Pattern {
    /// Whether every path that `narrower` matches is matched by this pattern too.
    ///
    /// Decided exactly, for the paths that there can be: those within [`SEGMENTS_MAX`] and
    /// [`TOPIC_BYTES_MAX`]. The network is compared exactly, and names of captures do not matter. Where
    /// several patterns together match all that `narrower` does, but none alone, each says no.
    ///
    /// ```
    /// use dunlin_core::topic::Pattern;
    ///
    /// let pattern = |text| Pattern::parse(text).unwrap();
    /// assert!(pattern("orders/>").covers(&pattern("orders/{id}/paid")));
    /// assert!(!pattern("orders/*").covers(&pattern("orders/>")));
    /// ```
    pub fn covers(&self, narrower: &Pattern) -> bool {
        if self.network() != narrower.network() {
            return false;
        }
        let only_one_rest = narrower.has_room_for_one_more_at_most();
        let mut others = narrower.segments();
        for segment in self.segments() {
            let Some(other) = others.next() else {
                // Its paths may end where ours go on.
                return false;
            };
            match (segment, other) {
                // One segment or more, and it has at least one here.
                (Segment::Rest, _) => return true,
                (Segment::Literal(wide), Segment::Literal(narrow)) => {
                    if wide != narrow {
                        return false;
                    }
                }
                // A wildcard stands for more than one text wherever it stands.
                (Segment::Literal(_), _) => return false,
                (Segment::Any | Segment::Capture(_), Segment::Rest) if !only_one_rest => {
                    return false;
                }
                (Segment::Any | Segment::Capture(_), _) => {}
            }
        }
        others.next().is_none()
    }

    /// Whether a `>` at the end can only stand for one segment, because a path with two would exceed
    /// a bound.
    fn has_room_for_one_more_at_most(&self) -> bool {
        let network = self.network().map_or(0, |network| network.len() + 1);
        let shortest = |segment| match segment {
            Segment::Literal(text) => text.len(),
            Segment::Any | Segment::Capture(_) | Segment::Rest => 1,
        };
        let path: usize = self.segments().map(|segment| shortest(segment) + 1).sum();
        // One separator fewer than segments; another segment is a separator and a character.
        self.depth() == SEGMENTS_MAX || network + path - 1 + 2 > TOPIC_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic::TopicPath;

    fn covers(wide: &str, narrow: &str) -> bool {
        Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap())
    }

    #[test]
    fn wildcards_cover_what_they_stand_for() {
        for (wide, narrow, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("*", "a", true),
            ("*", "{x}", true),
            ("{x}", "*", true),
            ("{x}", "{y}", true),
            ("a", "*", false),
            ("*", ">", false),
            (">", ">", true),
            (">", "*/*", true),
            (">", "a/>", true),
            ("a/>", "a", false),
            ("a/>", "a/*", true),
            ("a/>", "*/a", false),
            ("*/>", ">", false),
            ("*/>", "a/>", true),
            ("*/>", "a/*/>", true),
            ("*/*", "a/>", false),
            ("a/*/c", "a/{b}/c", true),
            ("a/*/c", "a/{b}/*", false),
            ("n:>", ">", false),
            (">", "n:a", false),
            ("n:>", "n:a/b", true),
            ("n:a", "m:a", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} covers {narrow}");
        }
    }

    #[test]
    fn a_rest_that_has_room_for_one_segment_alone_is_like_one_segment() {
        let stars = |count: usize| vec!["*"; count].join("/");
        assert!(covers(&stars(32), &format!("{}/>", stars(31))), "32 segments are the most");
        assert!(!covers(&stars(31), &format!("{}/>", stars(30))));
        let long = "x".repeat(TOPIC_BYTES_MAX - 2);
        assert!(covers(&format!("{long}/*"), &format!("{long}/>")), "512 bytes are the most");
        // The shortest path has 511 bytes; one more segment would need two.
        assert!(covers(&format!("{}/*", &long[1..]), &format!("{}/>", &long[1..])));
        assert!(!covers(&format!("{}/*", &long[2..]), &format!("{}/>", &long[2..])));
        let network = format!("n:{}", &long[3..]);
        assert!(covers(&format!("{network}/*"), &format!("{network}/>")));
        let network = format!("n:{}", &long[4..]);
        assert!(!covers(&format!("{network}/*"), &format!("{network}/>")));
    }

    /// All paths of up to five segments over letters of which the patterns use two: enough to tell
    /// patterns of up to three segments apart.
    fn paths() -> Vec<TopicPath> {
        let mut all = vec![String::new()];
        let mut longest = all.clone();
        for _ in 0..5 {
            longest = longest
                .iter()
                .flat_map(|path| ["a", "b", "z"].map(|letter| format!("{path}/{letter}")))
                .collect();
            all.extend_from_slice(&longest);
        }
        let below_networks =
            all[1..].iter().flat_map(|path| [path[1..].to_string(), format!("n:{}", &path[1..])]);
        below_networks.map(|path| TopicPath::parse(&path).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn it_agrees_with_trying_every_path(
            wide in "(n:)?([ab*]|\\{x\\})(/([ab*]|\\{y\\})){0,1}(/([ab*>]))?|(n:)?>",
            narrow in "(n:)?([ab*]|\\{x\\})(/([ab*]|\\{y\\})){0,1}(/([ab*>]))?|(n:)?>",
        ) {
            let (wide, narrow) = (Pattern::parse(&wide).unwrap(), Pattern::parse(&narrow).unwrap());
            let expected = paths().iter().all(|path| !narrow.matches(path) || wide.matches(path));
            prop_assert_eq!(wide.covers(&narrow), expected, "{} covers {}", wide, narrow);
            prop_assert!(wide.covers(&wide));
        }
    }
}
