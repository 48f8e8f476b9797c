//! Who watches the frames.

use super::*;
use crate::mesh::watch::Way;
use crate::wire::Message;

type Seen = Arc<Mutex<Vec<(Way, PeerId, Lane, Bytes)>>>;

fn watched(world: &mut World, index: usize) -> Seen {
    let seen = Seen::default();
    let sink = Arc::clone(&seen);
    world.stations[index].mesh.watch_frames(Arc::new(move |frame| {
        sink.lock().unwrap().push((frame.way, frame.peer, frame.lane, frame.body.clone()));
    }));
    seen
}

#[test]
fn what_one_end_sends_the_other_receives_lane_by_lane() {
    let mut world = World::new(2);
    let seen = [0, 1].map(|index| watched(&mut world, index));
    let echo = service("echo").action("say", |_, text: String| async move { Ok(text) });
    world.serve(1, echo);
    world.connect(0, 1);
    let handle = world.handle(0);
    let answer = world.run(0, async move { handle.call::<_, String>("echo/say", "hi").await });
    assert_eq!(answer.lock().unwrap().take().unwrap().unwrap(), "hi");

    let of = |index: usize, way: Way, lane: Lane| -> Vec<Bytes> {
        let seen = seen[index].lock().unwrap();
        let its = seen.iter().filter(|(w, _, l, _)| (*w, *l) == (way, lane));
        its.map(|(.., body)| body.clone()).collect()
    };
    for lane in (0..=Lane::SHARED).map(Lane) {
        assert_eq!(of(0, Way::Sent, lane), of(1, Way::Received, lane));
        assert_eq!(of(1, Way::Sent, lane), of(0, Way::Received, lane));
    }
    let calls = |index: usize, way: Way| {
        let seen = seen[index].lock().unwrap();
        let is_call = |body: &Bytes| {
            let message = crate::wire::parse(body.clone(), &Limits::default()).unwrap();
            matches!(message, Message::Call(call) if call.path.as_str() == "echo/say")
        };
        seen.iter().filter(|(w, _, _, body)| *w == way && is_call(body)).count()
    };
    assert_eq!([calls(0, Way::Sent), calls(1, Way::Received), calls(1, Way::Sent)], [1, 1, 0]);
    for (index, seen) in seen.iter().enumerate() {
        assert!(seen.lock().unwrap().iter().all(|(_, peer, ..)| *peer == id(1 - index)));
    }
}
