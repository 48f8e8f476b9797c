//! Matching a topic against 1 k, 100 k and 1 M subscriptions, and what a subscription weighs.
//!
//! `cargo bench -p dunlin-core --bench topic`. The bounds are in performance.md, rows "topic match"
//! and "memory a subscription".

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BenchmarkId, Criterion};
use dunlin_core::topic::{Pattern, PatternIndex, TopicPath};

const SUBSCRIPTIONS: [usize; 3] = [1_000, 100_000, 1_000_000];

/// How many paths are matched in turn: enough that no part of the index stays in the cache for being
/// asked for again soon, and few enough for the smallest that the paths do not displace the index.
fn paths_for(subscriptions: usize) -> usize {
    (subscriptions / 4).max(4_096)
}

/// Counts the bytes that are allocated, as asked for.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "a global allocator is unsafe to write; this one only counts")]
// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A generator for the workload; its quality does not matter, its repeatability does.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((u128::from(self.0) * bound as u128) >> 64) as usize
    }
}

/// A path as a fleet of devices would have it, `fleet-3/site-214/device-81723/temperature/…`, 3 to 6
/// segments. `size` widens sites and devices, so that larger meshes are not merely denser.
fn path(draws: &mut Draws, size: usize) -> Vec<String> {
    const KINDS: [&str; 12] = [
        "temperature",
        "humidity",
        "power",
        "state",
        "firmware",
        "alarm",
        "config",
        "metrics",
        "position",
        "battery",
        "network",
        "log",
    ];
    const LEAVES: [&str; 6] = ["now", "hourly", "changed", "min", "max", "set"];
    let site = draws.below(size / 40 + 8);
    // Devices belong to sites, and sites to fleets.
    let device = site * 16 + draws.below(16);
    let mut segments =
        vec![format!("fleet-{}", site % 32), format!("site-{site}"), format!("device-{device}")];
    for _ in 0..draws.below(4) {
        segments.push(match segments.len() {
            3 => KINDS[draws.below(KINDS.len())].to_string(),
            4 => LEAVES[draws.below(LEAVES.len())].to_string(),
            _ => format!("v{}", draws.below(3)),
        });
    }
    segments
}

/// 70 % literal, 15 % with `*`, 10 % with `{}`, 5 % with `>`.
fn pattern(draws: &mut Draws, size: usize) -> Pattern {
    let mut segments = path(draws, size);
    let share = draws.below(100);
    // A wildcard may stand anywhere; the rest of a fleet's or of all topics would be most of them, so
    // `>` stands below a site.
    let at = draws.below(segments.len());
    match share {
        0..70 => {}
        70..85 => segments[at] = "*".to_string(),
        85..95 => segments[at] = "{id}".to_string(),
        _ => {
            segments.truncate(at.max(2));
            segments.push(">".to_string());
        }
    }
    Pattern::parse(&segments.join("/")).expect("a legal pattern")
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for subscriptions in SUBSCRIPTIONS {
        let mut draws = Draws(1);
        let patterns: Vec<Pattern> =
            (0..subscriptions).map(|_| pattern(&mut draws, subscriptions)).collect();
        let paths: Vec<TopicPath> = (0..paths_for(subscriptions))
            .map(|_| path(&mut draws, subscriptions).join("/"))
            .map(|text| TopicPath::parse(&text).expect("a legal path"))
            .collect();

        let before = ALLOCATED.load(Ordering::Relaxed);
        let mut index = PatternIndex::new();
        for (number, pattern) in patterns.iter().enumerate() {
            index.insert(pattern, number as u64);
        }
        let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
        let text: usize = patterns.iter().map(|pattern| pattern.as_str().len()).sum();
        let mut matches = 0;
        for path in &paths {
            index.for_each_match(path, |_, _| matches += 1);
        }
        println!(
            "{subscriptions} subscriptions: {:.1} bytes each, of which {:.1} could be text; {:.2} matches a path",
            bytes as f64 / subscriptions as f64,
            text as f64 / subscriptions as f64,
            f64::from(matches) / paths.len() as f64,
        );

        let mut next = 0;
        let mut next_path = || {
            next = (next + 1) % paths.len();
            &paths[next]
        };
        let mut group = criterion.benchmark_group("topic");
        group.bench_function(BenchmarkId::new("for_each_match", subscriptions), |bencher| {
            bencher.iter(|| {
                let mut sum = 0;
                index.for_each_match(black_box(next_path()), |_, value| sum += *value);
                sum
            });
        });
        group.bench_function(BenchmarkId::new("best_match", subscriptions), |bencher| {
            bencher.iter(|| index.best_match(black_box(next_path())).map(|(_, value)| *value));
        });
        group.finish();
    }

    let arrived = bytes::Bytes::from_static(b"fleet-3/site-214/device-81723/temperature/now");
    criterion.bench_function("topic/parse", |bencher| {
        bencher.iter(|| TopicPath::from_bytes(black_box(&arrived).clone()));
    });
    criterion.final_summary();
}
