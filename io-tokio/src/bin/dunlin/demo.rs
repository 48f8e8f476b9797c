//! `dunlin demo`: three nodes talk, share work and events, one is cut off, and comes back. Every number is measured.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use dunlin_tokio::clock::SystemClock;
use dunlin_tokio::socket::{Datagram, Socket, Transmit};
use dunlin_tokio::udp::Udp;
use dunlin_tokio::{
    CallError, Events, HandlerError, Node, NodeEvent, PeerAddress, PeerId, ServiceBuilder,
    Subscription, TransportConfig, service,
};
use serde_json::{Value, json};

use crate::output::{Fail, Output, spell};

/// Options of `dunlin demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dunlin demo\n  dunlin demo --json\n\n\
    The three nodes are real: each has its own key and its own UDP socket on 127.0.0.1, and all they \
    say is encrypted. The cut is a switch at the third node's socket that drops every datagram, both \
    ways. So that nobody has to wait long, silence counts as loss after 2 s instead of 15 s.")]
pub(crate) struct DemoArgs {
    /// Calls whose time is measured
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
}

/// The longest that any step may take before the demo says that it has failed.
const STEP_MAX: Duration = Duration::from_secs(30);

/// A real socket with a switch that cuts it off.
struct Cuttable {
    socket: Udp,
    cut: Arc<AtomicBool>,
}

impl Socket for Cuttable {
    fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize> {
        if self.cut.load(Ordering::Relaxed) {
            return self.socket.try_receive(&mut drop);
        }
        self.socket.try_receive(deliver)
    }

    fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.socket.try_send(transmit, contents)
    }

    fn ready(&self, to_send: bool) -> impl Future<Output = io::Result<()>> + Send {
        self.socket.ready(to_send)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn batch_datagrams_max(&self) -> usize {
        self.socket.batch_datagrams_max()
    }
}

/// One of the three.
struct Member {
    name: &'static str,
    node: Node,
    cut: Arc<AtomicBool>,
}

impl Member {
    fn address(&self) -> PeerAddress {
        PeerAddress::new(self.node.id(), self.node.local_addr())
    }
}

/// Tells what happens, with the time since the beginning.
struct Teller {
    output: Output,
    begun: Instant,
}

impl Teller {
    fn say(&self, step: &str, words: &str, mut facts: Value) {
        let at = self.begun.elapsed();
        self.output.say(format!("{:6.2} s  {words}", at.as_secs_f64()), || {
            facts["step"] = step.into();
            facts["at_ms"] = (at.as_millis() as u64).into();
            facts
        });
    }

    /// A headline.
    fn title(&self, words: &str) {
        if !self.output.is_json() {
            self.output.say(format!("\n{words}"), || Value::Null);
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// Waits for a step, but not for ever.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Fail> {
    tokio::time::timeout(STEP_MAX, future).await.map_err(|_| {
        Fail::new("DEMO", format!("the demo has failed: {what} took longer than {STEP_MAX:?}"))
    })
}

fn unexpected(what: impl std::fmt::Display) -> Fail {
    Fail::new("DEMO", format!("the demo has failed: {what}"))
}

async fn start(
    name: &'static str,
    services: impl IntoIterator<Item = ServiceBuilder>,
) -> Result<Member, Fail> {
    let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let socket = Udp::bind(listen).map_err(|error| unexpected(format!("no socket: {error}")))?;
    let cut = Arc::new(AtomicBool::new(false));
    let socket = Cuttable { socket, cut: Arc::clone(&cut) };
    let transport = TransportConfig {
        keep_alive: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(2),
        handshake_timeout: Duration::from_secs(1),
        ..TransportConfig::default()
    };
    let builder = Node::builder().development_network().transport(transport);
    let builder = services.into_iter().fold(builder, |builder, service| builder.service(service));
    let node = builder.start_on(socket, SystemClock).await?;
    Ok(Member { name, node, cut })
}

fn calculator() -> ServiceBuilder {
    service("math").action("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) }).in_place()
}

fn dictionary() -> ServiceBuilder {
    service("words")
        .action(
            "reverse",
            |_cx, text: String| async move { Ok(text.chars().rev().collect::<String>()) },
        )
        .in_place()
}

/// What two of them serve: it answers with who has served it.
fn printer(name: &'static str) -> ServiceBuilder {
    service("printer").action("print", move |_cx, _page: u32| async move { Ok(name) }).in_place()
}

fn weather() -> ServiceBuilder {
    service("weather")
        .action("at", |_cx, place: String| async move {
            match place.as_str() {
                "Longyearbyen" => Ok("-14 degrees and dark".to_string()),
                _ => Err(HandlerError::application("UNKNOWN_PLACE", "ask for Longyearbyen")),
            }
        })
        .action("forecast", |cx, place: String| async move {
            // On the node's clock, so that the same service runs in the simulator.
            cx.sleep(Duration::from_millis(700)).await;
            Ok(format!("{place}: colder"))
        })
}

/// Runs `dunlin demo`.
pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<(), Fail> {
    let tell = Teller { output, begun: Instant::now() };
    output.note(
        "WARNING",
        "DEVELOPMENT NETWORK: the three nodes have no tokens, and whoever reaches them may call what they \
         serve. They listen on 127.0.0.1 alone",
    );
    tell.title("Three nodes start, each with its own key and its own UDP socket.");
    let begun = Instant::now();
    let alice = start("alice", [calculator()]).await?;
    let bob = start("bob", [dictionary(), printer("bob")]).await?;
    let carol = start("carol", [weather(), printer("carol")]).await?;
    let took = begun.elapsed() / 3;
    for (member, serves) in
        [(&alice, "math"), (&bob, "words and printer"), (&carol, "weather and printer")]
    {
        let words = format!("{:5} serves {serves:19} at {}", member.name, member.node.local_addr());
        let id = member.node.id().to_string();
        tell.say("started", &words, json!({ "node": member.name, "id": id, "serves": serves }));
    }
    let words = format!("a node took {} to start", spell(took));
    tell.say("start_time", &words, json!({ "mean_us": micros(took) }));

    meet(&tell, &alice, &bob, &carol).await?;
    talk(&tell, &args, &alice, &bob).await?;
    balance(&tell, &alice).await?;
    spread_word(&tell, &alice, &bob, &carol).await?;
    let (mut at_alice, mut at_bob) = (alice.node.events(), bob.node.events());
    cut_off(&tell, &alice, &bob, &carol, &mut at_alice).await?;
    heal(&tell, [(&alice, &mut at_alice), (&bob, &mut at_bob)], &carol).await?;
    part(&tell, alice, bob, carol).await?;
    tell.title("That was all. `dunlin help` says what else there is.");
    Ok(())
}

async fn meet(tell: &Teller, alice: &Member, bob: &Member, carol: &Member) -> Result<(), Fail> {
    tell.title("They connect: QUIC with both keys proved, then the mesh's own handshake.");
    for (from, to) in [(alice, bob), (alice, carol), (bob, carol)] {
        let begun = Instant::now();
        let up = within("connecting", from.node.connect(to.address())).await?;
        up.map_err(unexpected)?;
        let took = begun.elapsed();
        let words = format!("{} and {} are connected after {}", from.name, to.name, spell(took));
        let facts = json!({ "from": from.name, "to": to.name, "took_us": micros(took) });
        tell.say("connected", &words, facts);
    }
    Ok(())
}

/// One call, told with its time.
async fn show_call(
    tell: &Teller,
    from: &Member,
    path: &str,
    argument: &str,
) -> Result<Result<String, CallError>, Fail> {
    let begun = Instant::now();
    let call = from.node.request(path).value(argument.to_string());
    let call = call.timeout(Duration::from_secs(1)).send_as::<String>();
    let answer = within("a call", call).await?;
    let took = begun.elapsed();
    let (words, mut facts) = match &answer {
        Ok(answer) => (format!("\"{answer}\""), json!({ "answer": answer })),
        Err(error) => (
            format!("failed, {error}"),
            json!({ "error": error.code(), "executed": error.executed().to_string() }),
        ),
    };
    let words = format!("{} calls {path}(\"{argument}\"): {words}   [{}]", from.name, spell(took));
    facts["from"] = from.name.into();
    facts["path"] = path.into();
    facts["took_us"] = micros(took).into();
    tell.say("call", &words, facts);
    Ok(answer)
}

async fn talk(tell: &Teller, args: &DemoArgs, alice: &Member, bob: &Member) -> Result<(), Fail> {
    tell.title("They call each other by path; nobody says which node serves what.");
    show_call(tell, alice, "words/reverse", "dunlin").await?.map_err(unexpected)?;
    show_call(tell, bob, "weather/at", "Longyearbyen").await?.map_err(unexpected)?;
    if show_call(tell, alice, "weather/at", "Atlantis").await?.is_ok() {
        return Err(unexpected("an error of the application got lost"));
    }
    for (who, from, kind) in [("alice", alice, "local"), ("bob", bob, "remote")] {
        let mut times = Vec::new();
        for n in 0..i64::from(args.calls) {
            let begun = Instant::now();
            let sum: i64 = from.node.call("math/add", (n, 1)).await.map_err(unexpected)?;
            times.push(begun.elapsed());
            if sum != n + 1 {
                return Err(unexpected(format!("{n} + 1 is not {sum}")));
            }
        }
        times.sort_unstable();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        let where_to = if kind == "local" { "its own" } else { "alice's" };
        let words = format!(
            "{who} calls {where_to} math/add {} times, one after the other: half within {}, 99 % within {}",
            args.calls,
            spell(p50),
            spell(p99)
        );
        let facts = json!({ "kind": kind, "calls": args.calls, "p50_us": micros(p50), "p99_us": micros(p99) });
        tell.say("latency", &words, facts);
    }
    Ok(())
}

async fn balance(tell: &Teller, alice: &Member) -> Result<(), Fail> {
    const PAGES: u32 = 10;
    tell.title("Bob and carol both serve printer/print: calls go to them in turn.");
    let mut served = BTreeMap::new();
    for page in 0..PAGES {
        let who: String = alice.node.call("printer/print", page).await.map_err(unexpected)?;
        *served.entry(who).or_insert(0_u32) += 1;
    }
    if served.len() != 2 {
        return Err(unexpected(format!("{served:?} have served, and not both")));
    }
    let words: Vec<String> = served.iter().map(|(who, count)| format!("{who} {count}")).collect();
    let words = format!("alice calls printer/print {PAGES} times: {}", words.join(", "));
    tell.say("balanced", &words, json!({ "calls": PAGES, "served": served }));
    Ok(())
}

/// Subscribes, and waits until all know of it.
async fn subscribe(member: &Member, group: Option<&str>) -> Result<Subscription, Fail> {
    let builder = member.node.subscription("orders/*");
    let builder = match group {
        Some(group) => builder.group(group),
        None => builder,
    };
    let subscription = builder.open().await.map_err(unexpected)?;
    within("subscribing", subscription.known_by_all()).await?;
    Ok(subscription)
}

async fn spread_word(
    tell: &Teller,
    alice: &Member,
    bob: &Member,
    carol: &Member,
) -> Result<(), Fail> {
    const ORDERS: u32 = 20;
    tell.title(
        "Events: bob and carol subscribe to orders/* as the group \"packers\", bob once more on his own.",
    );
    let mut auditor = subscribe(bob, None).await?;
    let mut at_bob = subscribe(bob, Some("packers")).await?;
    let mut at_carol = subscribe(carol, Some("packers")).await?;
    let begun = Instant::now();
    for order in 0..ORDERS {
        alice.node.publish("orders/new", order).await.map_err(unexpected)?;
    }
    let gone = || unexpected("a subscription has ended");
    let reading = async {
        for order in 0..ORDERS {
            let event = auditor.event().await.ok_or_else(gone)?;
            if event.decode::<u32>().map_err(unexpected)? != order {
                return Err(unexpected("an event is missing, or out of order"));
            }
        }
        let (mut bobs, mut carols) = (0, 0);
        while bobs + carols < ORDERS {
            tokio::select! {
                event = at_bob.event() => event.map(|_| bobs += 1),
                event = at_carol.event() => event.map(|_| carols += 1),
            }
            .ok_or_else(gone)?;
        }
        Ok((bobs, carols))
    };
    let (bobs, carols) = within("events", reading).await??;
    let took = begun.elapsed();
    let words = format!(
        "alice publishes {ORDERS} orders, and {} later bob has packed {bobs}, carol {carols}; who is in no \
         group got all {ORDERS}",
        spell(took)
    );
    let facts = json!({
        "published": ORDERS,
        "group": { "bob": bobs, "carol": carols },
        "broadcast": ORDERS,
        "took_us": micros(took),
    });
    tell.say("events", &words, facts);
    Ok(())
}

/// Waits for the peer to be gone, or back.
async fn until(events: &mut Events, peer: PeerId, up: bool) -> Result<String, Fail> {
    loop {
        match events.next().await.ok_or_else(|| unexpected("a node has ended"))? {
            NodeEvent::PeerUp { peer: who, .. } if up && who == peer => return Ok(String::new()),
            NodeEvent::PeerDown { peer: who, reason } if !up && who == peer => {
                return Ok(reason.to_string());
            }
            _ => {}
        }
    }
}

async fn cut_off(
    tell: &Teller,
    alice: &Member,
    bob: &Member,
    carol: &Member,
    at_alice: &mut Events,
) -> Result<(), Fail> {
    tell.title("Carol is cut off: her socket drops every datagram, both ways.");
    let begun = Instant::now();
    carol.cut.store(true, Ordering::Relaxed);
    tell.say("cut", "carol is cut off", json!({ "node": carol.name }));
    // Nobody knows yet: this call is sent, and nothing comes back.
    if show_call(tell, bob, "weather/at", "Longyearbyen").await?.is_ok() {
        return Err(unexpected("a call passed the cut"));
    }
    show_call(tell, bob, "words/reverse", "still here").await?.map_err(unexpected)?;
    let reason = within("noticing", until(at_alice, carol.node.id(), false)).await??;
    let took = begun.elapsed();
    let words = format!("alice knows, {} after the cut: {reason}", spell(took));
    tell.say("noticed", &words, json!({ "node": alice.name, "took_ms": took.as_millis() as u64 }));
    // Now everybody knows, and nobody waits.
    show_call(tell, alice, "words/reverse", "we go on").await?.map_err(unexpected)?;
    if show_call(tell, alice, "weather/at", "Longyearbyen").await?.is_ok() {
        return Err(unexpected("a call passed the cut"));
    }
    Ok(())
}

async fn heal(
    tell: &Teller,
    watchers: [(&Member, &mut Events); 2],
    carol: &Member,
) -> Result<(), Fail> {
    tell.title(
        "The cut heals. The others dial again on their own: after 1, 2, 4, 8, 16 s, then rarely.",
    );
    let begun = Instant::now();
    carol.cut.store(false, Ordering::Relaxed);
    tell.say("healed", "carol can be reached again", json!({ "node": carol.name }));
    for (member, events) in watchers {
        within("meeting again", until(events, carol.node.id(), true)).await??;
        let took = begun.elapsed();
        let words = format!("{} has carol back, {} after the healing", member.name, spell(took));
        let facts = json!({ "node": member.name, "took_ms": took.as_millis() as u64 });
        tell.say("reconnected", &words, facts);
        show_call(tell, member, "weather/at", "Longyearbyen").await?.map_err(unexpected)?;
    }
    Ok(())
}

async fn part(tell: &Teller, alice: Member, bob: Member, carol: Member) -> Result<(), Fail> {
    tell.title("Carol stops while a slow call runs: she ends it first, and its answer arrives.");
    let begun = Instant::now();
    let forecast = bob.node.request("weather/forecast").value("Longyearbyen".to_string());
    let forecast = tokio::spawn(forecast.send_as::<String>());
    // She has begun when she says so.
    let serving = async {
        loop {
            let running = carol.node.inspect(|core, _, _| core.mesh().load().invocations).await;
            if running != Some(0) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("beginning the slow call", serving).await?;
    let stop = within("stopping", carol.node.shutdown()).await?;
    stop?;
    let took = begun.elapsed();
    let answer = within("the slow call", forecast).await?;
    let answer = answer.map_err(unexpected)?.map_err(unexpected)?;
    let words = format!("bob got \"{answer}\", and carol was gone after {}", spell(took));
    tell.say("stopped", &words, json!({ "answer": answer, "took_ms": took.as_millis() as u64 }));
    for member in [alice, bob] {
        within("stopping", member.node.shutdown()).await??;
    }
    Ok(())
}
