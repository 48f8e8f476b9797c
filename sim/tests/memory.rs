//! What a node of a large world costs, counted at the allocator: the same in every run of one build.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dunlin_sim::draw::draw_large;
use dunlin_sim::run::run;
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{Outcome, Verdict, report};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts the bytes that were asked for.
struct Counting;

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that it asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        grow(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A large world of so many nodes: how it went, and the most bytes that a node took.
fn bytes_per_node(nodes: u16) -> (Outcome, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let outcome = run(&draw_large(1, Fidelity::Frames, Crypto::Null, nodes));
    (outcome, (PEAK.load(Relaxed) - before) / usize::from(nodes))
}

// One test: what runs beside it would be counted too.
#[test]
fn a_node_of_a_large_world_takes_at_most_40_kb() {
    // Whatever is made once, as the first panic handler.
    bytes_per_node(13);
    for nodes in [300, 1_000] {
        let (outcome, bytes) = bytes_per_node(nodes);
        assert_eq!(outcome.verdict, Verdict::Clean, "{}", report::failure(&outcome));
        assert!(outcome.answered > u64::from(nodes) && outcome.delivered > u64::from(nodes));
        println!("{nodes} nodes: {bytes} bytes a node");
        assert!(bytes <= 40_000, "{nodes} nodes take {bytes} bytes each");
    }
}
