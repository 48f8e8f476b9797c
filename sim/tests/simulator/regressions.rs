//! Seeds that once found something. Each is named by what it found; all must be clean.

use dunlin_sim::draw::draw;
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{Verdict, run::run};

const FRAMES: (Fidelity, Crypto) = (Fidelity::Frames, Crypto::Null);
const NULL: (Fidelity, Crypto) = (Fidelity::Packets, Crypto::Null);
const TLS: (Fidelity, Crypto) = (Fidelity::Packets, Crypto::Tls);

const FOUND: [(u64, (Fidelity, Crypto), &str); 12] = [
    (66, FRAMES, "a replayed handshake was taken by a node that had restarted since"),
    (406, FRAMES, "a peer's end was given as that of a superseded link"),
    (804, NULL, "a peer's end was given as that of a superseded link"),
    (914, TLS, "strangers kept a stopped node from being drained"),
    (
        1163,
        FRAMES,
        "a session outlived its right after a clock was set, and its new token was never seen",
    ),
    (1187, TLS, "a clock that was set left a directory unknown"),
    (1677, FRAMES, "a replayed Hello of a newer life ended the one that was there"),
    (2093, TLS, "strangers kept a stopped node from being drained"),
    (2932, NULL, "strangers kept a stopped node from being drained"),
    (2937, TLS, "a peer was forgotten while the closing of its links was still to be done"),
    (3976, NULL, "a clock wrong by more than a day"),
    (4957, NULL, "a lane that was reset on a drained link was awaited for ever"),
];

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, (fidelity, crypto), what) in FOUND {
        let verdict = run(&draw(seed, fidelity, crypto)).verdict;
        assert_eq!(verdict, Verdict::Clean, "seed {seed} at {fidelity}/{crypto}: {what}");
    }
}
