//! What somebody may do, and to which topics.

use std::str::FromStr;

use dunlin_proto::v1;

use crate::topic::{Pattern, PatternIndex, TopicPath};

/// The most patterns of one link of a token, over all its permissions. It bounds the work that a
/// token can cause: each is compared with each of the parent's. A guess.
pub const PATTERNS_MAX: usize = 64;

/// From so many patterns on, an index is quicker than trying each. Measured by `benches/auth.rs`.
const INDEX_FROM: usize = 4;

/// One kind of permission. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Permission {
    /// Calling actions.
    Call = 1,
    /// Serving actions.
    Serve = 2,
    /// Publishing events.
    Publish = 3,
    /// Subscribing to events.
    Subscribe = 4,
    /// Reading records of the DHT.
    DhtRead = 5,
    /// Storing records in the DHT.
    DhtWrite = 6,
    /// Giving permissions on: those that the token has, for topics that this covers.
    Delegate = 7,
}

impl Permission {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Permission; 7] = [
        Permission::Call,
        Permission::Serve,
        Permission::Publish,
        Permission::Subscribe,
        Permission::DhtRead,
        Permission::DhtWrite,
        Permission::Delegate,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Permission::Call => "call",
            Permission::Serve => "serve",
            Permission::Publish => "publish",
            Permission::Subscribe => "subscribe",
            Permission::DhtRead => "dht-read",
            Permission::DhtWrite => "dht-write",
            Permission::Delegate => "delegate",
        }
    }

    fn index(self) -> usize {
        self as usize - 1
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why a text is not a permission with its pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a permission: {why}; write for example 'call:math/>', with one of call, serve, \
     publish, subscribe, dht-read, dht-write and delegate in front"
)]
pub struct ParsePermissionError {
    text: String,
    why: String,
}

/// The permissions of one link: for each kind, the patterns of topics that it is for. Patterns have no
/// network; the token has.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Permissions {
    kinds: [Vec<Pattern>; 7],
}

/// A permission that the parent of a link does not have, or may not give on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCovered {
    /// Its kind.
    pub permission: Permission,
    /// The topics.
    pub pattern: Pattern,
    /// What the parent lacks for them: this kind, or the right to give it on.
    pub missing: Permission,
}

impl Permissions {
    /// None at all.
    pub fn none() -> Self {
        Permissions::default()
    }

    /// Every kind for every topic.
    pub fn all() -> Self {
        let every = Pattern::parse(">").expect("a pattern");
        Permissions { kinds: std::array::from_fn(|_| vec![every.clone()]) }
    }

    /// These and one more.
    ///
    /// # Errors
    ///
    /// When the text is not `kind:pattern`, or the pattern names a network.
    pub fn with(mut self, text: &str) -> Result<Self, ParsePermissionError> {
        let refuse =
            |why: String| ParsePermissionError { text: text.chars().take(80).collect(), why };
        let Some((kind, pattern)) = text.split_once(':') else {
            return Err(refuse("it has no ':'".into()));
        };
        let Some(permission) = Permission::ALL.into_iter().find(|p| p.name() == kind) else {
            let kind: String = kind.chars().take(40).collect();
            return Err(refuse(format!("there is no kind '{kind}'")));
        };
        let pattern = Pattern::parse(pattern).map_err(|error| refuse(error.to_string()))?;
        if pattern.network().is_some() {
            return Err(refuse("the token names the network, the pattern does not".into()));
        }
        self.kinds[permission.index()].push(pattern);
        Ok(self)
    }

    /// The patterns of one kind.
    pub fn patterns(&self, permission: Permission) -> &[Pattern] {
        &self.kinds[permission.index()]
    }

    /// Each kind with each of its patterns.
    pub fn iter(&self) -> impl Iterator<Item = (Permission, &Pattern)> {
        Permission::ALL
            .into_iter()
            .flat_map(|permission| self.patterns(permission).iter().map(move |p| (permission, p)))
    }

    /// How many patterns there are over all kinds.
    pub fn len(&self) -> usize {
        self.kinds.iter().map(Vec::len).sum()
    }

    /// Whether nothing is permitted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the holder of these may give `narrower` on. Each pattern must be covered by one pattern
    /// of the same kind, and by one of [`Permission::Delegate`].
    ///
    /// # Errors
    ///
    /// The first that is not covered.
    pub fn check_delegation(&self, narrower: &Permissions) -> Result<(), NotCovered> {
        let has = |permission, pattern: &Pattern| {
            self.patterns(permission).iter().any(|wide| wide.covers(pattern))
        };
        for (permission, pattern) in narrower.iter() {
            let missing =
                [permission, Permission::Delegate].into_iter().find(|kind| !has(*kind, pattern));
            if let Some(missing) = missing {
                return Err(NotCovered { permission, pattern: pattern.clone(), missing });
            }
        }
        Ok(())
    }

    pub(super) fn to_wire(&self) -> Vec<v1::Permission> {
        Permission::ALL
            .into_iter()
            .filter(|permission| !self.patterns(*permission).is_empty())
            .map(|permission| v1::Permission {
                kind: permission as u32,
                patterns: self.patterns(permission).iter().map(|p| p.as_bytes().clone()).collect(),
            })
            .collect()
    }

    pub(super) fn from_wire(wire: Vec<v1::Permission>) -> Result<Self, String> {
        let patterns: usize = wire.iter().map(|permission| permission.patterns.len()).sum();
        if patterns > PATTERNS_MAX {
            return Err(format!("{patterns} patterns; at most {PATTERNS_MAX} are allowed"));
        }
        let mut permissions = Permissions::none();
        let mut last = 0;
        for entry in wire {
            let kind = Permission::ALL.into_iter().find(|p| *p as u32 == entry.kind);
            let kind = kind.ok_or_else(|| format!("unknown permission {}", entry.kind))?;
            if entry.kind <= last || entry.patterns.is_empty() {
                return Err(format!("permission {kind} out of its order, twice or for nothing"));
            }
            last = entry.kind;
            for pattern in entry.patterns {
                let pattern = Pattern::from_bytes(pattern).map_err(|error| error.to_string())?;
                if pattern.network().is_some() {
                    return Err(format!("the pattern '{pattern}' names a network"));
                }
                permissions.kinds[kind.index()].push(pattern);
            }
        }
        Ok(permissions)
    }
}

impl FromStr for Permissions {
    type Err = ParsePermissionError;

    /// Reads `kind:pattern` any number of times, with spaces between.
    fn from_str(text: &str) -> Result<Self, ParsePermissionError> {
        text.split_whitespace().try_fold(Permissions::none(), Permissions::with)
    }
}

impl std::fmt::Display for Permissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (permission, pattern)) in self.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{permission}:{pattern}")?;
        }
        Ok(())
    }
}

/// Permissions made ready for quick questions. Nothing allocates while it is asked.
#[derive(Clone)]
pub struct Grants {
    permissions: Permissions,
    /// For kinds with many patterns.
    indices: Vec<(Permission, PatternIndex<()>)>,
}

impl Grants {
    /// Makes these permissions ready.
    pub fn new(permissions: Permissions) -> Self {
        let mut indices = Vec::new();
        for permission in Permission::ALL {
            let patterns = permissions.patterns(permission);
            if patterns.len() >= INDEX_FROM {
                // The fixed hash seed is safe: there are at most PATTERNS_MAX.
                let mut index = PatternIndex::new();
                for pattern in patterns {
                    index.insert(pattern, ());
                }
                indices.push((permission, index));
            }
        }
        Grants { permissions, indices }
    }

    /// What these were made of.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Whether they allow this for the topic. Its network does not matter here.
    pub fn allow(&self, permission: Permission, path: &TopicPath) -> bool {
        let stripped;
        let path = if path.network().is_some() {
            stripped = path.without_network();
            &stripped
        } else {
            path
        };
        match self.indices.iter().find(|(of, _)| *of == permission) {
            Some((_, index)) => index.best_match(path).is_some(),
            None => self.permissions.patterns(permission).iter().any(|p| p.matches(path)),
        }
    }

    /// Whether they allow this for every topic right below this one, by one of their patterns alone. Its network does not
    /// matter here.
    pub fn allow_all_below(&self, permission: Permission, path: &TopicPath) -> bool {
        let below = Pattern::parse(&format!("{}/*", path.path()));
        below.is_ok_and(|below| self.allow_all_of(permission, &below))
    }

    /// Whether they allow this for every topic that the pattern matches, by one of their patterns
    /// alone. The pattern has no network.
    pub fn allow_all_of(&self, permission: Permission, pattern: &Pattern) -> bool {
        self.permissions.patterns(permission).iter().any(|wide| wide.covers(pattern))
    }
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grants({})", self.permissions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permissions(text: &str) -> Permissions {
        text.parse().unwrap()
    }

    #[test]
    fn permissions_read_back_as_they_are_shown() {
        let text = "call:a/* call:b serve:> dht-write:x/{y} delegate:a/>";
        assert_eq!(permissions(text).to_string(), text);
        assert_eq!(Permissions::from_wire(permissions(text).to_wire()), Ok(permissions(text)));
        for (wrong, said) in [
            ("call", "has no ':'"),
            ("fly:a", "no kind 'fly'"),
            ("call:a//b", "is empty"),
            ("call:net:a", "the token names the network"),
        ] {
            let error = wrong.parse::<Permissions>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn all_that_lies_right_below_a_topic_is_allowed_by_one_pattern_or_it_is_not() {
        for (allowed, path, expected) in [
            ("serve:counter/add", "counter", false),
            ("serve:counter/add serve:counter/get", "counter", false),
            ("serve:counter/*", "net:counter", true),
            ("serve:counter/>", "counter", true),
            ("serve:>", "counter/of/all", true),
            ("serve:*/add", "counter", false),
            ("serve:*/*", "counter", true),
            ("serve:counter", "counter", false),
            ("serve:counter", "counter/of", false),
            ("serve:counter/add", "counters", false),
            ("serve:other/> call:counter/>", "counter", false),
        ] {
            let grants = Grants::new(permissions(allowed));
            let path = TopicPath::parse(path).unwrap();
            let said = grants.allow_all_below(Permission::Serve, &path);
            assert_eq!(said, expected, "{allowed} at {path}");
        }
    }

    #[test]
    fn only_what_one_has_and_may_give_on_can_be_given_on() {
        let parent = permissions("call:a/> call:b publish:a/> delegate:a/>");
        for (child, expected) in [
            ("", true),
            ("call:a/x publish:a/*", true),
            ("call:a/> delegate:a/x", true),
            ("call:b", false),
            ("call:>", false),
            ("serve:a/x", false),
            ("delegate:>", false),
        ] {
            let allowed = parent.check_delegation(&permissions(child));
            assert_eq!(allowed.is_ok(), expected, "{child}");
        }
    }

    #[test]
    fn wire_forms_that_are_not_canonical_are_refused() {
        let entry = |kind, patterns: &[&'static str]| v1::Permission {
            kind,
            patterns: patterns.iter().map(|p| p.as_bytes().into()).collect(),
        };
        for wrong in [
            vec![entry(1, &[])],
            vec![entry(0, &["a"])],
            vec![entry(8, &["a"])],
            vec![entry(2, &["a"]), entry(1, &["a"])],
            vec![entry(1, &["a"]), entry(1, &["b"])],
            vec![entry(1, &["net:a"])],
            vec![entry(1, &["a/"])],
            vec![entry(1, &["a"; PATTERNS_MAX + 1])],
        ] {
            assert!(Permissions::from_wire(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn grants_agree_with_trying_every_pattern(
            patterns in proptest::collection::vec("[ab*](/[ab*]){0,2}(/>)?", 0..20),
            path in "(n:)?[ab](/[ab]){0,3}",
        ) {
            let permissions = patterns
                .iter()
                .try_fold(Permissions::none(), |all, p| all.with(&format!("call:{p}")))
                .unwrap();
            let path = TopicPath::parse(&path).unwrap();
            let bare = TopicPath::parse(path.path()).unwrap();
            let expected = permissions.iter().any(|(_, pattern)| pattern.matches(&bare));
            let grants = Grants::new(permissions);
            prop_assert_eq!(grants.allow(Permission::Call, &path), expected);
            prop_assert!(!grants.allow(Permission::Serve, &path));
        }
    }
}
