//! What messages look like: other programs read and write them.

use super::*;
use serde_json::{Value, json};

fn id() -> PeerId {
    dunlin_core::Identity::from_secret([7; 32]).id()
}

/// Other programs read and write these, so what they look like is part of the protocol.
#[test]
fn messages_look_as_the_protocol_says() {
    let peer = id().to_string();
    let call = CallQuestion {
        path: "a/b".into(),
        to: None,
        timeout_ms: 5,
        hedge_ms: None,
        at_once: false,
        content: 1,
    };
    let asks = [
        (
            Request::Hello { version_min: 1, version_max: 2 },
            json!({"ask": "hello", "version_min": 1, "version_max": 2}),
        ),
        (Request::Stop, json!({"ask": "stop"})),
        (
            Request::Call(call.clone()),
            json!({"ask": "call", "path": "a/b", "timeout_ms": 5, "content": 1}),
        ),
        (
            Request::Call(CallQuestion { hedge_ms: Some(9), ..call.clone() }),
            json!({"ask": "call", "path": "a/b", "timeout_ms": 5, "hedge_ms": 9, "content": 1}),
        ),
        (
            Request::Call(CallQuestion { at_once: true, ..call.clone() }),
            json!({"ask": "call", "path": "a/b", "timeout_ms": 5, "at_once": true, "content": 1}),
        ),
        (
            Request::Call(CallQuestion { to: Some(id()), ..call }),
            json!({"ask": "call", "path": "a/b", "to": peer, "timeout_ms": 5, "content": 1}),
        ),
        (Request::Services, json!({"ask": "services"})),
        (Request::Stats, json!({"ask": "stats"})),
        (Request::StepDown { service: "a".into() }, json!({"ask": "step_down", "service": "a"})),
        (Request::Pause { service: "a".into() }, json!({"ask": "pause", "service": "a"})),
        (Request::Resume { service: "a".into() }, json!({"ask": "resume", "service": "a"})),
        (
            Request::WatchLeaders { service: Some("a".into()) },
            json!({"ask": "watch_leaders", "service": "a"}),
        ),
        (Request::WatchLeaders { service: None }, json!({"ask": "watch_leaders"})),
        (Request::Peers, json!({"ask": "peers"})),
        (Request::Limits, json!({"ask": "limits"})),
        (Request::Acceptors, json!({"ask": "acceptors"})),
        (
            Request::Ping { peer: id(), timeout_ms: 9 },
            json!({"ask": "ping", "peer": peer, "timeout_ms": 9}),
        ),
    ];
    for (request, written) in asks {
        assert_eq!(serde_json::to_value(&request).unwrap(), written);
        assert_eq!(serde_json::from_value::<Request>(written).unwrap(), request);
    }
    let problem = Problem::unrun("NO_RESPONDERS", "nobody");
    let says = [
        (
            Response::Welcome { version: 1, node: id() },
            json!({"say": "welcome", "version": 1, "node": peer}),
        ),
        (
            Response::Answer { content: 0, elapsed_us: 3 },
            json!({"say": "answer", "content": 0, "elapsed_us": 3}),
        ),
        (Response::Pong { elapsed_us: 3 }, json!({"say": "pong", "elapsed_us": 3})),
        (Response::Done, json!({"say": "done"})),
        (
            Response::Failed(problem),
            json!({"say": "failed", "code": "NO_RESPONDERS",
            "message": "nobody", "executed": "no"}),
        ),
    ];
    for (response, written) in says {
        assert_eq!(serde_json::to_value(&response).unwrap(), written);
        assert_eq!(serde_json::from_value::<Response>(written).unwrap(), response);
        assert!(response.is_last());
    }
}

#[test]
fn unknown_fields_are_ignored_and_unknown_requests_refused() {
    let read = |value: Value| serde_json::from_value::<Request>(value);
    assert_eq!(read(json!({"ask": "peers", "sorted": true})).unwrap(), Request::Peers);
    assert!(read(json!({"ask": "dance"})).is_err());
    assert!(read(json!({"ask": "ping", "peer": "nobody", "timeout_ms": 1})).is_err());
    assert!(read(json!([])).is_err());
}
