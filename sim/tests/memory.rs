//! What a node of a large world costs, counted at the allocator: the same in every run of one build.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dunlin_sim::Verdict;
use dunlin_sim::draw::draw_large;
use dunlin_sim::run::run;
use dunlin_sim::schedule::{Crypto, Fidelity};

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

#[test]
fn a_node_of_a_large_world_takes_at_most_40_kb() {
    let count: u16 = std::env::var("N").map_or(300, |n| n.parse().unwrap());
    let before = LIVE.load(Relaxed);
    let schedule = draw_large(1, Fidelity::Frames, Crypto::Null, count);
    eprintln!("schedule {}", (LIVE.load(Relaxed) - before) / usize::from(count));
    let outcome = run(&schedule);
    assert_eq!(outcome.verdict, Verdict::Clean);
    let per_node = (PEAK.load(Relaxed) - before) / usize::from(count);
    eprintln!("{per_node}");
    assert!(per_node <= 40_960, "{per_node} bytes a node");
}
