//! Events between real nodes over loopback: who gets them, how often, in which order, and who is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::auth::descriptor::DescriptorClaims;
use dunlin_core::auth::{DescriptorChain, Dissemination, Grant, Token, TokenId};
use dunlin_tokio::clock::{Clock, SystemClock};
use dunlin_tokio::{
    CommandError, Delivery, Identity, Node, NodeBuilder, Overflow, Payload, PeerAddress,
    PublishError, QueueLimits, SubscribeError, Subscription, key,
};
use tokio::sync::mpsc;

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it ends in time")
}

fn local() -> NodeBuilder {
    Node::builder().listen("127.0.0.1:0".parse().unwrap())
}

async fn node() -> Node {
    local().development_network().start().await.unwrap()
}

async fn connect(from: &Node, to: &Node) {
    let address = PeerAddress::new(to.id(), to.local_addr());
    within(from.connect(address)).await.unwrap();
}

/// A publisher, and two nodes that are connected to it.
async fn star() -> (Node, [Node; 2]) {
    let hub = node().await;
    let others = [node().await, node().await];
    for other in &others {
        connect(other, &hub).await;
    }
    (hub, others)
}

/// A subscription that every connected peer knows of.
async fn known(subscription: Result<Subscription, SubscribeError>) -> Subscription {
    let subscription = subscription.unwrap();
    within(subscription.known_by_all()).await;
    subscription
}

#[tokio::test]
async fn an_event_comes_once_and_in_order_to_all_who_subscribe() {
    const EVENTS: u64 = 5_000;
    let (hub, [one, two]) = star().await;
    let mut subscriptions = vec![
        known(one.subscribe("orders/>").await).await,
        known(one.subscribe("orders/{shop}/created").await).await,
        known(two.subscribe("orders/*/created").await).await,
        hub.subscribe("orders/1/created").await.unwrap(),
    ];
    let mut other = known(two.subscribe("stock/>").await).await;
    let publishing = async {
        for n in 0..EVENTS {
            let published = hub.publish("orders/1/created", n).await.unwrap();
            assert_eq!((published.local, published.peers, published.passed_over), (1, 2, 0));
        }
        hub.publish("stock/1", "last").await.unwrap();
    };
    let reading = async {
        for subscription in &mut subscriptions {
            let mut sequence = 0;
            for n in 0..EVENTS {
                let Some(Delivery::Event(event)) = subscription.next().await else {
                    panic!("an event is missing, or the node has ended")
                };
                assert_eq!(event.decode::<u64>().unwrap(), n);
                assert_eq!(event.id().publisher, hub.id());
                assert!(event.id().sequence > sequence, "in the publisher's order");
                assert!(!event.is_redelivered());
                sequence = event.id().sequence;
            }
            assert_eq!(subscription.missed(), 0);
        }
        let last = other.event().await.unwrap();
        assert_eq!(last.topic().path(), "stock/1", "and nothing of another topic before it");
    };
    within(async { tokio::join!(publishing, reading) }).await;
}

#[tokio::test]
async fn a_group_shares_events_and_others_get_all() {
    const EVENTS: u64 = 600;
    let (hub, [one, two]) = star().await;
    let mut members = Vec::new();
    for node in [&one, &two, &two] {
        let opened = node.subscription("jobs/*").group("workers").open().await;
        members.push(known(opened).await);
    }
    let mut auditor = known(one.subscribe("jobs/>").await).await;
    let (got, mut handled) = mpsc::unbounded_channel();
    for (member, mut subscription) in members.into_iter().enumerate() {
        let got = got.clone();
        tokio::spawn(async move {
            while let Some(delivery) = subscription.next().await {
                let Delivery::Event(event) = delivery else { panic!("{delivery:?}") };
                got.send((event.decode::<u64>().unwrap(), member)).unwrap();
            }
        });
    }
    drop(got);
    for n in 0..EVENTS {
        let published = hub.publish("jobs/new", n).await.unwrap();
        assert_eq!(published.groups, 1);
    }
    let mut by_event = BTreeMap::new();
    for _ in 0..EVENTS {
        let (event, member) = within(handled.recv()).await.unwrap();
        assert_eq!(by_event.insert(event, member), None, "event {event} came twice");
    }
    for n in 0..EVENTS {
        let event = within(auditor.event()).await.unwrap();
        assert_eq!(event.decode::<u64>().unwrap(), n);
    }
    for member in 0..3 {
        let share = by_event.values().filter(|m| **m == member).count();
        assert!(share > 100, "member {member} got {share} of {EVENTS}");
    }
    for node in [hub, one, two] {
        within(node.shutdown()).await.unwrap();
    }
    assert_eq!(within(handled.recv()).await, None, "nobody got more");
}

#[tokio::test]
async fn a_receipt_says_who_has_it() {
    let (hub, [one, two]) = star().await;
    let nobody = within(hub.event("a/b").value(0).send_confirmed(BOUND)).await.unwrap();
    assert_eq!((nobody.published.peers, nobody.outcome.acknowledged), (0, 0));
    assert!(nobody.outcome.is_complete(), "nobody was to get it");

    let mut all = known(one.subscribe("a/>").await).await;
    let opened = two.subscription("a/b").group("g").at_least_one().open().await;
    let mut group = known(opened).await;
    let receipt = within(hub.event("a/b").value(1).send_confirmed(BOUND)).await.unwrap();
    assert!(receipt.outcome.is_complete(), "{receipt:?}");
    assert_eq!(receipt.outcome.groups_served, 1);
    for subscription in [&mut all, &mut group] {
        let event = within(subscription.event()).await.unwrap();
        assert_eq!((event.id(), event.decode::<i32>().unwrap()), (receipt.published.id, 1));
    }

    // For one peer alone, and for nobody beyond this node.
    let only = hub.event("a/b").payload(Payload::raw("2")).to(one.id());
    assert_eq!(within(only.send_confirmed(BOUND)).await.unwrap().published.peers, 1);
    assert_eq!(hub.event("a/b").value(3).local().send().await.unwrap().peers, 0);
    within(hub.event("a/b").value(4).send_confirmed(BOUND)).await.unwrap();
    let next =
        |event: Option<dunlin_tokio::EventMessage>| event.unwrap().payload().encode().unwrap().1;
    assert_eq!(next(within(all.event()).await), "2");
    assert_eq!(next(within(all.event()).await), "4");
    assert_eq!(next(within(group.event()).await), "4");
}

#[tokio::test]
async fn what_a_full_queue_has_no_room_for_is_counted() {
    let (hub, [one, _]) = star().await;
    let small = QueueLimits { events_max: 3, overflow: Overflow::DropOldest, ..Default::default() };
    let mut newest = known(one.subscription("n").queue(small).open().await).await;
    let mut all = known(one.subscribe("n").await).await;
    // All of it is there before anybody reads.
    for n in 0..2_000 {
        hub.publish("n", n).await.unwrap();
    }
    within(hub.event("n").value(2_000).send_confirmed(BOUND)).await.unwrap();
    for n in 0..=2_000 {
        assert_eq!(within(all.event()).await.unwrap().decode::<i32>().unwrap(), n);
    }
    let (mut came, mut last) = (0, -1);
    while last < 2_000 {
        let event = within(newest.event()).await.unwrap().decode::<i32>().unwrap();
        assert!(event > last);
        (came, last) = (came + 1, event);
    }
    assert!(newest.missed() > 0);
    assert_eq!(came + newest.missed(), 2_001, "each came or was counted");
}

#[tokio::test]
async fn many_events_are_handed_over_and_come_in_order() {
    const EVENTS: u64 = 20_000;
    let (hub, [one, two]) = star().await;
    let mut readers =
        [known(one.subscribe("t").await).await, known(two.subscribe("t").await).await];
    let publisher = hub.publisher("t").unwrap();
    let publish = async {
        for n in 0..EVENTS {
            publisher.send(n).await.unwrap();
        }
        let totals = publisher.flush().await.unwrap();
        assert_eq!((totals.events, totals.peers, totals.passed_over), (EVENTS, 2 * EVENTS, 0));
    };
    let [first, second] = &mut readers;
    let read = |reader: &mut Subscription, n: u64, delivery: Option<Delivery>| {
        let Some(Delivery::Event(event)) = delivery else { panic!("{n}: {delivery:?}") };
        assert_eq!((event.decode::<u64>().unwrap(), reader.missed()), (n, 0));
    };
    let read_all = async {
        for n in 0..EVENTS {
            let delivery = first.next().await;
            read(first, n, delivery);
            let delivery = second.next().await;
            read(second, n, delivery);
        }
    };
    within(async { tokio::join!(publish, read_all) }).await;
    within(hub.shutdown()).await.unwrap();
    assert!(matches!(
        publisher.send(0u64).await.and(publisher.flush().await),
        Err(PublishError::Stopping)
    ));
}

#[tokio::test]
async fn a_node_that_takes_leave_brings_its_events_home() {
    const EVENTS: u64 = 3_000;
    let (hub, [one, two]) = star().await;
    let mut readers =
        [known(one.subscribe("t").await).await, known(two.subscribe("t").await).await];
    for n in 0..EVENTS {
        hub.publish("t", n).await.unwrap();
    }
    within(hub.shutdown()).await.unwrap();
    for reader in &mut readers {
        for n in 0..EVENTS {
            let Some(Delivery::Event(event)) = within(reader.next()).await else {
                panic!("event {n} is missing")
            };
            assert_eq!(event.decode::<u64>().unwrap(), n);
        }
    }
    for (node, mut reader) in [one, two].into_iter().zip(readers) {
        within(node.shutdown()).await.unwrap();
        assert!(within(reader.next()).await.is_none(), "the end, and nothing before it");
    }
}

#[tokio::test]
async fn members_of_a_group_that_leave_in_order_lose_no_event() {
    const EVENTS: u64 = 4_000;
    let (hub, [one, two]) = star().await;
    let stays = node().await;
    connect(&stays, &hub).await;
    let (handled, mut all) = mpsc::unbounded_channel();
    let mut readers = Vec::new();
    // One member leaves and handles what it has, one is dropped, and the node of the third stops.
    for (place, node) in [&one, &two, &one, &stays].into_iter().enumerate() {
        let mut member = node.subscription("jobs/>").group("g").open().await.unwrap();
        within(member.known_by_all()).await;
        let handled = handled.clone();
        readers.push(tokio::spawn(async move {
            let mut count = 0;
            while let Some(event) = member.event().await {
                handled.send(event.decode::<u64>().unwrap()).unwrap();
                count += 1;
                match (place, count) {
                    (0, 100) => member.leave(),
                    (1, 200) => return,
                    _ => {}
                }
                if count % 20 == 0 {
                    // The others have their turn.
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    drop(handled);
    let mut one = Some(one);
    let mut stopping = None;
    for n in 0..EVENTS {
        hub.publish("jobs/a", n).await.unwrap();
        if n == EVENTS / 2 {
            stopping = one.take().map(|node| tokio::spawn(node.shutdown()));
        }
    }
    let mut counts = BTreeMap::<u64, usize>::new();
    while counts.len() < EVENTS as usize {
        let handled = within(all.recv()).await;
        *counts.entry(handled.expect("a member reads on")).or_default() += 1;
    }
    within(stopping.unwrap()).await.unwrap().unwrap();
    within(stays.shutdown()).await.unwrap();
    for reader in readers {
        within(reader).await.unwrap();
    }
    while let Ok(handled) = all.try_recv() {
        *counts.entry(handled).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "each once");
}

/// A network, and nodes in it with the permissions that they are given.
struct Network {
    issuer: Identity,
    chain: DescriptorChain,
}

impl Network {
    fn found() -> Network {
        let [root, next_root, issuer] = [0; 3].map(|_| key::generate());
        let claims = DescriptorClaims {
            name: "shop".into(),
            sequence: 0,
            root: root.id(),
            next_root: next_root.id(),
            expires: SystemClock.now().wall + HOUR,
            issuers: vec![(issuer.id(), 1)],
            registry_members: Vec::new(),
            registry_epoch: 0,
            former_registries: Vec::new(),
            revoked_before: Default::default(),
            revoked_tokens: Vec::new(),
            revoked_issuers: Vec::new(),
            dissemination: Dissemination::Mesh,
            message_bytes_max: None,
        };
        Network { issuer, chain: DescriptorChain::found(&root, [1; 16], claims).unwrap() }
    }

    async fn member(&self, permissions: &str) -> Node {
        let (identity, now) = (key::generate(), SystemClock.now().wall);
        let grant = Grant {
            subject: identity.id(),
            permissions: permissions.parse().unwrap(),
            not_before: now - HOUR,
            expires: now + HOUR,
            issued_at: now - HOUR,
            depth_left: 0,
            id: TokenId(key::random()[..16].try_into().unwrap()),
        };
        let token = Token::issue(&self.issuer, 1, self.chain.id(), grant).unwrap();
        let builder = local().identity(identity).network(self.chain.to_text(), token.to_text());
        builder.start().await.unwrap()
    }
}

#[tokio::test]
async fn whoever_may_not_publish_or_subscribe_is_told_what_is_missing() {
    let network = Network::found();
    let publisher = network.member("publish:orders/*").await;
    let subscriber = network.member("subscribe:orders/*").await;
    connect(&subscriber, &publisher).await;

    let refused = subscriber.publish("orders/new", 1).await.unwrap_err();
    assert!(matches!(refused, PublishError::Denied(_)), "{refused:?}");
    assert!(refused.to_string().contains("'publish' is missing for 'orders/new'"), "{refused}");
    let refused = publisher.publish("stock/new", 1).await.unwrap_err();
    assert!(matches!(refused, PublishError::Denied(_)), "{refused:?}");
    let refused = publisher.subscribe("orders/new").await.unwrap_err();
    let SubscribeError::Command(CommandError::Denied(_)) = &refused else { panic!("{refused:?}") };
    assert!(refused.to_string().contains("'subscribe' is missing for 'orders/new'"), "{refused}");
    // A part of what is asked for is not enough.
    assert!(subscriber.subscribe(">").await.is_err());
    let foreign = publisher.publish("bank:orders/new", 1).await.unwrap_err();
    assert!(matches!(foreign, PublishError::Denied(_)), "{foreign:?}");

    let mut orders = known(subscriber.subscribe("orders/*").await).await;
    publisher.publish("shop:orders/new", 7).await.unwrap();
    assert_eq!(within(orders.event()).await.unwrap().decode::<i32>().unwrap(), 7);
}

#[tokio::test]
async fn what_is_not_well_formed_is_refused_before_anything_is_sent() {
    let node = node().await;
    let topic = node.publish("a//b", 1).await.unwrap_err();
    assert!(matches!(topic, PublishError::Topic(_)), "{topic:?}");
    let pattern = node.subscribe("a/>/b").await.unwrap_err();
    assert!(matches!(pattern, SubscribeError::Topic(_)), "{pattern:?}");
    let nameless = node.subscription("a").group("").open().await.unwrap_err();
    let wanted = SubscribeError::Command(CommandError::NamelessGroup);
    assert_eq!(nameless, wanted);
    let handle = node.handle();
    within(node.shutdown()).await.unwrap();
    assert_eq!(handle.try_publish("a", 1).await.unwrap_err(), PublishError::Stopping);
}
