//! What it costs to check a history: registers with eight clients, over three decades of length, right and wrong.
//!
//! `cargo bench -p dunlin-sim --bench linear`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use dunlin_sim::linear::{
    Budget, Operation, Register, RegisterOp, RegisterReturn, Verdict, check, check_by_key,
};

type History = Vec<Operation<RegisterOp<u64>, RegisterReturn<u64>>>;

/// Clients that write and read in turn, each operation overlapping those of the seven others. Each takes effect at a
/// moment of its own.
fn history(operations: u64) -> History {
    let mut state = 0;
    (0..operations)
        .map(|n| {
            // A step of a multiplicative generator, for the look of chance.
            let chance = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let at = 100 + 10 * n;
            let (called, returned) = (at - chance % 40, at + chance / 64 % 40);
            let (op, answer) = if chance.is_multiple_of(2) {
                state = n;
                (RegisterOp::Write(n), RegisterReturn::Done)
            } else {
                (RegisterOp::Read, RegisterReturn::Value(state))
            };
            Operation { op, called, returned: Some((returned, answer)) }
        })
        .collect()
}

/// One that reads, near the end, what was there long before.
fn stale(operations: u64) -> History {
    let mut history = history(operations);
    let mut reads = history.iter_mut().rev().filter(|o| o.op == RegisterOp::Read);
    if let Some(Operation { returned: Some((_, answer)), .. }) = reads.nth(2) {
        *answer = RegisterReturn::Value(0);
    }
    history
}

fn bench(criterion: &mut Criterion) {
    let model = Register::new(0);
    let mut group = criterion.benchmark_group("linear");
    for operations in [100, 1_000, 10_000] {
        group.throughput(Throughput::Elements(operations));
        let right = history(operations);
        assert!(matches!(check(&model, &right, Budget::default()), Verdict::Linearizable { .. }));
        group.bench_with_input(BenchmarkId::new("right", operations), &right, |b, history| {
            b.iter(|| check(&model, black_box(history), Budget::default()));
        });
        let wrong = stale(operations);
        assert!(matches!(check(&model, &wrong, Budget::default()), Verdict::Broken(_)));
        group.bench_with_input(BenchmarkId::new("stale read", operations), &wrong, |b, history| {
            b.iter(|| check(&model, black_box(history), Budget::default()));
        });
    }
    // Sixteen registers, known by what is written to them: reads are of the first.
    let right = history(10_000);
    group.bench_function("by key, 10000", |b| {
        let key = |op: &RegisterOp<u64>| match op {
            RegisterOp::Write(n) => n % 16,
            RegisterOp::Read => 0,
        };
        b.iter(|| check_by_key(&model, black_box(&right), key, Budget::default()));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
