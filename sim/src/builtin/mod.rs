//! The built-in workload: services with quick, slow, relaying, refusing and panicking handlers, written as
//! any user would write them, and clients that know what they must be told.

mod events;
mod streams;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use dunlin_core::lease::{FenceGuard, Token};
use dunlin_core::rpc::{CallError, CallResult};
use dunlin_core::service::{
    BoxFuture, Context, Handle, HandlerError, Payload, Selection, Service, ServiceBuilder, Spread,
    service,
};
use dunlin_core::topic::TopicPath;
use serde::{Deserialize, Serialize};

use crate::draw::{LARGE, SERVICES};
use crate::history::{End, Expect, Life};
use crate::schedule::{
    Action, Call, LimitsPlan, Publish, Rule, SINGLE_ACTIVE, Schedule, StreamPlan, Subscriber,
    network_of_service, networks_of, shared_network,
};
use crate::workload::{NodeInfo, Workload};
use streams::Streams;

/// What a handler says that is meant to panic.
const PANIC: &str = "this handler always does";

/// How long a probe waits, after healing: what a call waits by default.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The built-in workload of one schedule.
pub struct BuiltIn {
    services: Vec<Vec<u16>>,
    /// The paths that calls were made to, by node, service and action: there are few, and many calls.
    paths: Mutex<BTreeMap<(u16, u16, usize), TopicPath>>,
    withheld: Vec<Vec<u16>>,
    /// How many calls of its services run and wait at one time, for nodes where that is bounded.
    capacities: Vec<Option<(usize, usize)>>,
    /// Somebody subscribes from the start of a life.
    has_subscribers: bool,
    /// What truly became of streams.
    streams: Streams,
    /// There are so many nodes that what each of them offers must be small.
    is_large: bool,
    /// Somebody decides who is active.
    has_acceptors: bool,
    /// What the single-active service alone may change, outside of all nodes.
    register: Arc<Mutex<Register>>,
}

/// A register behind a fence: the token by which it was written last.
#[derive(Default)]
struct Register {
    guard: FenceGuard,
    written: Option<Token>,
}

impl BuiltIn {
    /// Registers at each node what the schedule says.
    pub fn new(schedule: &Schedule) -> Self {
        BuiltIn {
            services: schedule.nodes.iter().map(|node| node.services.clone()).collect(),
            paths: Mutex::default(),
            capacities: schedule.nodes.iter().map(|node| capacity(&node.limits)).collect(),
            withheld: schedule.rights.iter().flat_map(|r| r.withheld.clone()).collect(),
            has_subscribers: schedule.nodes.iter().any(|node| !node.subscribers.is_empty()),
            streams: Streams::default(),
            is_large: schedule.nodes.len() >= usize::from(*LARGE.start()),
            has_acceptors: !schedule.acceptors.is_empty(),
            register: Arc::default(),
        }
    }
}

fn capacity(limits: &LimitsPlan) -> Option<(usize, usize)> {
    let (running, waiting) = (limits.service_running_max, limits.service_waiting_max);
    (running > 0).then_some((running as usize, waiting as usize))
}

/// What a handler is asked.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Ask {
    #[serde(rename = "t")]
    token: u64,
    #[serde(skip_serializing_if = "is_zero")]
    answer_bytes: u32,
    #[serde(skip_serializing_if = "is_zero")]
    ms: u32,
    service: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minor_least: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    filler: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    token: u64,
    node: u16,
    life: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    filler: String,
}

fn filler_byte(token: u64) -> u8 {
    b'a' + (token % 26) as u8
}

fn filler(token: u64, bytes: u32) -> String {
    // Most fillers are empty, and take no memory then.
    let byte = [filler_byte(token)];
    std::str::from_utf8(&byte).expect("it is a letter").repeat(bytes as usize)
}

fn is_filler(token: u64, bytes: &[u8]) -> bool {
    let byte = filler_byte(token);
    // Without a way out, so that many are compared at once.
    bytes.iter().fold(0, |differs, other| differs | (other ^ byte)) == 0
}

/// The path of a service, as a node writes it. The schedule may name one that no node has.
fn path(node: &NodeInfo, service: u16, action: &str) -> String {
    let network = network_of_service(&node.networks, service);
    node.path_in(network, &format!("s{service}/{action}"))
}

impl Ask {
    /// Writes down that the handler runs, and looks at what it was given.
    fn begin(&self, node: &NodeInfo) {
        node.ledger.run(self.token, node.life);
        if !is_filler(self.token, self.filler.as_bytes()) {
            let what = format!("the argument of call {} was damaged", self.token);
            node.ledger.violate(Some(node.life.node), "arguments arrive whole", what);
        }
        if let Some(least) = self.minor_least
            && minor(node) < least
        {
            let what = format!("call {} asks for 1.{least}, here is 1.{}", self.token, minor(node));
            node.ledger.violate(
                Some(node.life.node),
                "a call goes to a version in its range",
                what,
            );
        }
    }

    fn answer(&self, node: &NodeInfo) -> Told {
        Told {
            token: self.token,
            node: node.life.node,
            life: node.life.life,
            filler: filler(self.token, self.answer_bytes),
        }
    }
}

impl Told {
    fn end(&self) -> End {
        End::Answered { by: Life { node: self.node, life: self.life }, token: self.token }
    }
}

/// The minor version of the services at a node.
fn minor(node: &NodeInfo) -> u16 {
    node.life.node % 4
}

fn handler<F, R>(
    node: &NodeInfo,
    f: F,
) -> impl Fn(Context, Ask) -> R + Send + Sync + Clone + 'static
where
    F: Fn(Context, Ask, NodeInfo) -> R + Send + Sync + Clone + 'static,
    R: Future<Output = Result<Told, HandlerError>> + Send + 'static,
{
    let node = node.clone();
    move |cx, ask: Ask| {
        ask.begin(&node);
        // A slow node comes late to what its handlers are to do.
        if cx.time_left().is_zero() && node.ledger.late(node.life.node) == 0 {
            let what = format!("call {} begins to run when its time is up", ask.token);
            node.ledger.violate(Some(node.life.node), "a call whose time is up does not run", what);
        }
        f(cx, ask, node.clone())
    }
}

/// A service that answers, and no more.
fn bare(node: &NodeInfo, path: &str) -> ServiceBuilder {
    service(path)
        .version(&format!("1.{}.0", minor(node)))
        .spread([Spread::RoundRobin, Spread::Random, Spread::LeastLoaded][path.len() % 3])
        .action("echo", handler(node, |_, ask, node| async move { Ok(ask.answer(&node)) }))
}

/// One of the services, which all offer the same.
fn build(node: &NodeInfo, path: &str, streams: &Streams) -> ServiceBuilder {
    let (raw, streaming, streams) = (node.clone(), node.clone(), streams.clone());
    bare(node, path)
        .action(
            "sleep",
            handler(node, |cx, ask, node| async move {
                cx.sleep(Duration::from_millis(ask.ms.into())).await;
                Ok(ask.answer(&node))
            }),
        )
        .action(
            "refuse",
            handler(node, |_, ask, _| async move {
                Err(HandlerError::application("REFUSED", format!("call {}", ask.token)))
            }),
        )
        .action(
            "panic",
            handler(node, |_, ask, _| async move {
                if ask.token > 0 {
                    panic!("{PANIC}");
                }
                Err(HandlerError::failed("unreachable"))
            }),
        )
        .action("relay", handler(node, relay))
        .raw_action("bulk", move |_, payload| {
            let node = raw.clone();
            async move { bulk(&node, payload) }
        })
        .stream("stream", move |cx, wanted, reader, writer| {
            streams.clone().handle(streaming.clone(), cx, wanted, reader, writer)
        })
}

/// The service of which one instance is active at a time. It writes a register, at once or after a while.
fn single_active(node: &NodeInfo, path: &str, register: &Arc<Mutex<Register>>) -> ServiceBuilder {
    let write = |waits: bool| {
        let register = Arc::clone(register);
        move |cx: Context, ask: Ask, node: NodeInfo| {
            node.ledger.leads(node.life, cx.fence());
            let register = Arc::clone(&register);
            async move {
                if waits {
                    cx.sleep(Duration::from_millis(ask.ms.into())).await;
                }
                register.lock().expect("nothing panics under this lock").write(&cx, &node)?;
                Ok(ask.answer(&node))
            }
        }
    };
    let raised = (Arc::clone(register), node.clone());
    service(path)
        .single_active()
        .on_activate(move |cx| {
            let (register, node) = raised.clone();
            async move {
                let mut register = register.lock().expect("nothing panics under this lock");
                register.write(&cx, &node).map_err(|_| "a later holder was here".to_string())
            }
        })
        .action("echo", handler(node, write(false)))
        .action("sleep", handler(node, write(true)))
}

impl Register {
    /// Writes it by the token of a handler or a hook, if its fence lets that pass.
    fn write(&mut self, cx: &Context, node: &NodeInfo) -> Result<(), HandlerError> {
        let token = cx.fence().ok_or_else(|| HandlerError::failed("there is no token"))?;
        if self.guard.admit(token).is_err() {
            node.ledger.sometimes(crate::sometimes::FENCED_OFF);
            return Err(HandlerError::failed("a later holder was here"));
        }
        if self.written > Some(token) {
            let what = format!("it was written by {:?}, and is by {token:?}", self.written);
            node.ledger.violate(Some(node.life.node), crate::leases::FENCED, what);
        }
        self.written = Some(token);
        Ok(())
    }
}

/// Asks somebody else, and answers once that is over.
async fn relay(cx: Context, ask: Ask, node: NodeInfo) -> Result<Told, HandlerError> {
    let timeout = cx.time_left();
    let open = node.ledger.begin(node.life, timeout, false, Expect::Answer);
    let onward = Ask {
        token: open.token(),
        answer_bytes: 0,
        filler: String::new(),
        minor_least: None,
        ..ask
    };
    let mut request = cx.request(&path(&node, ask.service, "echo")).value(onward).timeout(timeout);
    if let Some(target) = ask.target {
        request = request.to(node.peers[usize::from(target)]);
    }
    let result = request.send_as::<Told>().await;
    open.end(end_of(&result));
    result?;
    Ok(Told {
        token: ask.token,
        node: node.life.node,
        life: node.life.life,
        filler: filler(ask.token, ask.answer_bytes),
    })
}

fn bulk(node: &NodeInfo, payload: Payload) -> Result<Payload, HandlerError> {
    let (_, bytes) = payload.encode()?;
    let Some((head, rest)) = bytes.split_first_chunk::<12>() else {
        node.ledger.violate(Some(node.life.node), "arguments arrive whole", "cut".into());
        return Err(HandlerError::failed("cut"));
    };
    let token = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
    let answer_bytes = u32::from_le_bytes(head[8..].try_into().expect("four bytes"));
    node.ledger.run(token, node.life);
    if !is_filler(token, rest) {
        let what = format!("the argument of call {token} was damaged");
        node.ledger.violate(Some(node.life.node), "arguments arrive whole", what);
    }
    let mut answer = BytesMut::with_capacity(14 + answer_bytes as usize);
    answer.put_u64_le(token);
    answer.put_u16_le(node.life.node);
    answer.put_u32_le(node.life.life);
    answer.put_bytes(filler_byte(token), answer_bytes as usize);
    Ok(Payload::raw(answer.freeze()))
}

fn bulk_argument(token: u64, call: &Call) -> Bytes {
    let mut bytes = BytesMut::with_capacity(12 + call.argument_bytes as usize);
    bytes.put_u64_le(token);
    bytes.put_u32_le(call.answer_bytes);
    bytes.put_bytes(filler_byte(token), call.argument_bytes as usize);
    bytes.freeze()
}

/// Reads a raw answer. One that is cut or damaged gets a token that fits no call.
fn bulk_answer(call: &Call, payload: &Payload) -> Told {
    let bytes = payload.encode().map(|(_, bytes)| bytes).unwrap_or_default();
    let whole = bytes.split_first_chunk::<14>().and_then(|(head, rest)| {
        let token = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let node = u16::from_le_bytes(head[8..10].try_into().expect("two bytes"));
        let life = u32::from_le_bytes(head[10..].try_into().expect("four bytes"));
        let fits = rest.len() == call.answer_bytes as usize && is_filler(token, rest);
        fits.then(|| Told { token, node, life, filler: String::new() })
    });
    whole.unwrap_or(Told { token: u64::MAX, node: 0, life: 0, filler: String::new() })
}

fn end_of(result: &Result<Told, CallError>) -> End {
    match result {
        Ok(told) if is_filler(told.token, told.filler.as_bytes()) => told.end(),
        Ok(told) => {
            End::Answered { by: Life { node: told.node, life: told.life }, token: u64::MAX }
        }
        Err(error) => End::of_error(error),
    }
}

/// Waits for a future, but not for longer than another.
pub(crate) async fn unless<T>(
    future: impl Future<Output = T>,
    until: Option<impl Future<Output = ()> + Unpin>,
) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut until = until;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        match &mut until {
            Some(until) => Pin::new(until).poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// What the services offer to be called.
const ACTIONS: [&str; 6] = ["echo", "bulk", "sleep", "relay", "refuse", "panic"];

/// What a call of the schedule asks for, as a place in [`ACTIONS`], and what may come of it.
fn action_of(call: &Call) -> (usize, Expect) {
    match call.action {
        Action::Echo => (0, Expect::Answer),
        Action::Bulk => (1, Expect::Answer),
        Action::Sleep { .. } => (2, Expect::Answer),
        Action::Relay { .. } => (3, Expect::AnswerOrRefusal),
        Action::Refuse => (4, Expect::Refusal),
        Action::Panic => (5, Expect::NoAnswer),
    }
}

async fn perform(node: NodeInfo, path: TopicPath, call: Call, handle: Handle) {
    let (_, mut expect) = action_of(&call);
    let timeout = Duration::from_millis(call.timeout_ms.into());
    if call.hedge_ms.is_some() && (!call.idempotent || call.target.is_some()) {
        expect = Expect::Misuse;
    }
    let open = node.ledger.begin(node.life, timeout, call.idempotent, expect);
    if call.idempotent && call.once {
        node.ledger.runs_at_most(&open, 1 + usize::from(call.hedge_ms.is_some()));
    }
    let token = open.token();
    let mut request = handle.request(path).timeout(timeout);
    let minor_least = call.minor_least.filter(|_| call.target.is_none());
    if let Some(target) = call.target {
        request = request.to(node.peers[usize::from(target)]);
    } else {
        if let Some(minor) = minor_least {
            request = request.version(&format!("1.{minor}"));
        }
        request = match call.rule {
            Rule::Default => request,
            Rule::RoundRobin => request.select(Selection::RoundRobin),
            Rule::Random => request.select(Selection::Random),
            Rule::LeastLoaded => request.select(Selection::LeastLoaded),
            Rule::ByKey => request.by_key(call.service.to_le_bytes()),
        };
    }
    if call.idempotent {
        request = request.idempotent();
    }
    if call.once {
        request = request.without_retries();
    }
    if let Some(ms) = call.hedge_ms {
        request = request.hedged(Duration::from_millis(ms.into()));
    }
    let cancel = call.cancel_after_ms.map(|ms| handle.sleep(Duration::from_millis(ms.into())));
    let result = if call.action == Action::Bulk {
        let sent = request.payload(Payload::raw(bulk_argument(token, &call))).send();
        let result: Option<CallResult> = unless(sent, cancel).await;
        result.map(|result| result.map(|payload| bulk_answer(&call, &payload)))
    } else {
        let (ms, service, target) = match call.action {
            Action::Sleep { ms } => (ms, 0, None),
            Action::Relay { service, target } => (0, service, target),
            _ => (0, 0, None),
        };
        let filler = filler(token, call.argument_bytes);
        let answer_bytes = call.answer_bytes;
        let ask = Ask { token, answer_bytes, ms, service, target, minor_least, filler };
        let result = unless(request.value(ask).send_as::<Told>(), cancel).await;
        let size = call.answer_bytes as usize;
        result.map(|result| {
            result.map(|told| match told.filler.len() == size {
                true => told,
                false => Told { token: u64::MAX, ..told },
            })
        })
    };
    if let Some(result) = result {
        open.end(end_of(&result));
    }
}

impl Workload for BuiltIn {
    fn expects_error(&self, error: &str) -> bool {
        error.contains(PANIC)
    }

    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        let mut services: Vec<Arc<dyn Service>> = Vec::new();
        let networks = networks_of(&node.networks, node.life.node);
        for network in networks {
            let path = node.path_in(*network, "probe");
            let probe = match self.is_large {
                true => bare(node, &path),
                false => build(node, &path, &self.streams),
            };
            services.push(Arc::new(probe));
        }
        for number in &self.services[usize::from(node.life.node)] {
            if *number == SINGLE_ACTIVE {
                services.extend(self.service(node, *number));
                continue;
            }
            let network = network_of_service(&node.networks, *number);
            if networks.contains(&network) {
                services.extend(self.service(node, *number));
            }
        }
        services
    }

    fn service(&self, node: &NodeInfo, number: u16) -> Option<Arc<dyn Service>> {
        if number == SINGLE_ACTIVE {
            if !self.has_acceptors {
                return None;
            }
            let path = format!("s{number}");
            return Some(Arc::new(single_active(node, &path, &self.register)));
        }
        let network = network_of_service(&node.networks, number);
        let mut service = build(node, &node.path_in(network, &format!("s{number}")), &self.streams);
        if let Some((running, waiting)) = self.capacities[usize::from(node.life.node)] {
            service = service.capacity(running, waiting);
        }
        Some(Arc::new(service))
    }

    fn perform(&self, node: &NodeInfo, call: &Call, handle: Handle) -> Option<BoxFuture<()>> {
        let (action, _) = action_of(call);
        let mut paths = self.paths.lock().expect("nothing panics under this lock");
        let named = paths.entry((node.life.node, call.service, action)).or_insert_with(|| {
            let text = path(node, call.service, ACTIONS[action]);
            TopicPath::parse(&text).expect("paths of the schedule are well-formed")
        });
        let path = named.clone();
        drop(paths);
        Some(Box::pin(perform(node.clone(), path, call.clone(), handle)))
    }

    fn sometimes(&self) -> &[&'static str] {
        &[streams::WHOLE, streams::BROKEN, streams::CUT, streams::GIVEN_UP]
    }

    fn stream(
        &self,
        node: &NodeInfo,
        stream: &StreamPlan,
        handle: Handle,
    ) -> Option<BoxFuture<()>> {
        let path = path(node, stream.service, "stream");
        Some(Box::pin(self.streams.clone().open(node.clone(), path, stream.clone(), handle)))
    }

    fn subscribe(
        &self,
        node: &NodeInfo,
        subscriber: &Subscriber,
        handle: Handle,
    ) -> Option<BoxFuture<()>> {
        Some(Box::pin(events::read(node.clone(), subscriber.clone(), handle)))
    }

    fn publish(&self, node: &NodeInfo, event: &Publish, handle: Handle) -> Option<BoxFuture<()>> {
        Some(Box::pin(events::publish(node.clone(), event.clone(), false, handle)))
    }

    fn probe_events(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        if !self.has_subscribers {
            return None;
        }
        let withheld = self.withheld.get(usize::from(node.life.node)).cloned().unwrap_or_default();
        // Of many nodes each is left a few topics: its neighbours have others.
        let first = node.life.node % SERVICES as u16;
        let roots = if self.is_large { first..first + 1 } else { 0..SERVICES as u16 };
        Some(Box::pin(events::publish_probes(node.clone(), roots, withheld, handle)))
    }

    fn probe(&self, node: &NodeInfo, peer: u16, handle: Handle) -> Option<BoxFuture<()>> {
        let node = node.clone();
        let network = shared_network(&node.networks, node.life.node, peer)?;
        let probe = node.path_in(network, "probe/echo");
        Some(Box::pin(async move {
            let open = node.ledger.begin(node.life, PROBE_TIMEOUT, false, Expect::OnlyAnswer);
            let token = open.token();
            let (answer_bytes, ms, service, target) = (10, 0, 0, None);
            let filler = filler(token, 10);
            let minor_least = None;
            let ask = Ask { token, answer_bytes, ms, service, target, minor_least, filler };
            let request = handle.request(&probe).value(ask).timeout(PROBE_TIMEOUT);
            let result = request.to(node.peers[usize::from(peer)]).send_as::<Told>().await;
            open.end(end_of(&result));
        }))
    }

    fn turns(
        &self,
        node: &NodeInfo,
        service: u16,
        instances: Vec<u16>,
        handle: Handle,
    ) -> Option<BoxFuture<()>> {
        let node = node.clone();
        Some(Box::pin(async move {
            let mut counts = vec![0; instances.len()];
            for _ in 0..2 * instances.len() {
                let open = node.ledger.begin(node.life, PROBE_TIMEOUT, false, Expect::OnlyAnswer);
                let ask = Ask {
                    token: open.token(),
                    answer_bytes: 0,
                    ms: 0,
                    service: 0,
                    target: None,
                    minor_least: None,
                    filler: String::new(),
                };
                let request = handle.request(&path(&node, service, "echo")).value(ask);
                let request = request.select(Selection::RoundRobin).timeout(PROBE_TIMEOUT);
                let result = request.send_as::<Told>().await;
                open.end(end_of(&result));
                if let Ok(told) = result
                    && let Some(at) = instances.iter().position(|peer| *peer == told.node)
                {
                    counts[at] += 1;
                }
            }
            if counts.iter().any(|count| *count != 2) {
                let what = format!("s{service} at {instances:?} was called {counts:?} times");
                node.ledger.violate(Some(node.life.node), "calls in turn go to all in turn", what);
            }
        }))
    }
}
