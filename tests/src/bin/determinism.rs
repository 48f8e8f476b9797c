//! Prints what became of the worlds of a few seeds, a line each. The test `determinism` compares what
//! several processes and builds print.

use dunlin_tests::world::{Kind, run};

fn main() {
    for kind in [Kind::Tls, Kind::Null] {
        for seed in 1..=3 {
            println!("{kind:?} {seed} {:?}", run(kind, seed));
        }
    }
}
