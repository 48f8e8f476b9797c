//! Planted bugs: one-line mutations that prove that the simulator finds what it claims to find.
//!
//! They compile only under `--cfg dunlin_planted`, in a target directory of their own, and are chosen at
//! run time by number. In every other build nothing of them is left.
//!
//! | number | what is wrong |
//! | --- | --- |
//! | 1 | a callee runs a number that has come before again |
//! | 2 | a caller gives its open calls new numbers when a link comes back |
//! | 3 | calls under way to a peer that restarted are said not to have run |
//! | 4 | the deadline of a call is not watched |
//! | 5 | an answer is that of the caller's oldest kept call |
//! | 6 | who cannot be dialled is not dialled again |
//! | 7 | what a peer served is not forgotten when its life ends |
//! | 8 | a call that was sent and given up is said not to have run |
//! | 9 | kept answers go by their numbers, so that the answer of a call that ran for long is not kept |
//! | 20 | glare: the lower id wins |
//! | 21 | glare: each end flips a coin |
//! | 22 | glare: the other link is closed before the new one is confirmed |
//! | 23 | glare: ids gate dialling |
//! | 24 | glare: what came first stays |
//! | 25 | glare: the dial number is ignored |
//! | 28 | an older or doubled incarnation is let in |
//! | 30 | the end of a superseded link is reported as the peer's death |
//! | 32 | a link that is drained is never used again |
//! | 33 | a lane moves to another link without a cut |
//! | 34 | a node that is told of its stale life begins the same one again |
//! | 35 | a Confirm that was meant for an earlier life is taken |
//! | 36 | a drain has no end |
//! | 40 | the rights of a session outlast its token |
//! | 41 | a token that is revoked counts |
//! | 42 | a token of somebody else's counts |
//! | 43 | the signatures of a token are not verified |
//! | 44 | a call runs without its permission |
//! | 45 | a token may be wider than the one that it was made from |
//! | 46 | every issuer is trusted |
//! | 47 | a token for another network counts |
//! | 48 | a clock that is set changes nothing until somebody looks |
//! | 60 | updates of a document are applied in whatever order they come |
//! | 61 | an acknowledgement counts for whatever was sent last |
//! | 62 | what some updates add is lost, and digests are not looked at |
//! | 63 | entries that are not listed any more are kept |
//! | 64 | some updates are lost, and nobody asks for what is missing |
//! | 65 | calls in turn go to the same instance |
//! | 66 | the version that a call asks for is not looked at |
//! | 67 | nobody else is known to serve anything |
//! | 68 | a peer is shown what lies in networks that it is not in |
//! | 69 | versions of a document count changes that a peer is not shown |
//! | 70 | an event that comes again is delivered again |
//! | 71 | events that were under way on a link that is lost are not sent again |
//! | 72 | an event for one member at most goes to the next one when its outcome is not known |
//! | 73 | events of one topic go by several lanes |
//! | 74 | a subscriber is not told what it misses |
//! | 75 | a peer that was passed over is not told |
//! | 76 | a plan for a topic outlives the subscriptions that it was made of |
//! | 77 | who may not publish does, and it is delivered |
//! | 78 | events that come together count as one |
//! | 79 | an event that no member of a group takes is said to be taken |
//! | 80 | leases: an acceptor that restarts takes part at once |
//! | 81 | leases: a promise is answered before it is durable, and forgotten in a restart |
//! | 82 | leases: ballots are compared as pairs, so that two proposers may have one round |
//! | 83 | leases: answers to an earlier renewal count |
//! | 84 | leases: an acceptor counts as often as it answers |
//! | 85 | leases: the holder's time counts from when it is accepted |
//! | 86 | leases: the holder's time allows for no drift |
//! | 87 | leases: a standby raises the promise while a lease lives |
//! | 88 | leases: an acceptor that has lost its disk learns nothing |
//! | 89 | leases: a round that was only learned is promised again |
//! | 90 | a life is shown to others before it is stored |
//! | 91 | a life has the counter of the one before, which is stored |
//! | 92 | a node goes on though its store has failed |
//! | 100 | a holder goes on when its lease has ended |
//! | 101 | an acceptor that starts does not look at what it has promised in earlier lives |
//! | 102 | a fence lets lower tokens pass |
//! | 103 | a standby serves |
//! | 104 | a lease is not given up in a pause or a stop |
//! | 105 | a call runs as long as nobody has noticed that the lease is over |
//! | 110 | the retry budget is not looked at |
//! | 111 | a call that may have run is made again, whatever its caller said |
//! | 112 | a sick instance is left alone for ever |
//! | 113 | a sick instance is not left alone |
//! | 114 | what an overloaded service says of when to come back is not looked at |
//! | 115 | any number of calls waits for a service |
//! | 116 | a call runs though its time was up while it waited |
//! | 120 | streams: who sends does not look at the other's window |
//! | 121 | streams: frames are taken in whatever order they come |
//! | 122 | streams: a handler that fails is said to have ended well |
//! | 123 | streams: nobody notices that the opener is gone |
//! | 130 | seals: new acceptors do not wait for what lives at those before them |
//! | 131 | seals: one is enough |
//! | 133 | seals: an old acceptor goes on after its own |
//! | 136 | seals: those of the last set before are enough |
//! | 137 | seals: tokens do not say of which epoch they are |
//! | 140 | the second attempts of calls that wait cost no budget |
//! | 141 | a call has a second attempt though its caller has not said that it may run twice |
//! | 142 | the attempt that was outrun is not cancelled |
//! | 143 | an instance that says nothing is not left alone |
//! | 144 | the second attempt may go where the first one is |
//! | 145 | what a node says of its services' health changes with every call |
//! | 146 | the second attempt of a call is made though it was made as often as may be |
//! | 151 | a guarded resource does not look at tokens |
//! | 152 | who becomes active raises the fence when it first writes, and not before it serves |
//! | 153 | any number of calls waits for a service, and they run though their time is up |
//! | 154 | a node that stops does not wait for the handlers that run |
//! | 155 | leases: a lease is renewed shortly before it ends |
//! | 156 | leases: who stands by is not told that a lease was given up |
//! | 161 | greeting: tokens are shown for networks that the other end is not in |
//! | 170 | events: a publisher waits for a peer that takes nothing with each event, and not once |
//! | 171 | events: a member of a group that leaves gives nothing back |
//! | 172 | a node believes of a later life of its own what it has not signed |
//! | 173 | links from one address that have not greeted have no bound of their own |
//! | 174 | what a stranger says of descriptors is told before its token is judged |
//! | 175 | peers that are gone are never forgotten |

/// Those that the simulator finds by seeds. What breaks no promise of a call (the order of lanes, and a link
/// that is given up for good) is found by exploration; so is what is wrong with leases. What takes too long is found
/// where it is measured: 153 and 154 by `load`, 155 and 156 by `failover`.
pub const PLANTED: [std::ops::RangeInclusive<u32>; 19] = [
    1..=9,
    20..=25,
    28..=28,
    30..=30,
    34..=35,
    40..=48,
    60..=69,
    70..=79,
    90..=92,
    100..=105,
    110..=116,
    120..=123,
    130..=131,
    133..=133,
    137..=137,
    140..=146,
    151..=152,
    161..=161,
    170..=175,
];

#[cfg(dunlin_planted)]
static CHOSEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Chooses the bug of this process; zero for none.
#[cfg(dunlin_planted)]
pub fn set(number: u32) {
    CHOSEN.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// The bug of this process, for models that play a part of the node.
#[cfg(dunlin_planted)]
pub fn chosen() -> u32 {
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(dunlin_planted)]
pub(crate) fn is_planted(number: u32) -> bool {
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed) == number
}

#[cfg(not(dunlin_planted))]
pub(crate) const fn is_planted(_number: u32) -> bool {
    false
}
