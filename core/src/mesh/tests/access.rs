//! Networks and tokens between meshes: who is let in, what may be called and offered, and how it ends.

use super::*;
use crate::auth::tests::{HOUR, NOON, changed, grant, issue, issuer, network, next_root, root};
use crate::auth::{
    DescriptorChain, DescriptorClaims, Grant, Membership, NetworkMembership, SKEW, Token, TokenId,
};
use crate::peer::RefuseCode;

/// The token of a station, for a day, with an id of its own.
pub(super) fn token(index: usize, permissions: &str) -> Token {
    issue(day(index, permissions))
}

fn day(index: usize, permissions: &str) -> Grant {
    let grant = grant(id(index), permissions);
    Grant { expires: NOON + 24 * HOUR, id: TokenId([index as u8; 16]), ..grant }
}

pub(super) fn shop(token: Token) -> NetworkMembership {
    NetworkMembership { descriptors: network(), token }
}

fn warehouse() -> DescriptorChain {
    let claims = DescriptorClaims { name: "warehouse".into(), ..crate::auth::tests::claims() };
    DescriptorChain::found(&root(), [9; 16], claims).unwrap()
}

/// With a token that counts for so long.
pub(super) fn in_warehouse_for(index: usize, valid: Duration) -> NetworkMembership {
    let grant = Grant { expires: NOON + valid, ..day(index, "call:> serve:>") };
    let token = Token::issue(&issuer(), 7, warehouse().id(), grant).unwrap();
    NetworkMembership { descriptors: warehouse(), token }
}

pub(super) fn in_warehouse(index: usize, permissions: &str) -> NetworkMembership {
    let token = Token::issue(&issuer(), 7, warehouse().id(), day(index, permissions)).unwrap();
    NetworkMembership { descriptors: warehouse(), token }
}

/// Stations at noon, each in its networks.
fn world(networks: Vec<Vec<NetworkMembership>>) -> World {
    let mut world = World::new(0);
    world.began = NOON;
    for (index, networks) in networks.into_iter().enumerate() {
        let membership = Membership::Networks(networks);
        let access = Access::new(&id(index), world.time(), membership).unwrap();
        let station = world.station_in(index, 1, access);
        world.stations.push(station);
    }
    world
}

/// A caller with these permissions, and a station that serves `math` and may do everything.
fn pair(permissions: &str) -> World {
    let mut world =
        world(vec![vec![shop(token(0, permissions))], vec![shop(token(1, "call:> serve:>"))]]);
    world.serve(1, math());
    world.connect(0, 1);
    world
}

/// What comes of calling `path` from a station, at whoever serves it.
fn call(world: &mut World, from: usize, path: &str) -> Result<i64, CallError> {
    let (handle, path) = (world.handle(from), path.to_string());
    let cell = world.run(from, async move { handle.call::<_, i64>(&path, (2i64, 3i64)).await });
    world.pass(MS);
    cell.lock().unwrap().take().expect("it has ended")
}

fn denied(result: Result<i64, CallError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::PermissionDenied), "{error}");
    assert_eq!(error.executed(), Executed::No);
    error.to_string()
}

/// What station 1 says when station 0 shows it this.
fn shown(token: Token, prepare: impl FnOnce(&mut World)) -> (Vec<String>, Vec<RefuseCode>) {
    let mut world = pair_showing(token);
    prepare(&mut world);
    world.connect(0, 1);
    assert!(world.links.is_empty(), "no link stays");
    let here = world.stations[1].log.iter().filter_map(|event| match event {
        Event::PeerMisbehaved { what, .. } => Some(what.clone()),
        _ => None,
    });
    let there = world.stations[0].log.iter().filter_map(|event| match event {
        Event::PeerRefused { why, .. } => Some(*why),
        _ => None,
    });
    (here.collect(), there.collect())
}

/// A station that shows its peers this token, whatever it is worth, and an honest one.
fn pair_showing(token: Token) -> World {
    let mut world = World::new(0);
    world.began = NOON;
    let access = Access::unverified_for_simulation(&id(0), vec![shop(token)]);
    let rogue = world.station_in(0, 1, access);
    world.stations.push(rogue);
    let honest = vec![shop(self::token(1, "call:> serve:>"))];
    let access = Access::new(&id(1), world.time(), Membership::Networks(honest)).unwrap();
    let honest = world.station_in(1, 1, access);
    world.stations.push(honest);
    world.serve(1, math());
    world
}

#[test]
fn a_call_needs_the_permission_of_its_caller() {
    let mut world = pair("call:math/*");
    assert_eq!(call(&mut world, 0, "math/add").unwrap(), 5);
    assert_eq!(call(&mut world, 0, "shop:math/add").unwrap(), 5, "the network may be named");
    // The other one may call all, but this one serves nothing and is asked nonetheless.
    assert!(call(&mut world, 1, "math/add").is_ok(), "local calls too");
}

#[test]
fn a_caller_whose_own_token_does_not_allow_it_is_told_at_once() {
    let mut world = pair("call:files/*");
    let said = denied(call(&mut world, 0, "math/add"));
    assert!(said.contains("'call' is missing for 'math/add' in the network 'shop'"), "{said}");
    let said = denied(call(&mut world, 0, "bank:math/add"));
    assert!(said.contains("in no network 'bank'"), "{said}");
}

#[test]
fn the_callee_looks_for_itself() {
    let mut world = pair_showing(token(0, "call:files/*"));
    world.connect(0, 1);
    let said = denied(call(&mut world, 0, "math/add"));
    assert!(said.contains("does not permit this node to 'call' 'math/add'"), "{said}");
    let runs = world.stations[1].mesh.load().invocations;
    assert_eq!(runs, 0);
}

#[test]
fn tokens_that_do_not_count_let_nobody_in_and_each_side_hears_its_part() {
    let expected = |shown: (Vec<String>, Vec<RefuseCode>), rule: &str, code| {
        let (here, there) = shown;
        assert!(here.iter().any(|what| what.contains(rule)), "{rule}: {here:?}");
        assert_eq!(there, [code], "{rule}");
    };
    let nothing = |_: &mut World| ();
    expected(shown(token(5, "call:>"), nothing), "it belongs to", RefuseCode::TokenRefused);
    let old = issue(Grant { expires: NOON + HOUR, ..day(0, "call:>") });
    let late = |world: &mut World| world.now = world.now + 2 * HOUR;
    expected(shown(old, late), "link 1 expired at", RefuseCode::TokenExpired);
    let foreign = in_warehouse(0, "call:>").token;
    expected(shown(foreign, nothing), "is for the network n-", RefuseCode::TokenRefused);
    let strange = Token::issue(&root(), 7, network().id(), day(0, "call:>")).unwrap();
    expected(shown(strange, nothing), "is not trusted", RefuseCode::TokenRefused);
    let revoke = |world: &mut World| {
        let now = world.time();
        let newer = changed(|claims| claims.revoked_tokens.push(TokenId([0; 16])));
        world.stations[1].mesh.take_descriptor(now, newer).unwrap();
    };
    expected(shown(token(0, "call:>"), revoke), "is revoked", RefuseCode::TokenRefused);
}

#[test]
fn a_network_bounds_the_messages_of_its_nodes() {
    let claims = DescriptorClaims { message_bytes_max: Some(100), ..crate::auth::tests::claims() };
    let descriptors = DescriptorChain::found(&root(), [9; 16], claims).unwrap();
    let token = Token::issue(&issuer(), 7, descriptors.id(), day(0, "call:>")).unwrap();
    let mut world = world(vec![vec![NetworkMembership { descriptors, token }]]);
    assert_eq!(world.stations[0].mesh.limits().message_bytes_max, 100);
    let handle = world.handle(0);
    let argument = Payload::raw(vec![0; 101]);
    let cell = world.run(0, async move { handle.request("a/b").payload(argument).send().await });
    let error = cell.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::TooLarge));
}

#[test]
fn nobody_meets_who_shares_no_network() {
    let mut world = world(vec![
        vec![shop(token(0, "call:> serve:>"))],
        vec![in_warehouse(1, "call:> serve:>")],
    ]);
    let development = world.station(2, 1);
    world.stations.push(development);
    for (from, to) in [(0, 1), (0, 2), (2, 1)] {
        world.connect(from, to);
        let refused =
            |e: &Event| matches!(e, Event::PeerRefused { why: RefuseCode::NoCommonNetwork, .. });
        assert!(world.saw(from, refused) + world.saw(to, refused) > 0, "{from} and {to}");
        assert!(world.links.is_empty());
    }
}

#[test]
fn what_a_peer_may_not_serve_is_ignored_and_reported() {
    let mut world = pair_showing(token(0, "call:>"));
    world.serve(0, service("files").action("read", |_, (): ()| async { Ok(1) }));
    world.connect(0, 1);
    let reported = |e: &Event| {
        matches!(e, Event::ClaimIgnored { what, .. }
            if what.contains("it offers 'files'") && what.contains("'serve' is missing"))
    };
    assert_eq!(world.saw(1, reported), 1);
    let handle = world.handle(1);
    let cell = world.run(1, async move { handle.call::<_, i64>("files/read", ()).await });
    let error = cell.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::NoResponders));
}

#[test]
fn a_node_does_not_offer_what_its_own_token_does_not_allow() {
    let mut world = world(vec![vec![shop(token(0, "serve:files/*"))]]);
    let now = world.time();
    let Station { mesh, host, .. } = &mut world.stations[0];
    let refused = host.add_service(now, mesh, Arc::new(math())).unwrap_err().to_string();
    assert!(refused.contains("'serve' is missing for 'math/add'"), "{refused}");
    let named = service("bank:files").action("read", |_, (): ()| async { Ok(1) });
    let refused = host.add_service(now, mesh, Arc::new(named)).unwrap_err().to_string();
    assert!(refused.contains("in no network 'bank'"), "{refused}");
    let files = service("shop:files").action("read", |_, (): ()| async { Ok(1) });
    host.add_service(now, mesh, Arc::new(files)).unwrap();
}

#[test]
fn networks_of_one_node_are_kept_apart() {
    // Station 1 is in both, and the warehouse is its default; 0 is in the shop alone, 2 in both.
    let everything = "call:> serve:>";
    let mut world = world(vec![
        vec![shop(token(0, everything))],
        vec![in_warehouse(1, everything), shop(token(1, everything))],
        vec![shop(token(2, everything)), in_warehouse(2, everything)],
    ]);
    let answers =
        |number: i64| move |_cx: crate::service::Context, _: (i64, i64)| async move { Ok(number) };
    world.serve(1, service("shop:math").action("add", answers(1)));
    world.serve(1, service("math").action("add", answers(2)));
    world.connect(0, 1);
    world.connect(2, 1);
    assert_eq!(call(&mut world, 0, "math/add").unwrap(), 1, "0 means the shop");
    denied(call(&mut world, 0, "warehouse:math/add"));
    assert_eq!(call(&mut world, 2, "math/add").unwrap(), 1);
    assert_eq!(call(&mut world, 2, "warehouse:math/add").unwrap(), 2);
    assert_eq!(call(&mut world, 1, "math/add").unwrap(), 2, "1 means the warehouse");
    // Who is in the shop alone does not even see what the warehouse offers.
    let seen = |world: &World, index: usize| {
        let peers: Vec<_> = world.stations[index].mesh.peers_up().collect();
        let mut paths: Vec<_> =
            peers[0].1.unwrap().services().map(|s| s.path.to_string()).collect();
        paths.sort();
        paths
    };
    assert_eq!(seen(&world, 0), ["math"]);
    assert_eq!(seen(&world, 2), ["math", "warehouse:math"]);
}

#[test]
fn expiry_in_mid_session_closes_the_door_and_both_sides_hear_of_it() {
    let mut world =
        world(vec![vec![shop(token(0, "call:>"))], vec![shop(token(1, "call:> serve:>"))]]);
    // The caller's own belief does not matter: its token ends in an hour, at the callee.
    let short = issue(Grant { expires: NOON + HOUR, ..day(0, "call:>") });
    let access = Access::unverified_for_simulation(&id(0), vec![shop(short)]);
    world.stations[0] = world.station_in(0, 2, access);
    let runs: Arc<Mutex<u32>> = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    world.pass(HOUR + SKEW - 2_000 * MS);
    let handle = world.handle(0);
    let running = world.run(0, async move {
        let request = handle.request("slow/wait").value(1_500u64);
        request.send().await.map(|_| 1)
    });
    world.pass(1_000 * MS);
    assert_eq!(*runs.lock().unwrap(), 1);
    world.pass(900 * MS);
    assert_eq!(running.lock().unwrap().take().unwrap().unwrap(), 1, "it ended in time");
    world.pass(200 * MS);
    let left =
        |e: &Event| matches!(e, Event::NetworkLeft { why, .. } if why.contains("expired at"));
    assert_eq!((world.saw(1, left), world.saw(1, |e| matches!(e, Event::PeerDown { .. }))), (1, 1));
    let told = |e: &Event| matches!(e, Event::PeerRefused { why: RefuseCode::TokenExpired, .. });
    assert!(world.saw(0, told) >= 1);
    assert!(call(&mut world, 0, "slow/wait").is_err());
    assert_eq!(*runs.lock().unwrap(), 1);
}

#[test]
fn a_call_that_runs_when_its_right_ends_may_finish_and_no_new_one_begins() {
    let everything = "call:> serve:>";
    let short = Grant { expires: NOON + HOUR, ..day(0, everything) };
    let short = Token::issue(&issuer(), 7, warehouse().id(), short).unwrap();
    let short = NetworkMembership { descriptors: warehouse(), token: short };
    let mut world = world(vec![
        vec![shop(token(0, everything))],
        vec![shop(token(1, everything)), in_warehouse(1, everything)],
    ]);
    // The caller goes by its own word, so that the callee is who says no.
    let access = Access::unverified_for_simulation(&id(0), vec![shop(token(0, everything)), short]);
    world.stations[0] = world.station_in(0, 2, access);
    let runs: Arc<Mutex<u32>> = Arc::default();
    let count = Arc::clone(&runs);
    let slow = service("warehouse:slow").action("wait", move |cx, millis: u64| {
        *count.lock().unwrap() += 1;
        async move {
            cx.sleep(Duration::from_millis(millis)).await;
            Ok(7)
        }
    });
    world.serve(1, slow.capacity(1, 10));
    world.connect(0, 1);
    world.pass(HOUR + SKEW - 1_000 * MS);
    let wait = |world: &mut World| {
        let handle = world.handle(0);
        world.run(0, async move {
            let request = handle.request("warehouse:slow/wait").value(5_000u64);
            request.to(id(1)).send_as::<i64>().await
        })
    };
    let running = wait(&mut world);
    let waiting = wait(&mut world);
    world.pass(2_000 * MS);
    let left =
        |e: &Event| matches!(e, Event::NetworkLeft { network, .. } if network == "warehouse");
    assert_eq!(world.saw(1, left), 1);
    assert!(running.lock().unwrap().is_none(), "it runs");
    let refused = wait(&mut world);
    world.pass(4_000 * MS);
    denied(refused.lock().unwrap().take().unwrap());
    assert_eq!(running.lock().unwrap().take().unwrap().unwrap(), 7);
    denied(waiting.lock().unwrap().take().unwrap());
    assert_eq!(*runs.lock().unwrap(), 1);
    assert_eq!(world.saw(1, |e| matches!(e, Event::PeerDown { .. })), 0, "the shop is left");
}

#[test]
fn revocation_in_mid_session_closes_the_door_and_a_new_token_opens_it_again() {
    let mut world = pair("call:>");
    assert!(call(&mut world, 0, "math/add").is_ok());
    let now = world.time();
    let newer = changed(|claims| claims.revoked_tokens.push(TokenId([0; 16])));
    world.stations[1].mesh.take_descriptor(now, newer.clone()).unwrap();
    assert!(world.stations[1].mesh.take_descriptor(now, network()).is_err(), "older");
    world.settle();
    assert!(world.links.is_empty());
    let told = |e: &Event| matches!(e, Event::PeerRefused { why: RefuseCode::TokenRefused, .. });
    assert!(world.saw(0, told) >= 1);
    // The caller gets a new one, and the newer descriptor; it dials by itself.
    let renewed = issue(Grant { id: TokenId([77; 16]), ..day(0, "call:>") });
    world.stations[0].mesh.take_token(now, renewed).unwrap();
    world.stations[0].mesh.take_descriptor(now, newer).unwrap();
    world.pass(Duration::from_secs(5));
    assert_eq!(call(&mut world, 0, "math/add").unwrap(), 5);
}

#[test]
fn what_a_peer_may_serve_follows_its_token() {
    let mut world = pair_showing(token(0, "call:>"));
    world.serve(0, service("files").action("read", |_, _: (i64, i64)| async { Ok(1) }));
    world.connect(0, 1);
    assert!(call(&mut world, 1, "files/read").is_err());
    // It comes back in the same life with a better one.
    let now = world.time();
    world.stations[0].mesh.take_token(now, token(0, "call:> serve:files/*")).unwrap();
    world.part(0, 1);
    world.heal();
    world.pass(Duration::from_secs(5));
    assert_eq!(call(&mut world, 1, "files/read").unwrap(), 1);
    // And is out of the network at the end.
    let newer = changed(|claims| claims.revoked_before = NOON + HOUR);
    let now = world.time();
    world.stations[1].mesh.take_descriptor(now, newer).unwrap();
    let mesh = &world.stations[1].mesh;
    let offers = mesh.remote.document(*mesh.by_id.get(&id(0)).expect("it is known"));
    assert!(offers.is_none_or(|document| document.entries.is_empty()));
}

#[test]
fn a_new_root_and_its_issuers_take_over_without_a_break() {
    let mut world = pair("call:>");
    let now = world.time();
    let next = DescriptorClaims {
        next_root: crate::auth::tests::identity(50).id(),
        ..crate::auth::tests::claims()
    };
    let newer = network().succeed(&next_root(), next).unwrap();
    for station in &mut world.stations {
        station.mesh.take_descriptor(now, newer.clone()).unwrap();
    }
    world.settle();
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerDown { .. })), 0);
    assert_eq!(call(&mut world, 0, "math/add").unwrap(), 5);
}

#[test]
fn keys_with_rights_of_one_delegated_token_are_bounded_together() {
    const MAX: usize = 3;
    let mut networks: Vec<_> = (0..6).map(|n| vec![shop(token(n, "call:>"))]).collect();
    // Station 1 hands its rights on to stations 2 to 5.
    let parent = token(1, "call:> delegate:>");
    for (index, networks) in networks.iter_mut().enumerate().skip(2) {
        let child = parent.attenuate(&identity(1), Grant { depth_left: 0, ..day(index, "call:>") });
        *networks = vec![shop(child.unwrap())];
    }
    networks.push(vec![shop(token(6, "call:>"))]);
    let mut world = world(networks);
    world.stations[0].mesh.limits.peers_per_issuer_max = MAX;
    for index in 1..=6 {
        world.connect(index, 0);
    }
    let mesh = &world.stations[0].mesh;
    let up: Vec<bool> = (1..=6).map(|n| !mesh.links_up(id(n)).is_empty()).collect();
    assert_eq!(up, [true, true, true, true, false, true], "the fourth that it was handed to");
    assert_eq!(mesh.refusals().of(crate::base::Bound::PeersPerIssuer), 1);
    let no_room =
        |e: &Event| matches!(e, Event::PeerRefused { why, .. } if *why == RefuseCode::NoRoom);
    assert_eq!(world.saw(5, no_room), 1);
    // Once one has gone, there is room.
    world.part(2, 0);
    world.pass(120_000 * MS);
    world.connect(5, 0);
    assert!(!world.stations[0].mesh.links_up(id(5)).is_empty());
}
