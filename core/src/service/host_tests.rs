//! Tests.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::base::{Identity, Limits, WallTime};
use crate::mesh::MeshConfig;
use crate::peer::Admission;
use crate::rpc::Failure;
use crate::service::service;

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A mesh and a host that serves `never/ends`.
fn never(now: Now) -> (Mesh, Host) {
    let identity = Identity::from_secret([1; 32]);
    let id = identity.id();
    let config = MeshConfig {
        identity,
        incarnation_counter: 1,
        stored: None,
        seed: [1; 32],
        admission: Admission::Anyone,
        access: crate::auth::Access::development(&id),
        leases: Default::default(),
        limits: Limits::default(),
    };
    let mut mesh = Mesh::new(now, config);
    let mut host = Host::new([2; 32], || {});
    let waits = service("never").action("ends", |_, ()| async {
        std::future::pending::<()>().await;
        Ok(())
    });
    host.add_service(now, &mut mesh, Arc::new(waits)).unwrap();
    host.turn(now, &mut mesh, &mut |_| {});
    (mesh, host)
}

#[test]
fn when_the_host_is_dropped_nobody_is_left_waiting() {
    let now = Now::new(MonoTime::ZERO, WallTime::default());
    let (mut mesh, mut host) = never(now);
    let handle = host.handle();
    let mut running = pin!(handle.call::<(), ()>("never/ends", ()));
    assert!(poll(running.as_mut()).is_pending());
    host.turn(now, &mut mesh, &mut |_| {});
    let mut asked = pin!(handle.call::<(), ()>("never/ends", ()));
    assert!(poll(asked.as_mut()).is_pending());

    drop(host);

    let Poll::Ready(Err(error)) = poll(running.as_mut()) else { panic!("the call has ended") };
    assert_eq!(error.failure(), Some(Failure::ShuttingDown));
    assert_eq!(error.executed(), Executed::Maybe);
    let Poll::Ready(Err(error)) = poll(asked.as_mut()) else { panic!("the call has ended") };
    assert_eq!(error.executed(), Executed::No);
    let mut late = pin!(handle.call::<(), ()>("never/ends", ()));
    let Poll::Ready(Err(error)) = poll(late.as_mut()) else { panic!("the call is refused") };
    assert_eq!(error.failure(), Some(Failure::ShuttingDown));
}

#[test]
fn a_call_whose_place_is_taken_before_its_end_is_told_still_ends() {
    let now = Now::new(MonoTime::ZERO, WallTime::default());
    let (mut mesh, mut host) = never(now);
    let handle = host.handle();
    let mut first = pin!(handle.call::<(), ()>("never/ends", ()));
    assert!(poll(first.as_mut()).is_pending());
    host.turn(now, &mut mesh, &mut |_| {});

    // Its deadline passes, and in the same turn another call takes its place.
    let later = Now::new(MonoTime::ZERO + std::time::Duration::from_secs(60), now.wall);
    mesh.handle_timeout(later);
    let mut second = pin!(handle.call::<(), ()>("never/ends", ()));
    assert!(poll(second.as_mut()).is_pending());
    host.turn(later, &mut mesh, &mut |_| {});

    let Poll::Ready(Err(error)) = poll(first.as_mut()) else { panic!("the first call has ended") };
    assert_eq!(error.failure(), Some(Failure::DeadlineExceeded));
    assert!(poll(second.as_mut()).is_pending());
}

#[test]
fn a_sleep_ends_with_its_node() {
    let now = Now::default();
    let (mut mesh, mut host) = never(now);
    let handle = host.handle();
    let mut before = pin!(handle.sleep(Duration::from_secs(3_600)));
    host.turn(now, &mut mesh, &mut |_| {});
    assert!(poll(before.as_mut()).is_pending());
    drop(host);
    assert!(poll(before.as_mut()).is_ready());
    let mut after = pin!(handle.sleep(Duration::from_secs(3_600)));
    assert!(poll(after.as_mut()).is_ready());
}
