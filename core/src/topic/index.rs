//! An index from patterns to values: given a path, all that match it, the most specific first.
//!
//! Patterns without wildcards, which are most, are in a map by their whole text: one look-up finds
//! them. The others form a trie. Its literal edges are in one hash table for all nodes, keyed by
//! (node, segment), so a node costs the same whether it has one child or a million; wildcard edges
//! are in the node. The walk takes literal, `{name}`, `*` and `>` in this order, which is the order
//! of precedence, so the first match is the best.

use std::ops::ControlFlow;

use super::nodes::{Head, List, Literal, Node, PackedList, Pool, ROOT, SegmentText};
use super::path::{SEGMENTS_MAX, TopicPath};
use super::pattern::{Pattern, Segment};
use super::table::{NONE, Table, TopicHash};
use super::values::{SubscriptionKey, Values};

/// Many patterns, each with a value: who subscribed, or who serves.
///
/// A pattern may be inserted any number of times; each insertion has a key of its own.
///
/// # Cost
///
/// Matching looks at the path's literal text once, and then at those nodes that agree with the path
/// so far: at most 3^depth, and never more than there are; usually a few per segment. Patterns that
/// do not share a beginning with the path cost nothing. Since a peer that may insert many patterns
/// can make them agree with one path in many ways, the number of patterns that a peer may insert
/// needs a bound. Nothing allocates while matching. Insertion and removal cost the same as one look
/// at each of the pattern's segments; what removal frees is used again, and given back when the
/// index becomes empty or a hash table is mostly so.
///
/// # Determinism
///
/// The order of matches does not depend on the hash seed. Costs do: somebody who knows the seed can
/// choose topics that collide and make the tables slow. Where strangers choose topics, draw the seed
/// and use [`PatternIndex::with_hash_seed`].
#[derive(Clone)]
pub struct PatternIndex<T> {
    hash: TopicHash,
    values: Values<T, PackedList>,
    literals: Pool<Literal>,
    /// Literals by the hash of their text.
    literal_table: Table,
    /// The first is the root.
    nodes: Pool<Node>,
    /// Children by the hash of (parent, segment).
    edges: Table,
}

/// The segments of a path, each with its hash, on the stack.
struct Split<'p> {
    segments: [(&'p [u8], u64); SEGMENTS_MAX],
    len: usize,
}

impl<'p> Split<'p> {
    #[inline]
    fn new(path: &'p [u8], hash: TopicHash) -> Self {
        let mut split = Split { segments: [(&[], 0); SEGMENTS_MAX], len: 0 };
        for segment in path.split(|byte| *byte == b'/') {
            split.segments[split.len] = (segment, hash.text(segment));
            split.len += 1;
        }
        split
    }
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        // Any number: the first digits of pi.
        PatternIndex::with_hash_seed(0x3141_5926_5358_9793)
    }
}

impl<T> PatternIndex<T> {
    /// An empty index with a fixed hash seed.
    pub fn new() -> Self {
        PatternIndex::default()
    }

    /// An empty index whose hash tables are keyed by `seed`.
    pub fn with_hash_seed(seed: u64) -> Self {
        let mut nodes = Pool::default();
        nodes.add(Node::default());
        PatternIndex {
            hash: TopicHash::new(seed),
            values: Values::default(),
            literals: Pool::default(),
            literal_table: Table::default(),
            nodes,
            edges: Table::default(),
        }
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a value under a pattern, after those that are there. The pattern's text is copied.
    ///
    /// # Panics
    ///
    /// At 2^32 - 1 values, or 2^30 literals or nodes; callers keep their own, far lower bound.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> SubscriptionKey {
        if pattern.is_literal() {
            let place = self.literal_at_or_add(pattern.as_bytes());
            let head = &mut self.literals[place].head.0;
            return self.values.push(head, List::Literal(place).into(), value);
        }
        let mut at = ROOT;
        if pattern.network().is_some() {
            at = self.child_or_add(at, network_segment(pattern.as_bytes()));
        }
        for segment in pattern.segments() {
            at = match segment {
                Segment::Literal(text) => self.child_or_add(at, text.as_bytes()),
                Segment::Capture(_) => self.wildcard_child_or_add(at, |node| &mut node.capture),
                Segment::Any => self.wildcard_child_or_add(at, |node| &mut node.any),
                Segment::Rest => {
                    let head = &mut self.nodes[at].rest.0;
                    return self.values.push(head, List::Rest(at).into(), value);
                }
            };
        }
        self.values.push(&mut self.nodes[at].here.0, List::Here(at).into(), value)
    }

    /// The value, if it is still there.
    pub fn get(&self, key: SubscriptionKey) -> Option<&T> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// The value, if it is still there.
    pub fn get_mut(&mut self, key: SubscriptionKey) -> Option<&mut T> {
        self.values.get_mut(key)
    }

    /// Takes the value out, if it is still there.
    pub fn remove(&mut self, key: SubscriptionKey) -> Option<T> {
        let (list, _) = self.values.get(key)?;
        let value = match List::from(list) {
            List::Literal(place) => {
                let head = &mut self.literals[place].head.0;
                let value = self.values.remove(head, key);
                if *head == NONE {
                    let text = self.literals.take(place).text;
                    self.literal_table.remove(self.literal_hash(&text), place);
                }
                value
            }
            List::Here(node) => {
                let value = self.values.remove(&mut self.nodes[node].here.0, key);
                self.prune(node);
                value
            }
            List::Rest(node) => {
                let value = self.values.remove(&mut self.nodes[node].rest.0, key);
                self.prune(node);
                value
            }
        };
        if self.is_empty() {
            self.give_back();
        }
        Some(value)
    }

    /// Calls `visit` with every value whose pattern matches `path`: by precedence of the patterns, the
    /// most specific first, and among patterns that differ in nothing but the names of what they
    /// capture, in the order of insertion.
    pub fn for_each_match<'a>(
        &'a self,
        path: &TopicPath,
        mut visit: impl FnMut(SubscriptionKey, &'a T),
    ) {
        let _ = self.matching_lists(path, &mut |head| {
            for (key, value) in self.values.list(head) {
                visit(key, value);
            }
            ControlFlow::Continue(())
        });
    }

    /// The value of the most specific pattern that matches `path`; the oldest, if there are several.
    pub fn best_match(&self, path: &TopicPath) -> Option<(SubscriptionKey, &T)> {
        self.values.list(self.best_list(path)).next()
    }

    /// Calls `visit` with every value of the most specific pattern that matches `path`, the oldest
    /// first. Patterns that differ in nothing but the names of what they capture count as one.
    pub fn best_matches<'a>(&'a self, path: &TopicPath, mut visit: impl FnMut(&'a T)) {
        for (_, value) in self.values.list(self.best_list(path)) {
            visit(value);
        }
    }

    fn best_list(&self, path: &TopicPath) -> u32 {
        let mut best = NONE;
        let _ = self.matching_lists(path, &mut |head| {
            best = head;
            ControlFlow::Break(())
        });
        best
    }

    /// Visits the lists of the patterns that match, none of them empty, by precedence.
    fn matching_lists(
        &self,
        path: &TopicPath,
        visit: &mut impl FnMut(u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let text = path.as_bytes();
        if let Some(place) = self.literal_at(text) {
            visit(self.literals[place].head.0)?;
        }
        let mut from = ROOT;
        if path.network().is_some() {
            let network = network_segment(text);
            match self.child(ROOT, network, self.hash.text(network)) {
                Some(node) => from = node,
                None => return ControlFlow::Continue(()),
            }
        }
        if self.nodes[from].is_idle() {
            return ControlFlow::Continue(());
        }
        let split = Split::new(path.shape().path(text), self.hash);
        self.walk(from, &split.segments[..split.len], visit)
    }

    // Recursion is bounded by the depth of a path.
    fn walk(
        &self,
        at: u32,
        segments: &[(&[u8], u64)],
        visit: &mut impl FnMut(u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let node = &self.nodes[at];
        let Some(((segment, hash), below)) = segments.split_first() else {
            return if node.here.0 == NONE {
                ControlFlow::Continue(())
            } else {
                visit(node.here.0)
            };
        };
        if node.literal_filter & filter_bit(*hash) != 0
            && let Some(child) = self.child(at, segment, *hash)
        {
            self.walk(child, below, visit)?;
        }
        if node.capture != NONE {
            self.walk(node.capture, below, visit)?;
        }
        if node.any != NONE {
            self.walk(node.any, below, visit)?;
        }
        if node.rest.0 != NONE {
            visit(node.rest.0)?;
        }
        ControlFlow::Continue(())
    }

    fn literal_hash(&self, text: &[u8]) -> u32 {
        (self.hash.text(text) >> 32) as u32
    }

    fn literal_at(&self, text: &[u8]) -> Option<u32> {
        let hash = self.literal_hash(text);
        self.literal_table.find(hash, |place| *self.literals[place].text == *text)
    }

    fn literal_at_or_add(&mut self, text: &[u8]) -> u32 {
        if let Some(place) = self.literal_at(text) {
            return place;
        }
        let place = self.literals.add(Literal { text: text.into(), head: Head::default() });
        self.literal_table.insert(self.literal_hash(text), place);
        place
    }

    #[inline]
    fn child(&self, parent: u32, segment: &[u8], hash: u64) -> Option<u32> {
        self.edges.find(self.hash.edge(parent, hash), |place| {
            let node = &self.nodes[place];
            node.parent == parent && node.segment.as_bytes() == segment
        })
    }

    fn child_or_add(&mut self, parent: u32, segment: &[u8]) -> u32 {
        let hash = self.hash.text(segment);
        if let Some(child) = self.child(parent, segment, hash) {
            return child;
        }
        let node = Node { segment: SegmentText::new(segment), parent, ..Node::default() };
        let child = self.nodes.add(node);
        self.edges.insert(self.hash.edge(parent, hash), child);
        let parent = &mut self.nodes[parent];
        parent.literal_children += 1;
        parent.literal_filter |= filter_bit(hash);
        child
    }

    fn wildcard_child_or_add(&mut self, parent: u32, edge: impl Fn(&mut Node) -> &mut u32) -> u32 {
        let child = *edge(&mut self.nodes[parent]);
        if child != NONE {
            return child;
        }
        let child = self.nodes.add(Node { parent, ..Node::default() });
        *edge(&mut self.nodes[parent]) = child;
        child
    }

    /// Takes out a node that no pattern needs any more, and those above that only led to it.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT && self.nodes[at].is_idle() {
            let node = self.nodes.take(at);
            let parent = &mut self.nodes[node.parent];
            if parent.capture == at {
                parent.capture = NONE;
            } else if parent.any == at {
                parent.any = NONE;
            } else {
                parent.literal_children -= 1;
                if parent.literal_children == 0 {
                    parent.literal_filter = 0;
                }
                let hash = self.hash.text(node.segment.as_bytes());
                self.edges.remove(self.hash.edge(node.parent, hash), at);
            }
            at = node.parent;
        }
    }

    /// Frees what an empty index keeps for later. The places of the values stay: they remember which
    /// keys were given.
    fn give_back(&mut self) {
        self.literals = Pool::default();
        self.literal_table = Table::default();
        self.nodes = Pool::default();
        self.nodes.add(Node::default());
        self.edges = Table::default();
    }
}

impl<T> std::fmt::Debug for PatternIndex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PatternIndex({} values)", self.len())
    }
}

/// The network of a topic that has one, with its colon.
fn network_segment(topic: &[u8]) -> &[u8] {
    let colon = topic.iter().position(|byte| *byte == b':').expect("the topic has a network");
    &topic[..=colon]
}

/// One bit of 64 for a segment's hash.
fn filter_bit(hash: u64) -> u64 {
    1 << (hash & 63)
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

    fn matches<'a>(index: &'a PatternIndex<&'a str>, text: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        index.for_each_match(&path(text), |_, value| found.push(*value));
        found
    }

    #[test]
    fn matches_come_by_precedence_whatever_the_order_of_insertion() {
        let patterns =
            ["a/b/c", "a/b/{x}", "a/b/*", "a/b/>", "a/{x}/c", "a/*/c", "a/>", "*/b/c", ">"];
        let mut index = PatternIndex::new();
        for text in patterns.iter().rev().chain(&["a/b", "a/b/c/d", "net:a/b/c", "*/*"]) {
            index.insert(&pattern(text), *text);
        }
        assert_eq!(matches(&index, "a/b/c"), patterns);
        assert_eq!(index.best_match(&path("a/b/c")).unwrap().1, &"a/b/c");
        assert_eq!(index.best_match(&path("a/x/c")).unwrap().1, &"a/{x}/c");
        assert_eq!(matches(&index, "net:a/b/c"), ["net:a/b/c"]);
        assert_eq!(matches(&index, "other:a/b/c"), Vec::<&str>::new());
    }

    #[test]
    fn values_of_one_pattern_come_in_the_order_of_insertion() {
        let mut index = PatternIndex::new();
        let first = index.insert(&pattern("a/{x}"), "first");
        let second = index.insert(&pattern("a/{y}"), "second");
        index.insert(&pattern("a/*"), "other");
        let third = index.insert(&pattern("a/{x}"), "third");
        assert_eq!(matches(&index, "a/b"), ["first", "second", "third", "other"]);
        let mut best = Vec::new();
        index.best_matches(&path("a/b"), |value| best.push(*value));
        assert_eq!(best, ["first", "second", "third"]);
        assert_eq!(index.best_match(&path("a/b")), Some((first, &"first")));

        assert_eq!(index.remove(first), Some("first"));
        assert_eq!(index.remove(third), Some("third"));
        assert_eq!(index.best_match(&path("a/b")), Some((second, &"second")));
        index.insert(&pattern("a/{z}"), "fourth");
        assert_eq!(matches(&index, "a/b"), ["second", "fourth", "other"]);
    }

    #[test]
    fn a_key_outlives_its_value_without_naming_the_next_one() {
        let mut index = PatternIndex::new();
        let old = index.insert(&pattern("a/*"), "old");
        assert_eq!(index.remove(old), Some("old"));
        let new = index.insert(&pattern("a"), "new");
        assert_eq!(index.get(old), None);
        assert_eq!(index.remove(old), None);
        assert_eq!(index.get(SubscriptionKey::from_u64(new.to_u64())), Some(&"new"));
        *index.get_mut(new).unwrap() = "newer";
        assert_eq!(index.get(new), Some(&"newer"));
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn what_removal_frees_is_used_again() {
        let mut index = PatternIndex::new();
        let round = |index: &mut PatternIndex<u32>, round: u32| {
            let keys: Vec<_> = (0..600)
                .map(|n| match n % 2 {
                    0 => format!("r{round}/n{n}/*/x{n}/>"),
                    _ => format!("r{round}/n{n}"),
                })
                .map(|text| index.insert(&pattern(&text), round))
                .collect();
            let places = (index.nodes.items.len(), index.literals.items.len());
            for key in keys {
                assert_eq!(index.remove(key), Some(round));
            }
            places
        };
        // One pattern stays, so that the index is never empty.
        let stays = index.insert(&pattern("stays/>"), 0);
        let first = round(&mut index, 0);
        for n in 1..20 {
            assert_eq!(round(&mut index, n), first);
        }
        assert_eq!(index.nodes.items.len() - index.nodes.free.len(), 2);
        assert_eq!(index.literals.items.len(), index.literals.free.len());
        index.remove(stays);
        assert_eq!(index.nodes.items.len(), 1);
    }

    #[test]
    fn a_value_costs_four_words_of_four_bytes_beside_itself() {
        assert_eq!(Values::<u64, PackedList>::PLACE_BYTES, 24);
        assert_eq!(Values::<u32, PackedList>::PLACE_BYTES, 20);
    }

    /// Patterns and paths over a tiny alphabet, so that they meet.
    fn patterns() -> impl Strategy<Value = Pattern> {
        let names = || prop_oneof!["x", "y"];
        let text = "(n:|m:)?([ab*1])(/[ab*2]){0,1}(/[ab*3]){0,1}(/>)?";
        // Digits stand for captures, which need different names.
        (text, names()).prop_map(|(text, name)| {
            let text = text.chars().map(|c| match c {
                '1'..='3' => format!("{{{name}{c}}}"),
                _ => c.to_string(),
            });
            pattern(&text.collect::<String>())
        })
    }

    fn paths() -> impl Strategy<Value = TopicPath> {
        "(n:|m:)?[abc](/[abc]){0,3}".prop_map(|text| path(&text))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Pattern),
        Remove(usize),
        Match(TopicPath),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => patterns().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Remove),
            3 => paths().prop_map(Step::Match),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn it_agrees_with_trying_every_pattern(
            seed in any::<u64>(),
            steps in proptest::collection::vec(steps(), 1..150),
        ) {
            let mut index = PatternIndex::with_hash_seed(seed);
            // In the order of insertion.
            let mut model: Vec<(Pattern, SubscriptionKey, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(pattern) => {
                        let key = index.insert(&pattern, number);
                        model.push((pattern, key, number));
                    }
                    Step::Remove(pick) if !model.is_empty() => {
                        let (_, key, value) = model.remove(pick % model.len());
                        prop_assert_eq!(index.remove(key), Some(value));
                        prop_assert_eq!(index.remove(key), None);
                    }
                    Step::Remove(_) => {}
                    Step::Match(path) => {
                        let mut expected: Vec<_> =
                            model.iter().filter(|(pattern, ..)| pattern.matches(&path)).collect();
                        // Stable: what is equal stays in the order of insertion.
                        expected.sort_by(|a, b| a.0.specificity_cmp(&b.0));
                        let mut found = Vec::new();
                        index.for_each_match(&path, |key, value| found.push((key, *value)));
                        let all: Vec<_> = expected.iter().map(|e| (e.1, e.2)).collect();
                        prop_assert_eq!(&found, &all);

                        let best = index.best_match(&path).map(|(key, value)| (key, *value));
                        prop_assert_eq!(best, all.first().copied());
                        let mut found = Vec::new();
                        index.best_matches(&path, |value| found.push(*value));
                        let best: Vec<_> = expected
                            .iter()
                            .take_while(|e| e.0.specificity_cmp(&expected[0].0).is_eq())
                            .map(|e| e.2)
                            .collect();
                        prop_assert_eq!(found, best);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            let copy = index.clone();
            for (_, key, value) in model {
                prop_assert_eq!(copy.get(key), Some(&value));
                prop_assert_eq!(index.remove(key), Some(value));
            }
            prop_assert!(index.is_empty());
            prop_assert_eq!(index.nodes.items.len(), 1);
        }
    }
}
