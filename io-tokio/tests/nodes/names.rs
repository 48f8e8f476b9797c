//! Peers that are given by name, on a network in memory and in paused time, with a resolver of the test's own.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_core::WallTime;
use dunlin_tokio::clock::TokioClock;
use dunlin_tokio::socket::{Datagram, Socket, Transmit};
use dunlin_tokio::{Node, NodeBuilder, NodeEvent, PeerAddress, PeerId, Resolver, key};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longer than any of these takes, in virtual time.
const BOUND: Duration = Duration::from_secs(600);

/// What has arrived at one address.
#[derive(Default)]
struct Inbox {
    datagrams: Mutex<VecDeque<Datagram>>,
    arrived: Notify,
}

/// A network in memory that loses nothing. Datagrams to addresses without a socket vanish.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<BTreeMap<SocketAddr, Arc<Inbox>>>>);

struct Wire {
    net: Net,
    at: SocketAddr,
    inbox: Arc<Inbox>,
}

impl Net {
    fn bind(&self, at: SocketAddr) -> Wire {
        let inbox = Arc::new(Inbox::default());
        self.0.lock().unwrap().insert(at, Arc::clone(&inbox));
        Wire { net: self.clone(), at, inbox }
    }

    async fn start(&self, at: &str, builder: NodeBuilder) -> Node {
        let clock = TokioClock::starting_at(WallTime::from_unix_nanos(1));
        let wire = self.bind(at.parse().unwrap());
        builder.development_network().start_on(wire, clock).await.unwrap()
    }
}

impl Socket for Wire {
    fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize> {
        let next = self.inbox.datagrams.lock().unwrap().pop_front();
        deliver(next.ok_or(io::ErrorKind::WouldBlock)?);
        Ok(1)
    }

    fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        let inbox = self.net.0.lock().unwrap().get(&transmit.destination).cloned();
        if let Some(inbox) = inbox {
            let (from, data) = (self.at, contents.into());
            let datagram = Datagram { from, local_ip: None, ecn: None, data };
            inbox.datagrams.lock().unwrap().push_back(datagram);
            inbox.arrived.notify_one();
        }
        Ok(())
    }

    async fn ready(&self, _to_send: bool) -> io::Result<()> {
        if self.inbox.datagrams.lock().unwrap().is_empty() {
            self.inbox.arrived.notified().await;
        }
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.net.0.lock().unwrap().remove(&self.at);
    }
}

/// Gives these answers, one after the other, the last one for ever. No address is an error.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Vec<SocketAddr>>, usize)>>);

impl Script {
    fn of(answers: &[&[&str]]) -> Script {
        let script = Script::default();
        for answer in answers {
            script.0.lock().unwrap().0.push_back(addresses(answer));
        }
        script
    }

    fn is_now(&self, answer: &[&str]) {
        self.0.lock().unwrap().0 = VecDeque::from([addresses(answer)]);
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Resolver for Script {
    fn resolve(
        &self,
        _name: String,
        _port: u16,
    ) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        let mut script = self.0.lock().unwrap();
        script.1 += 1;
        let answer = match script.0.len() {
            1 => script.0[0].clone(),
            _ => script.0.pop_front().unwrap_or_default(),
        };
        Box::pin(async move {
            match answer.is_empty() {
                true => Err(io::ErrorKind::NotFound.into()),
                false => Ok(answer),
            }
        })
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn named(peer: PeerId) -> PeerAddress {
    format!("{peer}@db.example:4400").parse().unwrap()
}

async fn until_up(node: &Node, peer: PeerId) {
    let mut events = node.events();
    let up = async {
        while node.peers().await.iter().all(|p| p.peer != peer || p.links.is_empty()) {
            events.next().await.expect("the node runs");
        }
    };
    tokio::time::timeout(BOUND, up).await.expect("the peer is connected");
}

async fn until_failed(events: &mut dunlin_tokio::Events) -> Option<Duration> {
    let failed = async {
        loop {
            match events.next().await.expect("the node runs") {
                NodeEvent::DialFailed { retry_in, .. } => return retry_in,
                _ => continue,
            }
        }
    };
    tokio::time::timeout(BOUND, failed).await.expect("the dial fails")
}

const FIRST: &str = "10.0.0.1:4400";
const SECOND: &str = "10.0.0.2:4400";
const CLIENT: &str = "10.0.0.9:4400";

#[tokio::test(start_paused = true)]
async fn a_name_that_moves_is_dialled_where_it_leads_now() {
    for by_connect in [false, true] {
        let (net, script) = (Net::default(), Script::of(&[&[FIRST]]));
        let identity = key::generate();
        let peer = identity.id();
        let first = net.start(FIRST, Node::builder().identity(identity.clone())).await;
        let client = Node::builder().resolver(script.clone());
        let client = match by_connect {
            false => net.start(CLIENT, client.peer_address(named(peer))).await,
            true => {
                let client = net.start(CLIENT, client).await;
                client.connect(named(peer)).await.unwrap();
                client
            }
        };
        until_up(&client, peer).await;
        first.shutdown().await.unwrap();
        script.is_now(&[SECOND]);
        let moved = Node::builder().identity(identity).incarnation_counter(1 << 45);
        let _second = net.start(SECOND, moved).await;
        until_up(&client, peer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_resolves_later_is_dialled_then() {
    let log = Log::default();
    let written = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // It leads nowhere, then to where this node cannot send, and then to the peer.
    let script = Script::of(&[&[], &[], &["[2001:db8::1]:4400"], &[FIRST]]);
    let net = Net::default();
    let identity = key::generate();
    let peer = identity.id();
    let _server = net.start(FIRST, Node::builder().identity(identity)).await;
    let begun = Instant::now();
    let client = Node::builder().resolver(script.clone()).peer_address(named(peer));
    let client = net.start(CLIENT, client).await;
    until_up(&client, peer).await;
    assert_eq!(script.asked(), 4);
    let took = begun.elapsed();
    assert!((7..9).contains(&took.as_secs()), "after waits of 1, 2 and 4 s: {took:?}");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for (words, count) in [("leads nowhere", 1), ("leads somewhere again", 1)] {
        assert_eq!(logged.matches(words).count(), count, "it is said once: {logged}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_given_by_name_is_let_in_before_its_name_resolves() {
    let net = Net::default();
    let identity = key::generate();
    let peer = identity.id();
    let server = Node::builder().resolver(Script::default()).peer_address(named(peer));
    let server = net.start(FIRST, server.allow([key::generate().id()])).await;
    let client = net.start(CLIENT, Node::builder().identity(identity)).await;
    let at = PeerAddress::new(server.id(), FIRST.parse().unwrap());
    client.connect(at).await.expect("it is let in");
}

#[tokio::test(start_paused = true)]
async fn addresses_given_in_turn_do_not_reset_the_back_off() {
    let script = Script::of(&[]);
    let turns: Vec<&[&str]> =
        (0..100).flat_map(|_| [&[FIRST, SECOND][..], &[SECOND], &[SECOND, FIRST]]).collect();
    script.0.lock().unwrap().0 = turns.iter().map(|turn| addresses(turn)).collect();
    let net = Net::default();
    let peer = key::generate().id();
    let client = Node::builder().resolver(script.clone()).peer_address(named(peer));
    let client = net.start(CLIENT, client).await;
    let mut events = client.events();
    for base in [1, 2, 4, 8, 16] {
        let wait = until_failed(&mut events).await.expect("it is dialled again").as_secs_f64();
        let range = 0.79 * f64::from(base)..1.21 * f64::from(base);
        assert!(range.contains(&wait), "{wait} s instead of {base}");
    }
    assert_eq!(script.asked(), 5, "it is looked up once before each round");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_let_go_is_not_looked_up_any_more() {
    let (net, script) = (Net::default(), Script::of(&[&[FIRST]]));
    let identity = key::generate();
    let peer = identity.id();
    let _server = net.start(FIRST, Node::builder().identity(identity)).await;
    let client = net.start(CLIENT, Node::builder().resolver(script.clone())).await;
    client.connect(named(peer)).await.unwrap();
    let mut events = client.events();
    client.disconnect(peer).await;
    script.is_now(&[SECOND]);
    let ended = async { while events.next().await.is_some() {} };
    assert!(tokio::time::timeout(BOUND, ended).await.is_err(), "the node goes on");
    assert_eq!(script.asked(), 1);
    let is_kept = client.inspect(move |core, _, _| core.mesh().is_kept(peer)).await;
    assert_eq!(is_kept, Some(false));
}
