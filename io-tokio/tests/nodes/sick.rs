//! Slow and sick instances over real sockets: second attempts, and who is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dunlin_tokio::{Node, PeerAddress, ServiceBuilder, service};
use tokio::sync::watch;

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(20);

fn local() -> dunlin_tokio::NodeBuilder {
    Node::builder().development_network().listen("127.0.0.1:0".parse().unwrap())
}

/// A node for each service, and one that is connected to them all.
async fn nodes(services: [ServiceBuilder; 3]) -> (Vec<Node>, Node) {
    let client = local().start().await.unwrap();
    let mut servers = Vec::new();
    for service in services {
        let server = local().service(service).start().await.unwrap();
        let address = PeerAddress::new(server.id(), server.local_addr());
        tokio::time::timeout(BOUND, client.connect(address)).await.unwrap().unwrap();
        servers.push(server);
    }
    (servers, client)
}

/// What one instance does.
#[derive(Clone, Default)]
struct Instance {
    hangs: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    running: Arc<watch::Sender<usize>>,
}

/// Counts a handler that runs, until it ends or is dropped.
struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

fn work(instance: &Instance) -> ServiceBuilder {
    let instance = instance.clone();
    service("job").action("work", move |cx, ()| {
        instance.asked.fetch_add(1, Ordering::SeqCst);
        instance.running.send_modify(|running| *running += 1);
        let running = Running(Arc::clone(&instance.running));
        let hangs = instance.hangs.load(Ordering::SeqCst);
        async move {
            let _running = running;
            if hangs {
                cx.sleep(Duration::from_secs(3_600)).await;
            }
            Ok(())
        }
    })
}

#[tokio::test]
async fn hedged_calls_are_quick_though_one_instance_of_three_hangs_and_nobody_works_for_nothing() {
    let instances: [Instance; 3] = Default::default();
    let (_servers, client) = nodes(instances.each_ref().map(work)).await;
    instances[1].hangs.store(true, Ordering::SeqCst);
    let mut took = Vec::new();
    for _ in 0..12 {
        let begun = Instant::now();
        let request = client.request("job/work").value(()).idempotent();
        let request = request.hedged(Duration::from_millis(50)).timeout(BOUND);
        request.send_as::<()>().await.unwrap();
        took.push(begun.elapsed());
    }
    assert_eq!(instances[1].asked.load(Ordering::SeqCst), 4, "they were asked in turn");
    let worst = took.iter().max().unwrap();
    assert!(*worst >= Duration::from_millis(50) && *worst < BOUND / 4, "{took:?}");
    let mut running = instances[1].running.subscribe();
    let cancelled = tokio::time::timeout(BOUND, running.wait_for(|running| *running == 0)).await;
    cancelled.expect("who was outrun is cancelled").unwrap();
}

/// Calls, a hundred a second, until something holds: how many went to each instance.
async fn calls_until(
    client: &Node,
    instances: &[Instance; 3],
    mut condition: impl FnMut([usize; 3]) -> bool,
) -> [usize; 3] {
    let asked = || instances.each_ref().map(|instance| instance.asked.load(Ordering::SeqCst));
    let (before, begun) = (asked(), Instant::now());
    let mut due = tokio::time::interval(Duration::from_millis(10));
    loop {
        due.tick().await;
        let now = asked();
        let since = [0, 1, 2].map(|index| now[index] - before[index]);
        if condition(since) {
            return since;
        }
        assert!(begun.elapsed() < BOUND, "it does not come to it: {since:?}");
        let request = client.request("job/work").value(()).timeout(BOUND);
        tokio::spawn(async move { request.send_as::<()>().await });
    }
}

#[tokio::test]
async fn an_instance_that_hangs_is_left_alone_before_any_deadline_and_comes_back() {
    let instances: [Instance; 3] = Default::default();
    let (_servers, client) = nodes(instances.each_ref().map(work)).await;
    calls_until(&client, &instances, |asked| asked[0] >= 30).await;
    let hangs = &instances[1].hangs;
    hangs.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    calls_until(&client, &instances, |_| begun.elapsed() > Duration::from_secs(2)).await;
    let shares = calls_until(&client, &instances, |asked| asked[0] >= 75).await;
    assert!(shares[1] <= 2, "it is tried now and then: {shares:?}");
    hangs.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    calls_until(&client, &instances, |_| begun.elapsed() > Duration::from_secs(5)).await;
    let shares = calls_until(&client, &instances, |asked| asked[0] >= 20).await;
    assert!(shares[1] >= 15, "it has its share again: {shares:?}");
}
